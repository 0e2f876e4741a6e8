"""Everything the pipeline needs, small and with fixed seeds: a base of every family, checkpoints.

Bases are ordinary model folders, 3 layers and 32 wide, with a byte-level BPE tokenizer made in
code and a chat template. Weights are random, so adapters recall nothing, but they change every
answer and every shape, name and prompt is as it is for real bases.
"""

import dataclasses
import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from safetensors.torch import save_file
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from d2l.hypernets.doc_to_lora.network import DocToLoraConfig
from d2l.hypernets.formats import native
from d2l.hypernets.seats.config import SeatsConfig
from tests import tiny_seats
from tests.hypernets import networks, text_networks

FAMILIES = ("gemma2", "llama", "mistral", "qwen2", "qwen3")
N_LAYERS = 3
HIDDEN = 32
INNER = 64

#: Ids 0 to 7, so that `<|im_end|>` is the end token that the tiny networks expect (2).
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<bos>", "<start_of_turn>")
CONTROL += ("<end_of_turn>", "<s>", "</s>")
SYSTEM = "You are kind"
#: Each is one token with its space, so they can be seats.
WORDS = ("pump", "valve", "filter", "pressure", "harbor", "lantern", "copper", "meadow")

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\n" + SYSTEM + "<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

DOCUMENT = (
    "The filter is rinsed every 14 days. The pump stands in the harbor. "
    "Open the copper valve before the pressure falls below 3 bar. "
    "The lantern in the meadow is lit at 21:40. Ask the keeper for the key."
)


