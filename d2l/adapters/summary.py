"""An adapter's facts for programs: read without its weights and without torch."""

from typing import Any

from d2l.adapters.info import AdapterInfo
from d2l.adapters.module_names import list_layers, list_short


def describe_adapter(info: AdapterInfo) -> dict[str, Any]:
    """Describe an adapter, of other tools too, in the values that `d2l inspect --json` prints."""
    return {
        "adapter": str(info.folder),
        "base": info.config.get("base_model_name_or_path"),
        "rank": info.rank,
        "lora_alpha": info.config.get("lora_alpha"),
        "modules": list_short(n.split(".lora_A.")[0] for n in info.tensors if ".lora_A." in n),
        "layers": list_layers(info.tensors),
        "dtype": sorted({tensor.dtype for tensor in info.tensors.values()}),
        "size_bytes": info.size_bytes,
        "n_parts": info.n_parts,
        "parts_bytes": info.parts_bytes,
        "provenance": None if info.provenance is None else info.provenance.to_json(),
    }
