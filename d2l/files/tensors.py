"""Safetensors files: names, types and shapes, read without torch; and the tensors themselves.

A damaged file is an error for `read_tensors`, and no file for `find_tensors`.
"""

import hashlib
import json
import math
import os
import weakref
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import safetensors
from safetensors import SafetensorError

from d2l.errors import AdapterError, D2LError
from d2l.memory import refuse_shortage

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

T = TypeVar("T")
#: Errors of reading and writing files that may hold tensors: safetensors wraps the system's errors,
#: such as that of a full disk, in an error of its own.
FILE_ERRORS = (OSError, SafetensorError)

#: Message for a file that has not the digest of its record.
CHANGED = "was changed, or belongs to another adapter"

#: Most bytes of a header, and the share of the file beyond: a tensor takes some 150 bytes of it.
_MOST_HEADER_BYTES, _HEADER_SHARE = 1 << 20, 4
#: Names of the types that d2l reads, in torch and numpy, by the format's; numpy has no bfloat16.
_TYPES = {"BF16": "bfloat16", "F16": "float16", "F32": "float32", "F64": "float64", "BOOL": "bool"}
_TYPES |= {"I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8"}
_NAMES = {f"torch.{name}": dtype for dtype, name in _TYPES.items()}
_AGAIN = "compile the document again"


