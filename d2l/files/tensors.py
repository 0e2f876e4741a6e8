"""Safetensors files: names, types and shapes of what is in them, read without torch."""

from dataclasses import dataclass
from pathlib import Path

import safetensors

from d2l.errors import AdapterError

#: A header larger than this belongs to no adapter (safetensors itself allows 100 MB).
_MAX_HEADER_BYTES = 16 << 20
_AGAIN = "compile the document again"


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a safetensors file, as its header describes it."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Names, dtypes and shapes of a safetensors file; raises AdapterError.

    The file is opened for numpy, which does not load torch, and no values are read.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:  # the header stands behind its length
        length = int.from_bytes(stream.read(8), "little")
    if not 2 <= length <= min(_MAX_HEADER_BYTES, size - 8):
        raise AdapterError(
            f"{path}: not a safetensors file, or cut short ({size:,} bytes)", hint=_AGAIN
        )
    try:
        with safetensors.safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: TensorInfo(found.get_dtype(), tuple(found.get_shape()))
                for name, found in slices.items()
            }
    except safetensors.SafetensorError as error:
        raise _explain(path, size, str(error)) from error


def _explain(path: Path, size: int, said: str) -> AdapterError:
    """Our words for what the library says of a header."""
    if "incomplete" in said.lower():
        return AdapterError(f"{path}: cut short or padded ({size:,} bytes)", hint=_AGAIN)
    if "unknown variant" in said:
        return AdapterError(
            f"{path}: holds values of a type that safetensors {safetensors.__version__} does not "
            "know",
            hint="pip install --upgrade safetensors",
        )
    return AdapterError(f"{path}: the safetensors header is damaged", hint=_AGAIN)
