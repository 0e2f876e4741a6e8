"""A GGUF file of the tiny Llama, quantized and laid out as llama.cpp's converter does it."""

import json
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from tests import tiny

#: Names in a GGUF file of the parts of a decoder layer (gguf, constants.py: MODEL_TENSORS).
LAYER_PARTS = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
TOP_PARTS = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
QUANTS = (
    gguf.GGMLQuantizationType.Q4_1,
    gguf.GGMLQuantizationType.Q8_0,
    gguf.GGMLQuantizationType.Q4_0,
)


def gguf_name(name: str) -> str:
    """What a parameter of a tiny base is called in a GGUF file."""
    if name in TOP_PARTS:
        return TOP_PARTS[name]
    stem, _, suffix = name.rpartition(".")
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{LAYER_PARTS[part]}.{suffix}"


def count_heads(name: str) -> int | None:
    """Heads of a projection whose rows a GGUF file holds in rotary pairs; None for the others."""
    return {"q_proj": 4, "k_proj": 2}.get(name.split(".")[-2])


def interleave(rows: NDArray[np.float32], n_heads: int) -> NDArray[np.float32]:
    """Rows of each head from halves (0 … d/2 | d/2 … d) to pairs (0, d/2, 1, d/2 + 1, …)."""
    order = []
    size = len(rows) // n_heads
    for head in range(n_heads):
        for n in range(size // 2):
            order += [head * size + n, head * size + size // 2 + n]
    return rows[order]


def write_gguf(path: Path, pre_tokenizer: str = "smollm", family: str = "llama") -> Path:
    """The tiny base of a family with its tokenizer; each matrix in one of three quantized types."""
    # transformers takes Qwen 3's dimension of a head for granted: that of all that are published.
    model = tiny.make_causal(family, **({"head_dim": 128} if family == "qwen3" else {}))
    config = model.config
    architecture = "llama" if family == "mistral" else family
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    head_dim = getattr(config, "head_dim", None) or tiny.HIDDEN // config.num_attention_heads
    writer.add_rope_dimension_count(head_dim)
    writer.add_key_length(head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(config.vocab_size)
    add_tokenizer(writer, pre_tokenizer)
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if values.ndim == 1:
            writer.add_tensor(gguf_name(name), values)
            continue
        heads = count_heads(name) if architecture == "llama" else None
        values = values if heads is None else interleave(values, heads)
        quant = QUANTS[len(name) % len(QUANTS)]
        data = gguf.quants.quantize(np.ascontiguousarray(values), quant)
        writer.add_tensor(gguf_name(name), data, raw_dtype=quant)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_dequantized(source: Path, path: Path) -> Path:
    """A copy of a GGUF file with every matrix in fp32: the same weights, without their kernels."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, reader.get_field("general.architecture").contents())
    left_out = ("general.architecture", "general.file_type", "general.quantization_version")
    for key, field in reader.fields.items():
        if key.startswith("GGUF.") or key in left_out:
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(key, field.contents(), kind, inner)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        writer.add_tensor(tensor.name, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer: gguf.GGUFWriter, pre_tokenizer: str) -> None:
    """The tiny tokenizer as GGUF metadata; control tokens are of type 3."""
    model = json.loads(tiny.tokenizer_json())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in tiny.CONTROL else 1 for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in model["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(tiny.CHAT_TEMPLATE)
