"""What each runtime accepts of a LoRA adapter, as data: `RUNTIMES`.

Every rule names where it was read, and in which version. Rules themselves are in `rules`.
"""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from d2l.adapters.card import literal
from d2l.runtimes import rules
from d2l.runtimes.facts import Facts

#: What --max-lora-rank takes (vllm 0.33.0, config/lora.py: MaxLoRARanks), and its default.
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
VLLM_DEFAULT_RANK = 16
#: Effects of a breach: the runtime does not load the adapter; it loads it and leaves something out;
#: or it reads the PEFT folder wrongly or not at all, and what d2l exports of it rightly.
REFUSES, IGNORES, EXPORTS = "refuses", "ignores", "needs the export"
_EXPORT = "d2l export {path} --to gguf: the numbers are folded into the weights"
_OLLAMA_EXPORT = _EXPORT.replace("gguf", "ollama")
_MERGE = "d2l export {path} --to merged, and serve the merged model without LoRA"
_PLAIN = "train it as plain LoRA, or merge it into its base with PEFT"


@dataclass(frozen=True)
class Entry:
    """A rule as one runtime has it: effect of a breach, what to do then, and where it stands.

    `beyond`: kinds of networks none of whose adapters can keep it, whatever its user does.
    """

    rule: rules.Rule
    effect: str
    fix: str
    source: str
    beyond: tuple[str, ...] = ()


@dataclass(frozen=True)
class Runtime:
    """A runtime: the version whose text was read, how an adapter is loaded, and its rules.

    `load` and `template` are parts of a shell line (for PEFT, of Python: `quote` makes of a name
    what stands for it there). `checked` says which test runs the real thing, or that nothing but
    the text was read.
    """

    version: str
    load: str
    template: str
    checked: str
    entries: tuple[Entry, ...]
    quote: Callable[[str], str] = shlex.quote


def load_line(runtime: Runtime, facts: Facts) -> str:
    """How the adapter is loaded: with the lowest rank that is enough, or the one that was given."""
    given = facts.max_lora_rank or rules.pick_rank(facts.rank, VLLM_RANKS) or VLLM_RANKS[-1]
    line = runtime.load + (runtime.template if facts.template else "")
    words = {what: runtime.quote(word) for what, word in _words(facts).items()}
    if runtime.quote is literal:
        words["base"] = facts.spelled_base
    return line.format(**words, max_rank=given, rank=facts.max_lora_rank or facts.rank)


def describe_fix(entry: Entry, facts: Facts) -> str:
    """What to do about a breach. For ranks: the lowest that vLLM takes and that is enough, and the
    highest that it takes and that the server of now serves."""
    served = facts.max_lora_rank or VLLM_RANKS[-1]
    lower = [rank for rank in VLLM_RANKS if rank < facts.rank and rank <= served]
    needed = rules.pick_rank(facts.rank, VLLM_RANKS)
    return entry.fix.format(
        **{what: shlex.quote(word) for what, word in _words(facts).items()},
        lower=max(lower, default=1),
        needed=f"--max-lora-rank {needed}" if needed else "a runtime without a limit",
    )


def _words(facts: Facts) -> dict[str, str]:
    return {
        "base": facts.base_name,
        "name": facts.name,
        "path": str(facts.info.folder),
        "template": facts.template or "",
    }


_VLLM = "vllm 0.33.0, lora/peft_helper.py: PEFTHelper."
_SGLANG = "sgl-project/sglang, srt/lora/"
_CONVERT = "ggml-org/llama.cpp at 0b03ada, convert_lora_to_gguf.py"
_OLLAMA = "ollama/ollama at 01cf744, convert/"
_SHARED = "the same file as LoRAX's: huggingface/text-generation-inference at 45d95bd, "
_SHARED += "server/text_generation_server/adapters/lora.py"
_LORAX = "predibase/lorax at 03679f3, server/lorax_server/adapters/lora.py"


