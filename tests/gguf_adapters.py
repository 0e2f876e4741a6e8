"""GGUF adapter files, read back into weights with the `gguf` package."""

from pathlib import Path

import gguf
import numpy as np
import torch
from torch import Tensor

from d2l.adapters.module_names import parse
from d2l.adapters.weights import LoraFactors, LoraWeights, pad_factors
from d2l.runtimes.gguf import GgufBase


def read_gguf(path: Path, base: GgufBase) -> LoraWeights:
    """Read an adapter file back with the `gguf` package, permutation undone; raises AdapterError.

    Modules have their names in transformers again; `base` of the result is empty.
    """
    reader = gguf.GGUFReader(path)
    field = reader.get_field(gguf.Keys.Adapter.LORA_ALPHA)
    alpha = 0.0 if field is None else float(field.contents())
    arrays = {tensor.name: tensor.data for tensor in reader.tensors}
    modules = _modules_by_name(base)
    factors = {}
    for name, a in arrays.items():
        if not name.endswith(".weight.lora_a"):
            continue
        module = modules[name.removesuffix(".weight.lora_a")]
        b = torch.from_numpy(np.array(arrays[name.removesuffix("a") + "b"]))
        b = _unpermute(b, module, base) if base.permutes else b
        factors[module] = LoraFactors(torch.from_numpy(np.array(a)), b)
    rank = max(one.rank for one in factors.values())
    filled = {
        module: pad_factors(LoraFactors(one.a, one.b * (rank / one.rank)), rank)
        for module, one in factors.items()
    }
    return LoraWeights("", alpha / rank if alpha else 1.0, filled)


def _unpermute(b: Tensor, module: str, base: GgufBase) -> Tensor:
    """Rows of b (d_out, rank) in the order of transformers."""
    heads = {"q_proj": base.n_heads, "k_proj": base.n_kv_heads}.get(parse(module).short)
    if not heads:
        return b
    return b.reshape(heads, b.shape[0] // heads // 2, 2, -1).transpose(1, 2).reshape(b.shape)


def _modules_by_name(base: GgufBase) -> dict[str, str]:
    """Modules of transformers by llama.cpp's names, for the linear layers of the decoder."""
    arches = {name: arch for arch, name in gguf.MODEL_ARCH_NAMES.items()}
    names = gguf.get_tensor_name_map(arches[base.arch], base.n_layers)
    attention = [f"self_attn.{m}" for m in ("q_proj", "k_proj", "v_proj", "o_proj")]
    linear = [*attention, *(f"mlp.{m}" for m in ("gate_proj", "up_proj", "down_proj"))]
    modules = [f"model.layers.{layer}.{m}" for layer in range(base.n_layers) for m in linear]
    found = {names.get_name(m): m for m in (*modules, "lm_head")}
    return {name: module for name, module in found.items() if name is not None}
