"""What an adapter folder says of itself, read without torch.

A folder in; its provenance (`d2l.json`), its PEFT config and the shapes of its tensors out.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.errors import AdapterError

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PROVENANCE = "d2l.json"
MEMORY = "memory.safetensors"
CHAT_TEMPLATE = "chat_template.jinja"
CARD = "README.md"
#: A header larger than this belongs to no adapter (safetensors itself allows 100 MB).
_MAX_HEADER_BYTES = 16 << 20


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a safetensors file, as its header describes it."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class AdapterInfo:
    """An adapter folder without its weights; `provenance` is None for adapters of other tools."""

    folder: Path
    config: Mapping[str, Any]
    tensors: Mapping[str, TensorInfo]
    provenance: Mapping[str, Any] | None
    size_bytes: int

    @property
    def rank(self) -> int:
        """Rank that the PEFT config declares."""
        return int(self.config.get("r", 0))


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def read_info(folder: Path) -> AdapterInfo:
    """Read everything but the weights; raises AdapterError."""
    if not folder.is_dir():
        raise AdapterError(
            f"{folder}: no such adapter folder",
            hint="make one with `d2l compile DOCUMENT -o ADAPTER`",
        )
    if not is_adapter(folder):
        raise AdapterError(
            f"{folder}: not an adapter ({CONFIG} and {WEIGHTS} are needed)",
            hint="name the folder that `d2l compile` wrote",
        )
    provenance = folder / PROVENANCE
    return AdapterInfo(
        folder=folder,
        config=_read_object(folder / CONFIG),
        tensors=read_header(folder / WEIGHTS),
        provenance=_read_object(provenance) if provenance.is_file() else None,
        size_bytes=sum(path.stat().st_size for path in folder.iterdir() if path.is_file()),
    )


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Names, dtypes and shapes of a safetensors file (its header is JSON behind a u64 length)."""
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        size = path.stat().st_size
        if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
            raise AdapterError(
                f"{path}: not a safetensors file, or cut short ({size:,} bytes)",
                hint="compile the document again",
            )
        try:
            header = json.loads(stream.read(length))
            stop = max(
                (t["data_offsets"][1] for n, t in header.items() if n[:2] != "__"), default=0
            )
            tensors = {
                name: TensorInfo(str(entry["dtype"]), tuple(entry["shape"]))
                for name, entry in header.items()
                if name != "__metadata__"
            }
        except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise AdapterError(
                f"{path}: the safetensors header is damaged", hint="compile the document again"
            ) from error
    if size != 8 + length + stop:
        raise AdapterError(
            f"{path}: cut short or padded: {size:,} bytes, its header says {8 + length + stop:,}",
            hint="compile the document again",
        )
    return tensors


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path}: not readable as JSON", hint=str(error)) from error
    if not isinstance(found, dict):
        raise AdapterError(f"{path}: expected a JSON object")
    return found