def _serving(source: str) -> tuple[Entry, ...]:
    """LoRAX, and TGI, whose adapters began as a copy of LoRAX's."""
    loaded = f"{source}: LoraConfig.map_weights_for_model"
    read = f"{source}: LoraConfig, which reads r, lora_alpha and use_rslora alone"
    stacked = f"{source}: LoraWeights, which needs every layer and stacks them"
    return (
        Entry(rules.lacks_prefix, REFUSES, "rename the keys: base_model.model.…", loaded),
        # Seats begin above the base's lowest layers, which have nothing to answer to.
        Entry(rules.leaves_layers_out, REFUSES, _MERGE, stacked, beyond=("seats",)),
        Entry(rules.differs_in_rank, REFUSES, _MERGE, stacked),
        Entry(
            rules.targets_beyond(*rules.LINEAR, "lm_head"), IGNORES, _MERGE, f"{source}: layer_type"
        ),
        Entry(rules.has("rank_pattern", "not read"), IGNORES, _MERGE, read),
        Entry(rules.has("alpha_pattern", "not read"), IGNORES, _MERGE, read),
        Entry(rules.has("use_dora", "magnitudes are left out"), IGNORES, _PLAIN, read),
        Entry(rules.has_bias, IGNORES, _PLAIN, read),
        Entry(rules.saves_modules(), IGNORES, _PLAIN, read),
        Entry(rules.adapts_embeddings, IGNORES, _MERGE, loaded),
    )


