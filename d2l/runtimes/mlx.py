"""Adapter folders of mlx-lm: `adapters.safetensors` and its own config.

Weights in, two files out, read back and compared. Format of ml-explore/mlx-lm 0.32,
tuner/utils.py: load_adapters and linear_to_lora_layers; tuner/lora.py: LoRALinear.
"""

import json
import operator
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from d2l.adapters import module_names
from d2l.adapters.peft_folder import DTYPES
from d2l.adapters.weights import LoraWeights
from d2l.errors import AdapterError
from d2l.files.tensors import compare_written

WEIGHTS = "adapters.safetensors"
CONFIG = "adapter_config.json"


def write_mlx(weights: LoraWeights, n_layers: int, folder: Path, *, dtype: str = "fp32") -> None:
    """Write both files into `folder`; raises AdapterError.

    Factors are transposed, lora_a (d_in, rank) and lora_b (rank, d_out): mlx-lm multiplies from the
    right. All modules have one scale and one rank: mlx-lm refuses tensors of other ranks, so
    factors of lower ranks are padded with zeros.
    """
    weights = weights.even_ranks()
    tensors = convert_factors(weights, dtype=dtype)
    config = _config(weights, n_layers)
    save_file(tensors, folder / WEIGHTS, {"format": "mlx"})
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, "utf-8", newline="\n")
    weights_path, read = folder / WEIGHTS, json.loads((folder / CONFIG).read_text("utf-8"))
    compare_written(weights_path, tensors, load_file(weights_path), torch.equal, AdapterError)
    compare_written(folder / CONFIG, config, read, operator.eq, AdapterError)


def convert_factors(weights: LoraWeights, *, dtype: str = "fp32") -> dict[str, Tensor]:
    """Convert factors to the file's tensors by mlx-lm's names, which are those of transformers."""
    tensors = {}
    for module, factors in weights.factors.items():
        for name, factor in {"lora_a": factors.a, "lora_b": factors.b}.items():
            converted = factor.T.to(DTYPES[dtype]).contiguous()
            if not bool(torch.isfinite(converted).all()):
                raise AdapterError(
                    f"{module}: has values that are not finite in {dtype}",
                    hint="`d2l check` says where; dtype='fp32' has the widest range",
                )
            tensors[f"{module}.{name}"] = converted
    return tensors


def _config(weights: LoraWeights, n_layers: int) -> Mapping[str, Any]:
    """Make mlx-lm's config. Keys are names below a layer, for the last `num_layers`; modules that
    some of these layers lack, and modules outside layers, are named in full."""
    layers_of: dict[str, set[int]] = {}
    names = {module: module_names.parse(module) for module in weights.factors}
    for name in names.values():
        if name.in_decoder and name.layer is not None:
            layers_of.setdefault(name.path, set()).add(name.layer)
    if not layers_of:
        raise AdapterError("the adapter changes no decoder layer, which mlx-lm needs")
    n_wrapped = n_layers - min(min(layers) for layers in layers_of.values())
    everywhere = {path for path, layers in layers_of.items() if len(layers) == n_wrapped}
    keys = {
        name.path if name.in_decoder and name.path in everywhere else module
        for module, name in names.items()
    }
    return {
        "fine_tune_type": "lora",
        "num_layers": n_wrapped,
        "lora_parameters": {
            "rank": weights.rank,
            "scale": weights.scale,
            "dropout": 0.0,
            "keys": sorted(keys),
        },
    }
