"""Catalog of runtimes, and what each accepts of a LoRA adapter: `RUNTIMES`."""

from collections.abc import Mapping
from functools import partial

from d2l.adapters.card import literal
from d2l.adapters.peft_config import VLLM_RANKS
from d2l.runtimes import rules
from d2l.runtimes.runtime import (
    EXPORT,
    EXPORTS,
    IGNORES,
    MERGE,
    MERGED,
    PLAIN,
    REFUSES,
    RENAME,
    UNIFORM,
    Runtime,
    RuntimeRule,
)


def _list(effect: str, fix: str, source: str, *broken: rules.Rule) -> tuple[RuntimeRule, ...]:
    """List entries of one effect, one fix and one source."""
    return tuple(RuntimeRule(rule, effect, fix, source) for rule in broken)


#: Entries of the usual pairs of effect and fix.
_refused, _beyond = partial(_list, REFUSES, PLAIN), partial(_list, REFUSES, MERGE)
_ignored, _evened = partial(_list, IGNORES, PLAIN), partial(_list, EXPORTS, UNIFORM)
_VLLM = "vllm 0.32.0, lora/peft_helper.py: PEFTHelper."
_SGLANG = "sglang 0.5.23, srt/lora/"
_OPENVINO = "openvinotoolkit/openvino.genai at 024b2c8, src/cpp/src/lora/adapter.cpp: "
_CONVERT = "ggml-org/llama.cpp at 0b03ada, convert_lora_to_gguf.py"
_OLLAMA = "ollama/ollama at 0029bb5, "
_MISTRAL = "mistral.rs 0.9.5, mistralrs-quant/src/lora/"
#: Fields that change the scale, for runtimes that read lora_alpha and r alone.
_SCALES = tuple(
    rules.has(field, "not read") for field in ("use_rslora", "alpha_pattern", "rank_pattern")
)


