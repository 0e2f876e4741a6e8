"""What an adapter folder says of itself, read without torch.

A folder in; its provenance (`d2l.json`), its PEFT config and the shapes of its tensors out.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.errors import AdapterError

FORMAT = 1  # of d2l.json
CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
PROVENANCE = "d2l.json"
MEMORY = "memory.safetensors"
CHAT_TEMPLATE = "chat_template.jinja"
CARD = "README.md"
#: A header larger than this belongs to no adapter (safetensors itself allows 100 MB).
_MAX_HEADER_BYTES = 16 << 20
#: Bytes of a value by its type, for types that adapters come in.
_WIDTHS = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1}
_WIDTHS |= {"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1}


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
        """Rank that the PEFT config declares; 0 where it declares none."""
        rank = self.config.get("r", 0)
        if type(rank) is not int:  # not isinstance: true is an int to it
            raise AdapterError(f"{self.folder / CONFIG}: r is {rank!r}, expected a whole number")
        return rank


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter."""
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def read_info(folder: Path) -> AdapterInfo:
    """Read everything but the weights; raises AdapterError."""
    try:
        return _read_info(folder)
    except OSError as error:  # no permission, or a name that no file can have
        raise AdapterError(
            f"{folder}: cannot be read ({error.strerror})",
            hint="check the path and its permissions",
        ) from error


def _read_info(folder: Path) -> AdapterInfo:
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
        provenance=_read_provenance(provenance) if provenance.is_file() else None,
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
            tensors, stop = _parse_header(stream.read(length))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise AdapterError(
                f"{path}: the safetensors header is damaged", hint="compile the document again"
            ) from error
    if size != 8 + length + stop:
        raise AdapterError(
            f"{path}: cut short or padded: {size:,} bytes, its header says {8 + length + stop:,}",
            hint="compile the document again",
        )
    return tensors


def _parse_header(raw: bytes) -> tuple[dict[str, TensorInfo], int]:
    """Tensors, and the bytes they take in all; values must lie side by side, as they are stored."""
    header = json.loads(raw)
    header.pop("__metadata__", None)
    tensors, stop = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        shape = tuple(entry["shape"])
        start, end = entry["data_offsets"]
        if any(type(number) is not int or number < 0 for number in (*shape, start, end)):
            raise ValueError(f"{name}: a size or an offset is not a whole number")
        if start != stop or end - start != math.prod(shape) * _WIDTHS[entry["dtype"]]:
            raise ValueError(f"{name}: the offsets do not fit the shape")
        tensors[name] = TensorInfo(entry["dtype"], shape)
        stop = end
    return tensors, stop


def _read_provenance(path: Path) -> dict[str, Any]:
    found = _read_object(path)
    if found.get("format") != FORMAT:
        raise AdapterError(
            f"{path}: format is {found.get('format')!r}, this d2l reads {FORMAT}",
            hint="use the d2l that wrote it, or compile the document again",
        )
    return found


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(f"{path}: not readable as JSON", hint=str(error)) from error
    if not isinstance(found, dict):
        raise AdapterError(f"{path}: expected a JSON object")
    return found