RUNTIMES: Mapping[str, Runtime] = {
    "peft": Runtime(
        "0.21.2",
        "PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base}), {path})",
        "",
        "tests/test_engines.py",
        (
            Entry(
                rules.lacks_prefix,
                REFUSES,
                "rename the keys: base_model.model.…",
                "peft 0.21.2, utils/save_and_load.py: set_peft_model_state_dict, which loads "
                "nothing of other keys and warns",
            ),
        ),
        quote=literal,
    ),
    "vllm": Runtime(
        "0.33.0",
        "vllm serve {base} --enable-lora --max-lora-rank {max_rank} --lora-modules {name}={path}",
        " --chat-template {template}",
        "rule: the source in the 0.33.0 wheel",
        (
            Entry(
                rules.is_above(VLLM_RANKS),
                REFUSES,
                "serve with {needed}, or make the adapter with --max-rank {lower}",
                f"{_VLLM}validate_legal; config/lora.py: MaxLoRARanks",
            ),
            Entry(rules.has("use_dora", "DoRA"), REFUSES, _PLAIN, f"{_VLLM}_validate_features"),
            Entry(rules.has_bias, REFUSES, _PLAIN, f"{_VLLM}validate_legal"),
            Entry(
                rules.has("lora_bias", "biases on lora_B"),
                REFUSES,
                _PLAIN,
                f"{_VLLM}_validate_features",
            ),
            Entry(
                rules.saves_modules("classifier", "score"),
                REFUSES,
                _PLAIN,
                f"{_VLLM}_validate_features",
            ),
            Entry(rules.has_special_start, REFUSES, _PLAIN, f"{_VLLM}_init_is_supported"),
            Entry(
                rules.has("alora_invocation_tokens", "aLoRA"),
                REFUSES,
                _PLAIN,
                f"{_VLLM}_validate_features",
            ),
            Entry(
                rules.has("layer_replication", "replicated layers"),
                REFUSES,
                _PLAIN,
                f"{_VLLM}_validate_features",
            ),
            Entry(
                rules.has_other_tensors(
                    ".lora_embedding_A",
                    ".lora_embedding_B",
                    ".base_layer.weight",
                    "score.weight",
                    "classifier.weight",
                ),
                REFUSES,
                _PLAIN,
                "vllm 0.33.0, lora/utils.py: parse_fine_tuned_lora_name",
            ),
            Entry(
                rules.targets_beyond(*rules.LINEAR, "embed_tokens", "lm_head"),
                REFUSES,
                _MERGE,
                "vllm 0.33.0, lora/lora_model.py: check_unexpected_modules",
            ),
            Entry(
                rules.has("fan_in_fan_out", "not read"),
                IGNORES,
                _PLAIN,
                f"{_VLLM}from_dict, which leaves out fields that it does not know",
            ),
        ),
    ),
    "sglang": Runtime(
        "main at 0ceb81f",
        "python -m sglang.launch_server --model-path {base} --enable-lora "
        "--lora-paths {name}={path} --max-lora-rank {rank}",
        " --chat-template {template}",
        "rule: the text of its repository",
        (
            Entry(
                rules.is_above_given,
                REFUSES,
                "serve with a higher --max-lora-rank, or leave it out: it is inferred",
                f"{_SGLANG}lora_manager.py: validate_new_adapter",
            ),
            Entry(
                rules.mixes_ranks,
                REFUSES,
                _MERGE,
                f"{_SGLANG}mem_pool.py: load_lora_weight_to_buffer, for whose buffers r counts",
                beyond=("seats",),  # where they have addresses
            ),
            Entry(
                rules.has("use_dora", "DoRA"),
                REFUSES,
                _PLAIN,
                f"{_SGLANG}lora_manager.py: validate_new_adapter",
            ),
            Entry(
                rules.targets_beyond(*rules.LINEAR, "embed_tokens", "lm_head"),
                REFUSES,
                _MERGE,
                f"{_SGLANG}utils.py: get_normalized_target_modules",
            ),
            Entry(
                rules.has("use_rslora", "alpha / r is used, not alpha / √r"),
                IGNORES,
                "d2l merge {path} -o FOLDER: the scale is folded into the weights",
                f"{_SGLANG}lora.py: LoRAAdapter.scaling; lora_config.py at 0ceb81f",
            ),
            Entry(
                rules.has("alpha_pattern", "one scale is used for all modules"),
                IGNORES,
                "d2l merge {path} -o FOLDER: the scale is folded into the weights",
                f"{_SGLANG}lora.py: LoRAAdapter.scaling",
            ),
            Entry(
                rules.has("rank_pattern", "one scale is used for all modules"),
                IGNORES,
                "d2l merge {path} -o FOLDER: the scale is folded into the weights",
                f"{_SGLANG}lora.py: LoRAAdapter.scaling",
            ),
        ),
    ),
    "lorax": Runtime(
        "main at 03679f3",
        "lorax-launcher --model-id {base} --adapter-source local --adapter-id {path}",
        "",
        "rule: the text of its repository",
        _serving(_LORAX),
    ),
    "tgi": Runtime(
        "main at 45d95bd",
        "text-generation-launcher --model-id {base} --lora-adapters {name}={path}",
        "",
        "rule: the text of its repository",
        _serving(_SHARED),
    ),
    "llama.cpp": Runtime(
        "as in xllamacpp 2026.10.11549",
        "d2l export {path} --to gguf -o {name}.gguf && "
        "llama-server -m BASE.gguf --lora {name}.gguf",
        " --jinja --chat-template-file {template}",
        "tests/test_engines.py",
        (
            Entry(rules.has("use_rslora", "not read"), IGNORES, _EXPORT, f"{_CONVERT}: alpha"),
            Entry(rules.has("alpha_pattern", "not read"), IGNORES, _EXPORT, f"{_CONVERT}: alpha"),
            Entry(rules.has("rank_pattern", "not read"), IGNORES, _EXPORT, f"{_CONVERT}: alpha"),
            Entry(rules.has("fan_in_fan_out", "not read"), IGNORES, _PLAIN, f"{_CONVERT}: lparams"),
            Entry(rules.has("use_dora", "magnitudes"), REFUSES, _PLAIN, f"{_CONVERT}: get_tensors"),
            Entry(rules.has_bias, REFUSES, _PLAIN, f"{_CONVERT}: get_tensors"),
            Entry(rules.saves_modules(), REFUSES, _PLAIN, f"{_CONVERT}: get_tensors"),
            Entry(
                rules.has_other_tensors(
                    ".lora_embedding_A", ".lora_embedding_B", ".base_layer.weight"
                ),
                REFUSES,
                _PLAIN,
                f"{_CONVERT}: get_tensors",
            ),
            Entry(rules.adapts_tied_head, REFUSES, _PLAIN, f"{_CONVERT}: modify_tensors"),
            Entry(
                rules.targets_beyond(*rules.LINEAR, "embed_tokens", "lm_head"),
                REFUSES,
                _MERGE,
                "gguf 0.19, constants.py: MODEL_TENSORS; src/llama-adapter.cpp at 0650ea8",
            ),
        ),
    ),
    "ollama": Runtime(
        "main at 01cf744",
        "d2l export {path} --to ollama -o {name}-ollama && "
        "ollama create {name} -f {name}-ollama/Modelfile",
        "",
        "rule: the text of its repository; its engine is llama.cpp",
        (
            Entry(
                rules.has_no_natural_alpha,
                REFUSES,
                _OLLAMA_EXPORT,
                f"{_OLLAMA}convert.go: AdapterParameters.Alpha is uint32",
            ),
            Entry(
                rules.is_of_other_base("llama", "mistral", "gemma2"),
                EXPORTS,
                _OLLAMA_EXPORT,
                f"{_OLLAMA}convert.go: ConvertAdapter",
            ),
            Entry(
                rules.looks_transposed,
                EXPORTS,
                _OLLAMA_EXPORT,
                f"{_OLLAMA}convert_llama_adapter.go at 0242080: Tensors",
            ),
            Entry(
                rules.adapts_rotated,
                EXPORTS,
                _OLLAMA_EXPORT,
                f"{_OLLAMA}convert_llama_adapter.go at 0242080: repack permutes lora_a, where "
                "llama.cpp permutes lora_b",
            ),
            Entry(
                rules.has("use_rslora", "not read"),
                IGNORES,
                _OLLAMA_EXPORT,
                f"{_OLLAMA}convert.go: AdapterParameters",
            ),
            Entry(
                rules.has("alpha_pattern", "not read"),
                IGNORES,
                _OLLAMA_EXPORT,
                f"{_OLLAMA}convert.go: AdapterParameters",
            ),
            Entry(
                rules.has("rank_pattern", "not read"),
                IGNORES,
                _OLLAMA_EXPORT,
                f"{_OLLAMA}convert.go: AdapterParameters",
            ),
            Entry(rules.has("use_dora", "magnitudes"), REFUSES, _PLAIN, f"{_OLLAMA}convert.go"),
            Entry(rules.saves_modules(), REFUSES, _PLAIN, f"{_OLLAMA}convert.go"),
            Entry(rules.has_bias, REFUSES, _PLAIN, f"{_OLLAMA}convert.go"),
        ),
    ),
    "mlx": Runtime(
        "mlx-lm 0.32.2",
        "d2l export {path} --to mlx -o {name}-mlx && "
        "mlx_lm.server --model {base} --adapter-path {name}-mlx",
        ' --chat-template "$(cat {template})"',
        "tests/test_engines.py",
        (
            Entry(
                rules.has("use_dora", "magnitudes"),
                REFUSES,
                _PLAIN,
                "mlx-lm 0.32.2, tuner/utils.py: load_adapters",
            ),
            Entry(rules.has_bias, REFUSES, _PLAIN, "mlx-lm 0.32.2, tuner/utils.py: load_adapters"),
            Entry(
                rules.saves_modules(),
                REFUSES,
                _PLAIN,
                "mlx-lm 0.32.2, tuner/utils.py: load_adapters",
            ),
            Entry(
                rules.adapts_embeddings,
                REFUSES,
                _MERGE,
                "mlx-lm 0.32.2, tuner/lora.py: LoRAEmbedding has factors of another form",
            ),
        ),
    ),
}