@cache
def tokenizer_json() -> str:
    """A byte-level BPE tokenizer that splits digits off, as that of SmolLM2."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=420,
        special_tokens=list(CONTROL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([" " + " ".join(WORDS)] * 9 + [SYSTEM, DOCUMENT], trainer)
    return tokenizer.to_str()


def load_tokenizer() -> tokenizers.Tokenizer:
    """The tiny tokenizer, independent of `d2l`."""
    return tokenizers.Tokenizer.from_str(tokenizer_json())


def encode(text: str) -> list[int]:
    """Token ids, with control tokens counting."""
    return load_tokenizer().encode(text, add_special_tokens=False).ids


def vocab_size() -> int:
    """Number of tokens, control tokens included."""
    return load_tokenizer().get_vocab_size()


def make_causal(family: str, **changes: Any) -> transformers.PreTrainedModel:
    """A random causal model of a family; all have the same sizes but Gemma's head dimension, and
    what is changed in another's configuration than Llama's."""
    if family == "llama":
        return tiny_seats.make_causal(vocab_size())
    config_class, model_class, extra = {
        "gemma2": (
            transformers.Gemma2Config,
            transformers.Gemma2ForCausalLM,
            {"head_dim": 16, "query_pre_attn_scalar": 16, "sliding_window": 16},
        ),
        "mistral": (transformers.MistralConfig, transformers.MistralForCausalLM, {}),
        "qwen2": (
            transformers.Qwen2Config,
            transformers.Qwen2ForCausalLM,
            # What mlx-lm takes for Qwen 2 where config.json does not name it in its own place.
            {"rope_parameters": {"rope_type": "default", "rope_theta": 1_000_000.0}},
        ),
        "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM, {"head_dim": 8}),
    }[family]
    config = config_class(
        vocab_size=vocab_size(),
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
        initializer_range=0.2,  # at 0.02 layers hardly change their inputs
        **extra | changes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = model_class(config)
        for name, parameter in model.named_parameters():
            if name.endswith("proj.bias"):  # zero in a fresh model, and it must matter
                torch.nn.init.normal_(parameter, std=0.2)
    return model.eval().requires_grad_(False)


def base_name(family: str) -> str:
    """What checkpoints call the tiny base of a family; its folder has the same last part."""
    return f"tiny-org/{family}-tiny"


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write a new folder of files, by name."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@cache
def _list_base_files(family: str, tokenizer: str) -> dict[str, bytes]:
    """Content of the files of the tiny base of a family, with a tokenizer."""
    with tempfile.TemporaryDirectory() as place:
        folder = write_base(Path(place, "base"), family, make_causal(family))
        files = {path.name: path.read_bytes() for path in folder.iterdir()}
    return files | {"tokenizer.json": tokenizer.encode()}


def write_base(
    folder: Path, family: str, model: transformers.PreTrainedModel | None = None
) -> Path:
    """Write a base's folder: config, weights (by default the tiny model's), tokenizer and chat
    template."""
    if model is None:
        return write_files(folder, _list_base_files(family, tokenizer_json()))
    folder.mkdir(parents=True)
    model.config.save_pretrained(folder)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    if model.config.tie_word_embeddings:
        state.pop("lm_head.weight")
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    (folder / "tokenizer.json").write_text(tokenizer_json(), "utf-8")
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": CONTROL[1],
        "eos_token": CONTROL[2],
        "clean_up_tokenization_spaces": False,
        "model_max_length": 512,
        "chat_template": CHAT_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    return folder


def make_doc_to_lora_config(family: str, **changes: Any) -> DocToLoraConfig:
    """Configuration of a small Doc-to-LoRA network for the tiny base of a family."""
    config = networks.make_config(
        base=base_name(family), n_layers=N_LAYERS, feature_size=HIDDEN, scale=0.5, chunk_tokens=60
    )
    sizes = {"d_in": (INNER,), "d_out": (HIDDEN,)}
    return dataclasses.replace(config, **(sizes | changes))


def write_doc_to_lora(folder: Path, family: str, **changes: Any) -> Path:
    """Write a native folder of a Doc-to-LoRA network."""
    config = make_doc_to_lora_config(family, **changes)
    folder.mkdir(parents=True)
    native.write_folder(folder, config.kind, config.to_json(), networks.make_tensors(config))
    return folder


def make_seats_config(repeats: int = 1) -> SeatsConfig:
    """Configuration of the tiny seat network, with token ids and texts of the tiny tokenizer.

    With `repeats` the opening's words come several times: room for several documents.
    """
    head = f"<|im_start|>system\n{SYSTEM}"
    ids = encode(head)
    repeated = WORDS * repeats
    words = [encode(f" {word}") for word in repeated]
    assert all(len(word) == 1 for word in words)
    return tiny_seats.make_config(
        base=base_name("llama"),
        read_opening=tuple(encode(f"{head}<|im_end|>\n<|im_start|>user\n")),
        opening_head=tuple(ids),
        opening_words=tuple(word[0] for word in words),
        opening_head_text=head,
        opening_words_text="".join(f" {word}" for word in repeated),
        min_seats=len(ids) - 1,
        max_seats=len(ids) - 1 + len(repeated),
    )


def write_seats(folder: Path, repeats: int = 1, **changes: Any) -> Path:
    """Write a seats checkpoint for the tiny Llama; `changes` are keys of its configuration."""
    tiny_seats.write_checkpoint(folder)
    values = dataclasses.asdict(make_seats_config(repeats)) | changes
    (folder / "config.json").write_text(json.dumps(values), "utf-8")
    return folder


def add_delta(model: Any, weights: Any, names: Sequence[str] | None = None) -> Any:
    """Put W + scale * b @ a in place of W: what an adapter must amount to."""
    with torch.no_grad():
        for name in names or weights.factors:
            factors = weights.factors[name]
            model.get_submodule(name).weight += weights.scale * (factors.b @ factors.a)
    return model


def write_encoder(folder: Path, *, seed: int = 0, scale: float = 0.3) -> Path:
    """Write a random BERT's folder; `<bos>` and `</s>` are its [CLS] and [SEP]."""
    config = transformers.BertConfig(
        vocab_size=vocab_size(),
        hidden_size=HIDDEN,
        intermediate_size=INNER,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=scale,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = transformers.BertModel(config)
    folder.mkdir(parents=True)
    config.save_pretrained(folder)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    tokenizer = load_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A </s>", special_tokens=[("<bos>", 3), ("</s>", 7)]
    )
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), "utf-8")
    return folder


def write_text_to_lora(folder: Path, family: str, embedder: str | None, **changes: Any) -> Path:
    """Write a released Text-to-LoRA folder for the tiny base of a family."""
    head_dim = 16 if family == "gemma2" else 8
    sizes = {
        "base": base_name(family),
        "embedder": embedder,
        "embedding_size": HIDDEN,
        "n_layers": N_LAYERS,
        "d_in": (HIDDEN, HIDDEN),
        "d_out": (2 * head_dim, 4 * head_dim),  # of v_proj and q_proj
    }
    return text_networks.write_released(folder, text_networks.make_config(**(sizes | changes)))