RUNTIMES: Mapping[str, Runtime] = {
    "peft": Runtime(
        "folder",
        "0.21.2",
        "PeftModel.from_pretrained(d2l.load_base({path}), {path})",
        "",
        "",
        _list(
            REFUSES,
            RENAME,
            "peft 0.21.2, utils/save_and_load.py: set_peft_model_state_dict, which loads nothing "
            "of other keys and warns",
            rules.lacks_prefix,
        ),
        quote=literal,
    ),
    "vllm": Runtime(
        "folder",
        "0.32.0",
        "vllm serve {base} --enable-lora --max-lora-rank {max_rank} --lora-modules {name}={path}",
        " --chat-template {template}",
        "on GPUs and of ranks above 32; vllm 0.32.0, lora/punica_wrapper/punica_gpu.py",
        (
            *_list(
                REFUSES,
                "serve with {needed}, or make the adapter with --max-rank {lower}",
                f"{_VLLM}validate_legal; config/lora.py: MaxLoRARanks",
                rules.is_above(VLLM_RANKS),
            ),
            *_refused(
                f"{_VLLM}_validate_features",
                rules.has("use_dora", "DoRA"),
                rules.has("lora_bias", "biases on lora_B"),
                rules.saves_modules("classifier", "score"),
                rules.has("alora_invocation_tokens", "aLoRA"),
                rules.has("layer_replication", "replicated layers"),
            ),
            *_refused(f"{_VLLM}validate_legal", rules.has_bias),
            *_refused(f"{_VLLM}_init_is_supported", rules.has_special_start),
            *_refused(
                "vllm 0.32.0, lora/utils.py: parse_fine_tuned_lora_name",
                rules.has_other_tensors(*rules.EMBEDDING, "score.weight", "classifier.weight"),
            ),
            *_beyond(
                "vllm 0.32.0, lora/lora_model.py: check_unexpected_modules",
                rules.targets_beyond(*rules.LINEAR, "embed_tokens", "lm_head"),
            ),
            *_ignored(
                f"{_VLLM}from_dict, which leaves out fields that it does not know",
                rules.has("fan_in_fan_out", "not read"),
            ),
        ),
        rescaled=MERGED + "vllm serve {name}-merged",
    ),
    "sglang": Runtime(
        "`--to uniform`",
        "0.5.23",
        "d2l export {path} --to uniform -o {name}-uniform && python -m sglang.launch_server "
        "--model-path {base} --lora-paths {name}={name}-uniform --max-lora-rank {rank}",
        " --chat-template {template}",
        "sglang 0.5.23, srt/arg_groups/fields/lora.py; the model of a request is BASE:ADAPTER "
        "(srt/entrypoints/openai/serving_base.py)",
        (
            *_list(
                REFUSES,
                "serve with a higher --max-lora-rank, or leave it out: it is inferred",
                f"{_SGLANG}lora_manager.py: validate_new_adapter",
                rules.is_above_given,
            ),
            *_evened(
                f"{_SGLANG}mem_pool.py: load_lora_weight_to_buffer, for whose buffers r counts",
                rules.mixes_ranks,
            ),
            *_evened(
                f"{_SGLANG}lora.py: normalize_qkv_proj, normalize_gate_up_proj",
                rules.lacks_partners,
            ),
            *_refused(
                f"{_SGLANG}lora_manager.py: validate_new_adapter", rules.has("use_dora", "DoRA")
            ),
            *_refused(
                f"{_SGLANG}utils.py: get_target_module_name, which fails on other names",
                rules.has_other_tensors(
                    *rules.EMBEDDING, "lm_head.weight", "score.weight", "classifier.weight"
                ),
            ),
            *_beyond(
                f"{_SGLANG}utils.py: get_normalized_target_modules",
                rules.targets_beyond(*rules.LINEAR, "embed_tokens", "lm_head"),
            ),
            *_list(
                IGNORES,
                UNIFORM,
                f"{_SGLANG}lora.py: LoRAAdapter.scaling",
                rules.has("use_rslora", "alpha / r is used, not alpha / √r"),
                rules.has("alpha_pattern", "one scale is used for all modules"),
                rules.has("rank_pattern", "one scale is used for all modules"),
            ),
            *_ignored(
                f"{_SGLANG}lora_config.py: LoRAConfig, which reads four fields",
                rules.has_bias,
                rules.has_special_start,
                rules.saves_modules(),
                rules.has("alora_invocation_tokens", "aLoRA"),
                rules.has("layer_replication", "replicated layers"),
            ),
        ),
        rescaled=MERGED + "python -m sglang.launch_server --model-path {name}-merged",
    ),
    "llama.cpp": Runtime(
        "`--to gguf`",
        "as in xllamacpp 2026.10.11549",
        "d2l export {path} --to gguf -o {name}.gguf && llama-server -m {gguf} --lora {name}.gguf",
        " --jinja --chat-template-file {template}",
        "",
        (
            *_list(IGNORES, EXPORT, f"{_CONVERT}: alpha", *_SCALES),
            *_ignored(f"{_CONVERT}: lparams", rules.has("fan_in_fan_out", "not read")),
            *_refused(
                f"{_CONVERT}: get_tensors",
                rules.has("use_dora", "magnitudes"),
                rules.has_bias,
                rules.saves_modules(),
                rules.has_other_tensors(*rules.EMBEDDING),
            ),
            *_refused(f"{_CONVERT}: modify_tensors", rules.adapts_tied_head),
            *_beyond(
                "gguf 0.19, constants.py: MODEL_TENSORS; src/llama-adapter.cpp at 0650ea8",
                rules.targets_beyond(*rules.LINEAR, "embed_tokens", "lm_head"),
            ),
        ),
    ),
    "mistral.rs": Runtime(
        "folder",
        "0.9.5",
        "mistralrs.Runner(mistralrs.Which.Lora({base}, adapters=[mistralrs.LoraAdapter({name}, "
        "{path})], max_rank={rank}), jinja_explicit={template})",
        "",
        "",
        (
            *_list(
                REFUSES,
                "load it with a higher max_rank, which is 256 where it is left out",
                "mistral.rs 0.9.5, mistralrs-core/src/adapter/runtime.rs: validate_adapter_config",
                rules.is_above_given,
            ),
            *_refused(
                f"{_MISTRAL}mod.rs: LoraConfig.validate_dynamic",
                rules.has("use_dora", "DoRA"),
                rules.has("lora_bias", "biases on lora_B"),
                rules.has_bias,
                rules.saves_modules(),
                rules.has("alora_invocation_tokens", "aLoRA"),
                rules.has("layer_replication", "replicated layers"),
                rules.has_special_start,
            ),
            *_beyond(
                f"{_MISTRAL}dynamic/loader.rs: site_load_spec", rules.targets_beyond(*rules.LINEAR)
            ),
            *_refused(
                f"{_MISTRAL}dynamic/loader.rs: validate_consumption", rules.has_other_tensors()
            ),
            *_ignored(
                f"{_MISTRAL}mod.rs: LoraConfig, which has no such field",
                rules.has("fan_in_fan_out", "not read"),
            ),
        ),
        quote=lambda word: literal(word) if word else "None",
        rescaled='mistralrs.Runner(mistralrs.Which.GGUF(".", {gguf}, adapters='
        "[mistralrs.LoraAdapter({name}, {path})], max_rank={rank}), jinja_explicit={template})",
    ),
    "ollama": Runtime(
        "`--to ollama`",
        "main at 0029bb5",
        "d2l export {path} --to ollama --base {gguf} -o {name}-ollama && "
        "ollama create {name} -f {name}-ollama/Modelfile",
        "",
        f"{_OLLAMA}server/create.go: CreateHandler",
        (
            *_list(
                EXPORTS,
                "d2l export {path} --to ollama: a merged model, which every version loads",
                f"{_OLLAMA}server/create.go: errAdaptersUnsupported; before: ollama/ollama at "
                "01cf744, convert/convert.go: ConvertAdapter, AdapterParameters",
                lambda _: (
                    "0.34.1 and later load no adapter; earlier ones convert few "
                    "architectures, and read neither patterns nor use_rslora"
                ),
            ),
            *_refused(
                "d2l export: adapters/peft_config.py: refuse_extras",
                rules.has("use_dora", "magnitudes"),
                rules.has_bias,
                rules.saves_modules(),
                rules.has_other_tensors(),
            ),
            *_beyond(
                "d2l export: runtimes/gguf.py: name_factors; runtimes/merged.py",
                rules.adapts_tied_head,
                rules.targets_beyond(*rules.LINEAR, "lm_head"),
            ),
        ),
    ),
    "openvino": Runtime(
        "folder",
        "openvino-genai 2026.4.1",
        'pipe = openvino_genai.LLMPipeline({base} + "-openvino", "CPU", '
        "adapters=openvino_genai.AdapterConfig("
        'openvino_genai.Adapter({path} + "/adapter_model.safetensors")), '
        'INFERENCE_PRECISION_HINT="f32")',
        "; pipe.get_tokenizer().set_chat_template(open({template}).read())",
        "",
        (
            *_list(REFUSES, RENAME, f"{_OPENVINO}get_unused_tensors", rules.lacks_prefix),
            *_evened(
                f"{_OPENVINO}default_lora_patterns, which know no scale of PEFT's", rules.is_scaled
            ),
            *_ignored(
                f"{_OPENVINO}group_lora_tensors, which leaves out what it does not know",
                rules.has("use_dora", "magnitudes"),
                rules.has_bias,
                rules.has_special_start,
                rules.saves_modules("embed_tokens", "lm_head"),
                rules.adapts_embeddings,
            ),
        ),
        quote=literal,
        rescaled='openvino_genai.LLMPipeline({name} + "-merged-openvino", "CPU", '
        'INFERENCE_PRECISION_HINT="f32")',
    ),
    "mlx": Runtime(
        "`--to mlx`",
        "mlx-lm 0.32.2",
        "d2l export {path} --to mlx -o {name}-mlx && "
        "mlx_lm.server --model {base} --adapter-path {name}-mlx",
        ' --chat-template "$(cat {template})"',
        "",
        (
            *_refused(
                "mlx-lm 0.32.2, tuner/utils.py: load_adapters",
                rules.has("use_dora", "magnitudes"),
                rules.has_bias,
                rules.saves_modules(),
            ),
            *_beyond(
                "mlx-lm 0.32.2, tuner/lora.py: LoRAEmbedding has factors of another form",
                rules.adapts_embeddings,
            ),
        ),
        rescaled=MERGED + "mlx_lm.server --model {name}-merged",
    ),
}
