"""LoRA weights → the adapter folder of mlx-lm: `adapters.safetensors` and its own config.

Weights in, two files out, read back and compared. Format of ml-explore/mlx-lm 0.32,
tuner/utils.py: load_adapters and linear_to_lora_layers; tuner/lora.py: LoRALinear.
"""

import json
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

WEIGHTS = "adapters.safetensors"
CONFIG = "adapter_config.json"


def write_mlx(weights: LoraWeights, n_layers: int, folder: Path, *, dtype: str = "fp32") -> None:
    """Write both files into `folder`; raises AdapterError.

    Factors are transposed, lora_a (d_in, rank) and lora_b (rank, d_out): mlx-lm multiplies from the
    right. One scale holds for all modules. mlx-lm wraps the last `num_layers` layers; what the
    adapter leaves alone there gets a lora_b of zeros. It makes room by one rank, the lowest, and
    then takes the tensors as they are.
    """
    tensors = convert_factors(weights, dtype=dtype)
    config = _config(weights, n_layers)
    save_file(tensors, folder / WEIGHTS, {"format": "mlx"})
    text = json.dumps(config, indent=2, sort_keys=True) + "\n"
    (folder / CONFIG).write_text(text, "utf-8", newline="\n")
    found = load_file(folder / WEIGHTS)
    same = found.keys() == tensors.keys() and all(
        torch.equal(found[name], tensor) for name, tensor in tensors.items()
    )
    if not same or json.loads((folder / CONFIG).read_text("utf-8")) != config:
        raise AdapterError(
            f"{folder.name}: what was read back is not what was written",
            hint="the disk is at fault: try another place",
        )


def convert_factors(weights: LoraWeights, *, dtype: str = "fp32") -> dict[str, Tensor]:
    """Tensors of the file by mlx-lm's names, which are those of transformers."""
    tensors = {}
    for module in sorted(weights.factors):
        factors = weights.trim(module)
        for name, factor in (("lora_a", factors.a), ("lora_b", factors.b)):
            converted = factor.T.to(DTYPES[dtype]).contiguous()
            if not bool(torch.isfinite(converted).all()):
                raise AdapterError(
                    f"{module}: has values that are not finite in {dtype}",
                    hint="`d2l check` says where; --dtype fp32 has the widest range",
                )
            tensors[f"{module}.{name}"] = converted
    return tensors


def _config(weights: LoraWeights, n_layers: int) -> Mapping[str, Any]:
    """mlx-lm's own config. Keys are names below a layer, so they hold for all wrapped layers;
    modules outside the layers are named in full."""
    layers, keys = [], set()
    for module in weights.factors:
        name = module_names.parse(module)
        if name.in_decoder and name.layer is not None:
            layers.append(name.layer)
        keys.add(name.path if name.in_decoder else module)
    if not layers:
        raise AdapterError("the adapter changes no decoder layer, which mlx-lm needs")
    return {
        "fine_tune_type": "lora",
        "num_layers": n_layers - min(layers),
        "lora_parameters": {
            "rank": min(weights.ranks.values(), default=weights.rank),
            "scale": weights.scale,
            "dropout": 0.0,
            "keys": sorted(keys),
        },
    }
