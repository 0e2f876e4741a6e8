"""LoRA weights ↔ PEFT adapter folders, with provenance.

Weights and plain values in, a folder out that any PEFT-compatible runtime loads; and back. A
folder is written whole or not at all, and the same values give the same bytes.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from d2l.adapters import info as names
from d2l.adapters.module_names import PREFIX, list_layers, list_short
from d2l.adapters.peft_config import module_scale
from d2l.adapters.provenance import Provenance
from d2l.adapters.weights import LoraFactors, LoraWeights, Memory, pad_factors
from d2l.errors import AdapterError, ShapeError
from d2l.files.atomic import building, refuse_existing
from d2l.files.tensors import read_header

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class AdapterContent:
    """Everything that goes into an adapter folder.

    `n_base_layers` is the base's depth: an adapter of fewer layers names them in its config.
    `texts` are further text files by name: the card, a chat template, tokenizer files.
    """

    weights: LoraWeights
    n_base_layers: int
    provenance: Provenance
    memory: Memory | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


def write_adapter(
    content: AdapterContent, out: Path, *, dtype: str = "bf16", force: bool = False
) -> Path:
    """Write an adapter folder; raises AdapterError where `out` may not be replaced.

    Scale is folded into b and `lora_alpha` equals the rank, both integers, so that alpha / rank
    is 1 in every runtime.
    """
    refuse_adapter(out, force=force)
    with building(out) as folder:
        save_file(_tensors(content.weights, DTYPES[dtype]), folder / names.WEIGHTS, _FORMAT)
        _write_json(folder / names.CONFIG, _config(content.weights, content.n_base_layers))
        _write_json(folder / names.PROVENANCE, content.provenance.to_json())
        if content.memory is not None:
            pair = {"keys": content.memory.keys, "values": content.memory.values}
            # As exact as the weights: an fp32 adapter is seated again from its memory to the bit.
            kept = torch.float32 if dtype == "fp32" else torch.bfloat16
            stored = {name: t.to(kept).contiguous() for name, t in pair.items()}
            save_file(stored, folder / names.MEMORY, _FORMAT)
        for name, text in content.texts.items():
            _write_text(folder / name, text)
    return out


def refuse_adapter(out: Path, *, force: bool) -> None:
    """Raise AdapterError unless an adapter may be written at `out`."""
    refuse_existing(out, force=force, is_ours=names.is_adapter, error=AdapterError)


def read_adapter(folder: Path) -> LoraWeights:
    """Read the weights of a PEFT LoRA folder back, in fp32; raises AdapterError.

    Where modules differ in rank or scale (`rank_pattern`, `alpha_pattern`), all get the highest
    rank, filled up with zeros, and the first one's scale, the difference folded into b.
    """
    info = names.read_info(folder)
    if info.rank < 1:
        raise AdapterError(f"{folder / names.CONFIG}: r is {info.rank}, expected a positive rank")
    path = folder / names.WEIGHTS
    factors = _pair(_load(path), path)
    if not factors:
        raise AdapterError(f"{path}: no LoRA tensors")
    try:
        scales = {module: module_scale(info.config, module) for module in factors}
    except AdapterError as error:
        raise AdapterError(f"{folder / error.message}") from error
    base = str(info.config.get("base_model_name_or_path", ""))
    try:
        if info.config.get("rank_pattern"):
            rank = max(f.rank for f in factors.values())
            factors = {name: pad_factors(f, rank) for name, f in factors.items()}
        scale = next((scale for scale in scales.values() if scale), 0.0)
        factors = {
            name: f if scales[name] == scale else LoraFactors(f.a, f.b * (scales[name] / scale))
            for name, f in factors.items()
        }
        return LoraWeights(base=base, scale=scale, factors=factors)
    except ShapeError as error:  # modules of different ranks
        raise AdapterError(f"{path}: {error.message}") from error


def _pair(tensors: Mapping[str, torch.Tensor], path: Path) -> dict[str, LoraFactors]:
    """Factors in fp32 by module, from the tensors of a PEFT file."""
    factors = {}
    for name, a in tensors.items():
        module, found, rest = name.removeprefix(PREFIX).partition(".lora_A.")
        if not found:
            continue
        partner = name.replace(".lora_A.", ".lora_B.")
        if partner not in tensors or rest != "weight":
            raise AdapterError(f"{path}: {name} has no partner {partner}")
        try:
            factors[module] = LoraFactors(a.float(), tensors[partner].float())
        except ShapeError as error:
            raise AdapterError(f"{path}: {module}: {error.message}") from error
    return factors


def read_memory(folder: Path) -> Memory:
    """Read the memory that a seats adapter was seated from; raises AdapterError."""
    path = folder / names.MEMORY
    if not path.is_file():
        raise AdapterError(f"{folder}: has no {names.MEMORY}", hint="it is not a seats adapter")
    tensors = _load(path)
    if tensors.keys() != {"keys", "values"}:
        raise AdapterError(f"{path}: expected two tensors, keys and values")
    return Memory(tensors["keys"].float(), tensors["values"].float())


def _load(path: Path) -> dict[str, torch.Tensor]:
    read_header(path)  # says what is wrong better than safetensors does
    try:
        return load_file(path)
    except SafetensorError as error:
        raise AdapterError(f"{path}: {error}", hint="compile the document again") from error


def _tensors(weights: LoraWeights, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    tensors = {}
    for module, factors in sorted(weights.factors.items()):
        scaled = factors.b.float() * weights.scale
        tensors[f"{PREFIX}{module}.lora_A.weight"] = factors.a.to(dtype).contiguous()
        tensors[f"{PREFIX}{module}.lora_B.weight"] = scaled.to(dtype).contiguous()
    broken = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise AdapterError(
            f"the adapter has values that are not finite in {dtype}, for example in {broken[0]}",
            hint="use --dtype fp32 or bf16; if it is so in fp32 too, the checkpoint is damaged",
        )
    return tensors


def _config(weights: LoraWeights, n_base_layers: int) -> dict[str, Any]:
    """The fields that runtimes read; all others keep PEFT's defaults, so no version warns."""
    layers = list_layers(weights.factors)
    config: dict[str, Any] = {
        "base_model_name_or_path": weights.base,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": weights.rank,
        "lora_dropout": 0.0,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": weights.rank,
        "target_modules": list_short(weights.factors),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
    if layers and layers != list(range(n_base_layers)):
        config |= {"layers_to_transform": layers, "layers_pattern": "layers"}
    return config


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    _write_text(path, json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def _write_text(path: Path, text: str) -> None:
    """Write UTF-8; half a character, from a file name of another encoding, becomes its escape
    (`\\udcff`, which JSON and Python read back)."""
    path.write_text(text, "utf-8", errors="backslashreplace", newline="\n")


_FORMAT = {"format": "pt"}  # the metadata that transformers and PEFT expect
