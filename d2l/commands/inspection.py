"""What an adapter or a checkpoint is, without loading weights; `inspect` runs without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.adapters.info import AdapterInfo, read_info


@dataclass(frozen=True)
class AdapterView:
    """An adapter's facts for programs, and what the text view draws from."""

    info: AdapterInfo
    values: dict[str, Any]


def inspect_adapter(folder: Path) -> AdapterView:
    """Read an adapter folder's facts; raises AdapterError. Works for adapters of other tools."""
    info = read_info(folder)
    modules = sorted(
        {name.split(".lora_A.")[0].rsplit(".", 1)[1] for name in info.tensors if ".lora_A." in name}
    )
    layers = sorted(
        {
            int(part)
            for name in info.tensors
            for before, part in zip(name.split("."), name.split(".")[1:], strict=False)
            if before == "layers" and part.isdigit()
        }
    )
    values = {
        "adapter": str(folder),
        "base": info.config.get("base_model_name_or_path"),
        "rank": info.rank,
        "lora_alpha": info.config.get("lora_alpha"),
        "modules": modules,
        "layers": layers,
        "dtype": sorted({tensor.dtype for tensor in info.tensors.values()}),
        "size_bytes": info.size_bytes,
        "provenance": info.provenance,
    }
    return AdapterView(info, values)


def list_checkpoints() -> list[dict[str, Any]]:
    """The table of known checkpoints, with what is on disk; opens no socket."""
    from d2l.hypernets.registry import list_aliases

    return [
        {
            "name": alias.name,
            "network": alias.network,
            "base": alias.base,
            "base_license": alias.license,
            "size_bytes": alias.size_bytes,
            "source": alias.location or "built in",
            "on_disk": str(path) if path is not None else None,
        }
        for alias, path in list_aliases()
    ]


def describe_checkpoint(name: str, *, offline: bool) -> dict[str, Any]:
    """A checkpoint's configuration and place; raises CheckpointError."""
    from dataclasses import asdict

    from d2l.hypernets.checkpoints import checkpoint_digest, find_format, read_config
    from d2l.hypernets.registry import find_checkpoint

    files = find_checkpoint(name, offline=offline)
    config = read_config(files.path)
    return {
        "name": files.name,
        "path": str(files.path),
        "format": find_format(files.path).name,
        "network": config.kind,
        "sha256": checkpoint_digest(files.path),
        "config": asdict(config),  # type: ignore[call-overload]
    }
