"""Adapters made by hand for the tiny bases: random LoRA on chosen modules, as other tools write it.

They know nothing of `d2l`: what reads them is tested against what stands in the files.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests import tiny

MODULES = ("q_proj", "v_proj")
EVERY_MODULE = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PREFIX = "base_model.model."


def make_factors(
    family: str,
    modules: Sequence[str] = MODULES,
    *,
    rank: int = 4,
    layers: Sequence[int] = range(tiny.N_LAYERS),
    seed: int = 11,
) -> dict[str, tuple[Tensor, Tensor]]:
    """(a, b) by module name, for linear layers of a tiny base."""
    generator = torch.Generator().manual_seed(seed)
    parents = tuple(f"model.layers.{layer}." for layer in layers)
    found = {}
    for name, module in tiny.make_causal(family).named_modules():
        if name.startswith(parents) and name.rsplit(".", 1)[-1] in modules:
            a = torch.randn(rank, module.in_features, generator=generator) / 4
            found[name] = (a, torch.randn(module.out_features, rank, generator=generator) / 4)
    return found


def write_task(
    folder: Path,
    factors: Mapping[str, tuple[Tensor, Tensor]],
    *,
    base: str,
    config: Mapping[str, Any] | None = None,
    tensors: Mapping[str, Tensor | None] | None = None,
) -> Path:
    """Write a PEFT folder; `config` and `tensors` replace or add, and None takes a key out."""
    rank = next(iter(factors.values()))[0].shape[0]
    settings: dict[str, Any] = {
        "base_model_name_or_path": base,
        "bias": "none",
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "peft_type": "LORA",
        "r": rank,
        "target_modules": sorted({name.rsplit(".", 1)[-1] for name in factors}),
        "task_type": "CAUSAL_LM",
    }
    settings |= dict(config or {})
    stored: dict[str, Tensor | None] = {}
    for name, (a, b) in factors.items():
        stored[f"{PREFIX}{name}.lora_A.weight"] = a
        stored[f"{PREFIX}{name}.lora_B.weight"] = b
    stored |= dict(tensors or {})
    folder.mkdir(parents=True)
    kept = {key: value for key, value in settings.items() if value is not None}
    (folder / "adapter_config.json").write_text(json.dumps(kept), "utf-8")
    save_file({n: t for n, t in stored.items() if t is not None}, folder / WEIGHTS)
    return folder


WEIGHTS = "adapter_model.safetensors"
