"""GGUF adapter files of LoRA weights, for llama.cpp.

Weights and a few facts about the base in, one file out; needs no PEFT folders. Names of
tensors come from the `gguf` package's own maps. Keys and orientation as in ggml-org/llama.cpp,
convert_lora_to_gguf.py at commit 0b03ada and src/llama-adapter.cpp at 0650ea8.
"""

import contextlib
import hashlib
import operator
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor

from d2l.adapters.module_names import parse
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.errors import AdapterError
from d2l.files.tensors import compare_written

#: Precisions that every build of llama.cpp multiplies LoRA in.
DTYPES = {"fp16": torch.float16, "fp32": torch.float32}
#: Mark of files that d2l wrote; readers ignore unknown keys.
_MARK = "d2l.format"
_FORMAT = 1
_HEAD_BYTES = 1 << 16  # a few short fields precede the mark


@dataclass(frozen=True)
class GgufBase:
    """Facts of the base for an adapter file. `permutes`: llama.cpp orders the rows of q_proj and
    k_proj by its own rotary embedding, so b's rows are permuted likewise."""

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

    `name`: of the model in the file; `opening`: text that every prompt begins with.
    `adapter.lora.alpha` is scale · rank, since llama.cpp multiplies by alpha / rank. It takes each
    tensor's own rank, so b of a module of a lower rank is multiplied by the quotient.
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
    kinds = {"fp16": gguf.GGMLQuantizationType.F16, "fp32": gguf.GGMLQuantizationType.F32}
    compare_gguf(path, {key: digest_tensor(kinds[dtype], data) for key, data in tensors.items()})


def convert_factors(
    weights: LoraWeights, base: GgufBase, *, dtype: str = "fp32"
) -> dict[str, np.ndarray]:
    """Convert factors to the file's tensors by name: `….lora_a` (rank, d_in) and `….lora_b` (d_out,
    rank), sorted by layer. Raises AdapterError for modules without a tensor in llama.cpp."""
    tensors: dict[str, np.ndarray] = {}
    for name, factors in name_factors(weights, base).items():
        # llama.cpp takes an alpha of 0 for "no alpha", so a scale of 0 goes into b.
        b = factors.b if weights.scale else torch.zeros_like(factors.b)
        tensors[f"{name}.lora_a"] = _to_array(factors.a, dtype, name)
        tensors[f"{name}.lora_b"] = _to_array(b * (factors.rank / weights.rank), dtype, name)
    return dict(sorted(tensors.items()))


def name_factors(weights: LoraWeights, base: GgufBase) -> dict[str, LoraFactors]:
    """Name factors by the weights in the base's GGUF file, B's rows in that file's order. Raises
    AdapterError for modules without a tensor in llama.cpp."""
    arches = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(arches[base.arch], base.n_layers)
    named: dict[str, LoraFactors] = {}
    for module in weights.factors:
        name, factors = names.get_name(module), weights.trim(module)
        if name is None:
            raise AdapterError(
                f"{module}: the architecture {base.arch} of llama.cpp has no such tensor",
                hint="export the adapter merged into its base: --to merged",
            )
        b = _permute(factors.b, module, base) if base.permutes else factors.b
        named[f"{name}.weight"] = LoraFactors(factors.a, b)
    return named


def is_own_gguf(path: Path) -> bool:
    """True if d2l wrote this file: it has a mark near its beginning. The rest of the header may be
    a stranger's and is not parsed."""
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
    """Permute rows of b (d_out, rank) to llama.cpp's order: of each head of q_proj and k_proj,
    halves interleaved (ggml-org/llama.cpp, convert_hf_to_gguf.py: LlamaModel.permute)."""
    heads = {"q_proj": base.n_heads, "k_proj": base.n_kv_heads}.get(parse(module).short)
    if heads is None:
        return b
    return b.reshape(heads, 2, b.shape[0] // heads // 2, -1).transpose(1, 2).reshape(b.shape)


def _to_array(tensor: Tensor, dtype: str, module: str) -> np.ndarray:
    if dtype not in DTYPES:
        raise AdapterError(
            f"llama.cpp adapters are not written in {dtype}",
            hint=f"choose the dtype from {', '.join(DTYPES)}",
        )
    converted = tensor.to(DTYPES[dtype])
    if not bool(torch.isfinite(converted).all()):
        raise AdapterError(
            f"{module}: has values that are not finite in {dtype}",
            hint="`d2l check` says where; dtype='fp32' has the widest range",
        )
    return np.ascontiguousarray(converted.numpy())


def digest_tensor(kind: gguf.GGMLQuantizationType, data: np.ndarray) -> bytes:
    """Compute the SHA-256 of a tensor's type and bytes."""
    digest = hashlib.sha256(bytes([kind]))
    digest.update(np.ascontiguousarray(data).data)
    return digest.digest()


def compare_gguf(path: Path, digests: Mapping[str, bytes]) -> None:
    """Refuse a file whose tensors do not have these digests, in any order; raises AdapterError."""
    try:
        tensors = gguf.GGUFReader(path).tensors
        read = {tensor.name: digest_tensor(tensor.tensor_type, tensor.data) for tensor in tensors}
    except (ValueError, KeyError, IndexError):  # cut short: numpy is silent where a disk is full
        read = {}
    compare_written(path, digests, read, operator.eq, AdapterError)
