"""Safetensors files: names, types and shapes of what is in them, read without torch."""

import json
import math
from dataclasses import dataclass
from pathlib import Path

from d2l.errors import AdapterError

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
