"""LoRA weights → a GGUF adapter file, as llama.cpp and Ollama load it.

Weights and a few facts about the base in, one file out; knows nothing of PEFT folders. Names of
tensors come from the `gguf` package's own maps. Keys and orientation as in ggml-org/llama.cpp,
convert_lora_to_gguf.py at commit 0b03ada and src/llama-adapter.cpp at 0650ea8.
"""

import contextlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor

from d2l.adapters.module_names import parse
from d2l.adapters.weights import LoraWeights
from d2l.errors import AdapterError

#: Precisions that every build of llama.cpp multiplies LoRA in.
DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
#: Says that d2l wrote the file; readers pass over keys that they do not know.
_MARK = "d2l.format"
_FORMAT = 1
_HEAD_BYTES = 1 << 16  # before the mark stand a few short fields, an adapter's name the longest


@dataclass(frozen=True)
class GgufBase:
    """What an adapter file must know of its base. `permutes`: llama.cpp keeps the rows of q_proj
    and k_proj in the order of its own rotary embedding, so b's rows are permuted likewise."""

    arch: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    permutes: bool = False


def write_gguf(
    weights: LoraWeights,
    base: GgufBase,
    path: Path,
    *,
    name: str,
    opening: str = "",
    dtype: str = "fp32",
) -> None:
    """Write an adapter file, read it back and compare; raises AdapterError.

    `name` is what the file calls itself; `opening` the text that every prompt begins with.

    `adapter.lora.alpha` is scale · rank, since llama.cpp multiplies by alpha / rank. It takes each
    tensor's own rank there, so b of a module of a lower rank has the quotient in it.
    """
    tensors = convert_factors(weights, base, dtype=dtype)
    writer = gguf.GGUFWriter(path, base.arch)
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, (weights.scale or 1.0) * weights.rank)
    writer.add_name(name)
    writer.add_uint32(_MARK, _FORMAT)
    if opening:
        writer.add_string(gguf.Keys.Adapter.LORA_PROMPT_PREFIX, opening)
    for key, array in tensors.items():
        writer.add_tensor(key, array)
    with contextlib.closing(writer):
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
    _compare(path, tensors)


def convert_factors(
    weights: LoraWeights, base: GgufBase, *, dtype: str = "fp32"
) -> dict[str, np.ndarray]:
    """Tensors of the file by name: `….lora_a` (rank, d_in) and `….lora_b` (d_out, rank), sorted by
    layer. Raises AdapterError for modules that llama.cpp has no tensor for."""
    arches = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(arches[base.arch], base.n_layers)
    tensors: dict[str, np.ndarray] = {}
    for module in weights.factors:
        name, factors = names.get_name(module), weights.trim(module)
        if name is None:
            raise AdapterError(
                f"{module}: the architecture {base.arch} of llama.cpp has no such tensor",
                hint="export the adapter merged into its base: --to merged",
            )
        # llama.cpp takes an alpha of 0 for "no alpha", so a scale of 0 goes into b.
        b = factors.b if weights.scale else torch.zeros_like(factors.b)
        b = b * (factors.rank / weights.rank)
        if base.permutes:
            b = _permute(b, module, base)
        tensors[f"{name}.weight.lora_a"] = _to_array(factors.a, dtype, module)
        tensors[f"{name}.weight.lora_b"] = _to_array(b, dtype, module)
    return dict(sorted(tensors.items()))


def is_own_gguf(path: Path) -> bool:
    """Whether d2l wrote this file. The mark stands near its beginning: what else is said there, by
    whoever wrote it, is not followed."""
    key = _MARK.encode()
    uint32 = int(gguf.GGUFValueType.UINT32)
    mark = struct.pack("<Q", len(key)) + key + struct.pack("<II", uint32, _FORMAT)
    try:
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except OSError:
        return False
    return head.startswith(b"GGUF") and mark in head


def _permute(b: Tensor, module: str, base: GgufBase) -> Tensor:
    """Rows of b (d_out, rank) in llama.cpp's order: of each head of q_proj and k_proj, halves
    interleaved (ggml-org/llama.cpp, convert_hf_to_gguf.py: LlamaModel.permute)."""
    heads = {"q_proj": base.n_heads, "k_proj": base.n_kv_heads}.get(parse(module).short)
    if heads is None:
        return b
    return b.reshape(heads, 2, b.shape[0] // heads // 2, -1).transpose(1, 2).reshape(b.shape)


def _to_array(tensor: Tensor, dtype: str, module: str) -> np.ndarray:
    if dtype not in DTYPES:
        raise AdapterError(
            f"llama.cpp adapters are not written in {dtype}",
            hint=f"choose --dtype from {', '.join(DTYPES)}",
        )
    converted = tensor.to(DTYPES[dtype])
    if not bool(torch.isfinite(converted).all()):
        raise AdapterError(
            f"{module}: has values that are not finite in {dtype}",
            hint="`d2l check` says where; --dtype fp32 has the widest range",
        )
    return np.ascontiguousarray(converted.numpy())


def _compare(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Refuse a file that does not say what was to be written, bit for bit."""
    try:
        found = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    except (ValueError, KeyError, IndexError):  # cut short: numpy is silent where a disk is full
        found = {}
    same = found.keys() == tensors.keys() and all(
        found[name].dtype == array.dtype and np.array_equal(found[name], array)
        for name, array in tensors.items()
    )
    if not same:
        raise AdapterError(
            f"{path.name}: what was read back is not what was written",
            hint="the disk or the gguf package is at fault: try another place or version",
        )
