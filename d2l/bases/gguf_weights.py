"""Weights of a base straight from its GGUF file, without a copy on disk.

llama.cpp's own functions dequantize; each is first compared with those of gguf, and where one is
missing or differs, `d2l.bases.gguf` makes a copy once.
"""

import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import gguf
import numpy as np
import torch
import transformers
from torch import Tensor

from d2l.bases.gguf_header import GgufTensor, damaged, read_tensors
from d2l.bases.llama_cpp import Array, find_dequantizer
from d2l.bases.load_errors import LOAD_ERRORS, explain

#: gguf's architecture of a model type whose tensors differ from transformers' in their names alone,
#: or, with True, in the order of the rows of queries and keys, too: there the two values that a
#: rotation pairs are neighbors (llama.cpp, convert_hf_to_gguf.py: LlamaModel.permute).
_ARCHITECTURES = {
    "qwen2": ("qwen2", False),
    "qwen3": ("qwen3", False),
    "llama": ("llama", True),
    "mistral": ("llama", True),
}
_N_PIECE = 1 << 20
_PLAIN = {"F32": np.float32, "F16": np.float16}


def read_weights(path: Path, config: Any, dtype: torch.dtype) -> dict[str, Tensor] | None:
    """Read the weights that the causal model of a config has, by their names; None if only a copy
    can be made. Raises BaseModelError for a damaged file."""
    if config.model_type not in _ARCHITECTURES:
        return None
    called, is_permuted = _ARCHITECTURES[config.model_type]
    architecture = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == called)
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    try:
        with torch.device("meta"):
            causal: Any = transformers.AutoModelForCausalLM
            wanted = causal.from_config(config).state_dict()
    except LOAD_ERRORS as error:
        raise damaged(path, explain(error)) from error
    stored, found = read_tensors(path), dict[str, GgufTensor]()
    for own, expected in wanted.items():
        stem, _, suffix = own.rpartition(".")
        tensor = stored.get(f"{names.get_name(stem)}.{suffix}")
        if tensor is None and own == "lm_head.weight" and config.tie_word_embeddings:
            continue
        if tensor is None:
            raise damaged(path, f"{own} is missing")
        if tensor.shape != tuple(expected.shape):
            raise damaged(path, f"{own} is {tensor.shape}, expected {tuple(expected.shape)}")
        found[own] = tensor
    kinds = {kind.value: kind.name for kind in gguf.GGMLQuantizationType}
    if not all(_can_read(kinds.get(tensor.kind, "")) for tensor in found.values()):
        return None
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    state, size = {}, path.stat().st_size
    with path.open("rb") as stream:
        for own, tensor in found.items():
            if tensor.start + _count_bytes(tensor) > size:
                raise damaged(path, "it ends too soon")
            stream.seek(tensor.start)
            state[own] = torch.empty(tensor.shape, dtype=dtype)
            _read(stream, tensor, kinds[tensor.kind], state[own].view(-1))
            n_heads = heads.get(own.split(".")[-2]) if is_permuted else None
            if n_heads:
                pairs = state[own].view(n_heads, -1, 2, *tensor.shape[1:])
                state[own] = pairs.transpose(1, 2).reshape(tensor.shape)
    return state


def _can_read(kind: str) -> bool:
    return kind in _PLAIN or (kind != "" and _find_checked(kind) is not None)


def _count_bytes(tensor: GgufTensor) -> int:
    """Count the bytes of a tensor's values, which are stored in blocks."""
    n_values, n_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(tensor.kind)]
    return math.prod(tensor.shape) // n_values * n_bytes


def _read(stream: BinaryIO, tensor: GgufTensor, kind: str, out: Tensor) -> None:
    """Read a tensor into `out`, in pieces that stay in the processor's cache."""
    dequantize = None if kind in _PLAIN else _find_checked(kind)
    scratch = np.empty(_N_PIECE, np.float32)
    for start in range(0, len(out), _N_PIECE):
        piece = out[start : start + _N_PIECE]
        held = np.fromfile(stream, np.uint8, _count_bytes(tensor._replace(shape=piece.shape)))
        values = scratch[: len(piece)]
        if dequantize is None:
            values[:] = held.view(_PLAIN[kind])
        else:
            dequantize(held, values)
        piece.copy_(torch.from_numpy(values))


@cache
def _find_checked(kind: str) -> Callable[[Array, Array], None] | None:
    """Find the function that dequantizes a kind; None if its values are not those of gguf."""
    function = find_dequantizer(kind)
    if function is None:
        return None
    own = gguf.GGMLQuantizationType[kind]
    n_values, n_bytes = gguf.GGML_QUANT_SIZES[own]
    drawn = np.random.default_rng(0).integers(0, 60, 8 * n_bytes).astype(np.uint8)
    out = np.empty(8 * n_values, np.float32)
    function(drawn, out)
    try:
        return function if np.array_equal(out, gguf.dequantize(drawn, own)) else None
    except NotImplementedError:  # gguf knows fewer kinds: nothing to compare with
        return None
