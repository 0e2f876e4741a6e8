"""What an adapter is, in values: read without its weights and without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.adapters.info import AdapterInfo, read_info
from d2l.adapters.module_names import list_layers, list_short


@dataclass(frozen=True)
class AdapterView:
    """An adapter's facts for programs, and what the text view draws from."""

    info: AdapterInfo
    values: dict[str, Any]


def inspect_adapter(folder: Path) -> AdapterView:
    """Read an adapter folder's facts; raises AdapterError. Works for adapters of other tools."""
    info = read_info(folder)
    values = {
        "adapter": str(folder),
        "base": info.config.get("base_model_name_or_path"),
        "rank": info.rank,
        "lora_alpha": info.config.get("lora_alpha"),
        "modules": list_short(n.split(".lora_A.")[0] for n in info.tensors if ".lora_A." in n),
        "layers": list_layers(info.tensors),
        "dtype": sorted({tensor.dtype for tensor in info.tensors.values()}),
        "size_bytes": info.size_bytes,
        "provenance": None if info.provenance is None else info.provenance.to_json(),
    }
    return AdapterView(info, values)