class TensorInfo(NamedTuple):
    """Type and shape of a tensor, as the header of a safetensors file has them."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Read names, types and shapes of a safetensors file, but no values; raises AdapterError.

    The file is opened for numpy, which does not load torch.
    """
    try:
        with path.open("rb") as stream:  # the header stands behind its length
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(8), "little")
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read ({error.strerror})", hint=_AGAIN) from error
    if not 2 <= length <= min(_MOST_HEADER_BYTES + size // _HEADER_SHARE, size - 8):
        raise AdapterError(
            f"{path}: not a safetensors file, or cut short ({size:,} bytes)", hint=_AGAIN
        )
    try:
        with safetensors.safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            return {
                name: TensorInfo(values.get_dtype(), tuple(values.get_shape()))
                for name, values in slices.items()
            }
    except FILE_ERRORS as error:
        refuse_shortage(error)
        raise _explain(path, size, str(error)) from error


def _explain(path: Path, size: int, message: str) -> AdapterError:
    """Explain the library's message about a header."""
    if "incomplete" in message.lower():
        return AdapterError(f"{path}: cut short or padded ({size:,} bytes)", hint=_AGAIN)
    if "unknown variant" in message:
        return AdapterError(
            f"{path}: holds values of a type that safetensors {safetensors.__version__} does not "
            "know",
            hint="pip install --upgrade safetensors",
        )
    return AdapterError(f"{path}: the safetensors header is damaged", hint=_AGAIN)


def read_tensors(
    path: Path,
    error: type[D2LError],
    *,
    says: str = "cannot be read",
    hint: str | None = None,
    sha256: str | None = None,
) -> "dict[str, Tensor]":
    """Read all tensors of a file to the CPU; raises the `error` given for a damaged file, or one of
    another digest. The file is not mapped: if somebody cuts a mapped file, reading it ends the
    process with SIGBUS."""
    try:
        file = TensorFile(path)
        tensors = file.read(sorted(file.infos))
        if sha256 is not None and sha256 != file.digest(tensors):
            raise error(f"{path}: {CHANGED}", hint=hint)
        return tensors
    except FILE_ERRORS as problem:
        refuse_shortage(problem)
        reason = getattr(problem, "strerror", None) or problem
        raise error(f"{path}: {says} ({reason})", hint=hint) from problem


def write_tensors(
    path: Path,
    infos: Mapping[str, TensorInfo],
    tensors: "Iterable[Tensor]",
    metadata: Mapping[str, str],
) -> None:
    """Write a safetensors file of tensors of one type, which are taken from the iterable one by
    one, so that only one is in memory. The bytes equal those of the library's writer, which needs
    all tensors at once. `infos` name the tensors in the order of their names. Raises OSError."""
    header: dict[str, Any] = {"__metadata__": metadata}
    stop = 0
    for name, (dtype, shape) in infos.items():
        start, stop = stop, stop + math.prod(shape) * (4 if dtype == "F32" else 2)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": (start, stop)}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            file.write(view_bytes(tensor))


def compare_written(
    path: Path,
    written: Mapping[str, T],
    read: Mapping[str, T],
    equal: Callable[[T, T], object],
    error: type[D2LError],
) -> None:
    """Raise the error given unless the entries read back from a file equal those written."""
    names = written.keys() | read.keys()
    same = [n for n in written.keys() & read.keys() if equal(written[n], read[n])]
    if len(same) < len(names):
        raise error(
            f"{path.name}: {len(names) - len(same)} of {len(names)} entries read back from the "
            "disk differ from those written",
            hint="write to another disk: this one is damaged or full",
        )


def describe_tensor(tensor: "Tensor") -> TensorInfo:
    """Describe a tensor of bf16, fp16 or fp32 as a header does."""
    return TensorInfo(_NAMES[str(tensor.dtype)], tuple(tensor.shape))


def view_bytes(tensor: "Tensor") -> Any:
    """View the bytes of a tensor on the CPU; only a tensor that is not contiguous is copied."""
    import torch

    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


class TensorFile:
    """An open safetensors file, whose tensors are read one by one; it is not mapped either."""

    def __init__(self, path: Path) -> None:
        """Raises SafetensorError for a damaged header, and OSError."""
        self._file = path.open("rb")
        weakref.finalize(self, self._file.close)
        with safetensors.safe_open(path, framework="np"):
            pass  # the header was checked
        head = self._file.read(8)
        text = self._file.read(int.from_bytes(head, "little"))
        self._sha256 = hashlib.sha256(head + text)
        self._start = 8 + len(text)
        self._header: dict[str, Any] = json.loads(text)
        self._header.pop("__metadata__", None)  # of a stranger it may be large
        self._stamp = self._read_stamp()

    @cached_property
    def infos(self) -> dict[str, TensorInfo]:
        """Types and shapes of the tensors, by name."""
        rows = self._header.items()
        return {name: TensorInfo(row["dtype"], tuple(row["shape"])) for name, row in rows}

    def digest(self, tensors: "Mapping[str, Tensor]") -> str:
        """SHA-256 of the file, in hex, by all of its tensors as they were read."""
        digest = self._sha256.copy()
        for name in sorted(tensors, key=lambda name: self._header[name]["data_offsets"]):
            digest.update(view_bytes(tensors[name]))
        return digest.hexdigest()

    def read(self, names: Iterable[str]) -> "dict[str, Tensor]":
        """Read tensors to the CPU, by name, each into memory of its own; raises OSError or
        SafetensorError, also if the file was changed since it was opened."""
        import torch

        names = self._list(names)
        types = {name: getattr(torch, _TYPES[self.infos[name].dtype]) for name in names}
        tensors = {name: torch.empty(self.infos[name].shape, dtype=types[name]) for name in names}
        self._fill({name: view_bytes(tensor) for name, tensor in tensors.items()})
        return tensors

    def read_arrays(self, names: Iterable[str]) -> "dict[str, np.ndarray[Any, Any]]":
        """Read tensors as numpy's arrays, of all types but bf16; raises as `read`."""
        import numpy as np

        infos = {name: self.infos[name] for name in self._list(names)}
        arrays = {name: np.empty(own.shape, _TYPES[own.dtype]) for name, own in infos.items()}
        self._fill({name: array.reshape(-1).view("u1").data for name, array in arrays.items()})
        return arrays

    def _list(self, names: Iterable[str]) -> list[str]:
        """List names, whose types are known."""
        names = list(names)
        for name in names:
            if (dtype := self.infos[name].dtype) not in _TYPES:
                raise SafetensorError(f"{name} has the type {dtype}")
        return names

    def _fill(self, buffers: Mapping[str, Any]) -> None:
        """Read the bytes of tensors into buffers."""
        is_whole = True
        for name, buffer in buffers.items():
            start, stop = self._header[name]["data_offsets"]
            self._file.seek(self._start + start)
            is_whole &= self._file.readinto(buffer) == stop - start
        if self._read_stamp() not in (self._stamp, None):
            raise OSError(f"{self._file.name} was changed")
        if not is_whole:
            raise SafetensorError(f"{self._file.name} is cut short")

    def _read_stamp(self) -> tuple[int, int] | None:
        """Size and time of change; None for a removed file, which nobody else can change."""
        facts = os.fstat(self._file.fileno())
        return (facts.st_size, facts.st_ctime_ns) if facts.st_nlink else None


def all_finite(tensor: "Tensor") -> "Tensor":
    """True if every value is a finite number, as a tensor of one value on the same device. Minimum
    and maximum in one pass tell: that is twenty times as fast as `isfinite`."""
    import torch

    if not tensor.numel() or tensor.device.type == "mps":  # neither has a minimum here
        return tensor.isfinite().all()
    return torch.stack(tensor.aminmax()).isfinite().all()


def find_tensors(path: Path) -> "tuple[dict[str, Tensor], dict[str, str]] | None":
    """Read mapped tensors and metadata of a file that `keep_tensors` wrote; None if the file is
    missing or damaged."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except FILE_ERRORS:
        return None
