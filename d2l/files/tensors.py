"""Safetensors files: names, types and shapes of what is in them, read without torch; and tensors.

Whoever reads one says by `read_tensors` or `find_kept` what a damaged one means to him.
"""

import json
import math
import os
import weakref
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import safetensors
from safetensors import SafetensorError

from d2l.errors import AdapterError, D2LError
from d2l.memory import refuse_shortage

if TYPE_CHECKING:
    from torch import Tensor

#: What reading and writing files raises where tensors are among them: safetensors hides what the
#: system says, such as a full disk, in an error of its own.
FILE_ERRORS = (OSError, SafetensorError)

#: A header larger than this belongs to no adapter (safetensors itself allows 100 MB).
_MAX_HEADER_BYTES = 16 << 20
#: What the format calls the types that are written here.
_DTYPES = {"torch.bfloat16": "BF16", "torch.float16": "F16", "torch.float32": "F32"}
_AGAIN = "compile the document again"


class TensorInfo(NamedTuple):
    """One tensor of a safetensors file, as its header describes it."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Names, dtypes and shapes of a safetensors file; raises AdapterError.

    The file is opened for numpy, which does not load torch, and no values are read.
    """
    try:
        with path.open("rb") as stream:  # the header stands behind its length
            size = os.fstat(stream.fileno()).st_size
            length = int.from_bytes(stream.read(8), "little")
    except OSError as error:
        raise AdapterError(f"{path}: cannot be read ({error.strerror})", hint=_AGAIN) from error
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
    except FILE_ERRORS as error:
        refuse_shortage(error)
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


def read_tensors(
    path: Path, error: type[D2LError], *, says: str = "cannot be read", hint: str | None = None
) -> "dict[str, Tensor]":
    """Tensors of a file on the CPU; what is wrong with it is one line, the `error`. The file is not
    mapped: to read on in a mapped file that somebody cuts ends the process with SIGBUS."""
    from safetensors.torch import load

    try:
        return dict(sorted(load(path.read_bytes()).items()))  # `load` has no order of its own
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
    """Write a safetensors file of tensors of one type, each when it is asked for, so that only one
    is in memory: the bytes are those of the library's own writer, which wants all at once.

    `infos` name the tensors in the order of their names. Raises OSError.
    """
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


def describe_tensor(tensor: "Tensor") -> TensorInfo:
    """What a header says of a tensor of bf16, fp16 or fp32."""
    return TensorInfo(_DTYPES[str(tensor.dtype)], tuple(tensor.shape))


def view_bytes(tensor: "Tensor") -> Any:
    """The bytes of a tensor on the CPU, not copied where it is contiguous."""
    import torch

    return tensor.contiguous().view(-1).view(torch.uint8).numpy().data


class TensorFile:
    """A safetensors file, open, whose tensors are read one by one; it is not mapped either."""

    def __init__(self, path: Path) -> None:
        """Raises AdapterError for a damaged header, and OSError."""
        read_header(path)
        self._file = path.open("rb")
        weakref.finalize(self, self._file.close)
        length = int.from_bytes(self._file.read(8), "little")
        self._header: dict[str, Any] = json.loads(self._file.read(length))
        self._start = 8 + length
        self._stamp = self._read_stamp()

    @property
    def names(self) -> set[str]:
        """Names of the tensors."""
        return self._header.keys() - {"__metadata__"}

    def read(self, names: Sequence[str]) -> "dict[str, Tensor]":
        """Tensors on the CPU, by name; raises OSError or SafetensorError, also where the file was
        changed since it was opened."""
        from safetensors.torch import load

        header, data = {}, b""
        for name in names:
            start, end = self._header[name]["data_offsets"]
            self._file.seek(self._start + start)
            header[name] = {
                **self._header[name],
                "data_offsets": (len(data), len(data) + end - start),
            }
            data += self._file.read(end - start)
        if self._read_stamp() not in (self._stamp, None):
            raise OSError(f"{self._file.name} was changed")
        text = json.dumps(header).encode()
        return load(len(text).to_bytes(8, "little") + text + data)

    def _read_stamp(self) -> tuple[int, int] | None:
        """Size and time of change; None of a removed file, which nobody else can change."""
        facts = os.fstat(self._file.fileno())
        return (facts.st_size, facts.st_ctime_ns) if facts.st_nlink else None


def all_finite(tensor: "Tensor") -> "Tensor":
    """Whether every value is a finite number, as a tensor of one value on the same device. The
    smallest and the largest tell, in one pass: twenty times as fast as to look at each."""
    import torch

    if not tensor.numel() or tensor.device.type == "mps":  # neither has these ends
        return tensor.isfinite().all()
    return torch.stack(tensor.aminmax()).isfinite().all()


def find_kept(path: Path) -> "tuple[dict[str, Tensor], dict[str, str]] | None":
    """Tensors, mapped, and metadata of a file that was kept to save work: None where there is none,
    or a damaged one."""
    if not path.is_file():
        return None
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, dict(file.metadata() or {})
    except FILE_ERRORS:
        return None
