"""Header of a GGUF file: checked before a library trusts it, since its counts must fit the file.

Layout: ggml-org/ggml, docs/gguf.md at version 3; versions 2 and 3 are alike; the library refuses
older and big-endian files.
"""

import math
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

from d2l.errors import BaseModelError
from d2l.files.cache import file_digest

#: Bounds: the largest models have some hundred fields and tens of thousands of tensors.
_MAX_FIELDS, _MAX_TENSORS, _MAX_ELEMENTS = 10_000, 100_000, 20_000_000
_MAX_NAME, _MAX_DIMENSIONS, _MAX_DEPTH = 65_535, 4, 2
_UINT32, _STRING, _ARRAY = 4, 8, 9
_MAGIC = int.from_bytes(b"GGUF", "little")
_ALIGNMENT = b"general.alignment", 32  # the field of tensors' alignment in bytes, and its default
#: Values in a byte of the smallest kind of numbers, bytes of a value of the largest, and bytes
#: between tensors and behind them.
_PER_BYTE, _WIDEST, _PADDING = 8, 8, 1 << 20
#: Bytes of a value by its type.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class GgufTensor(NamedTuple):
    """Tensor of a file: its kind (gguf.GGMLQuantizationType), its shape as torch writes it, and the
    byte where its values begin."""

    kind: int
    shape: tuple[int, ...]
    start: int


def damaged(path: Path, reason: str) -> BaseModelError:
    """Make the error for a file that does not hold what it announces."""
    return BaseModelError(
        f"{path}: this GGUF file is damaged or of an unsupported architecture", hint=reason
    )


def digest_gguf(path: Path) -> str:
    """SHA-256 of a GGUF file (`file_digest`); a file whose header does not fit its size is not
    read, and raises BaseModelError."""
    return file_digest(path, check=refuse_false_header)


def refuse_false_header(path: Path) -> None:
    """Raise BaseModelError if a header announces more data than the file can hold, or far less."""
    read_tensors(path)


def read_tensors(path: Path) -> dict[str, GgufTensor]:
    """Read the tensors of a file by name; raises BaseModelError as `refuse_false_header`."""
    try:
        with path.open("rb") as stream:
            return _Header(stream, path.stat().st_size).walk()
    except (ValueError, struct.error) as error:
        too_short = isinstance(error, struct.error)
        raise damaged(path, "it ends too soon" if too_short else str(error)) from error


class _Header:
    """A walk over fields and tensors; raises ValueError or struct.error."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self._size = size_bytes
        self._n_elements = 0

    def walk(self) -> dict[str, GgufTensor]:
        """Read all fields and tensor descriptions before the values; returns the latter."""
        magic, version, n_tensors, n_fields = self._read("<IIQQ")
        if magic != _MAGIC or version not in (2, 3):
            raise ValueError("it does not begin like GGUF of version 2 or 3")
        self._bound("fields", n_fields, _MAX_FIELDS)
        self._bound("tensors", n_tensors, _MAX_TENSORS)
        field, alignment = _ALIGNMENT
        for _ in range(n_fields):
            name, (kind,) = self._read_string(), self._read("<I")
            if name == field and kind == _UINT32:
                (alignment,) = self._read("<I")
            else:
                self._skip_value(kind)
        least = most = 0  # bytes of all tensors
        tensors = {}
        for _ in range(n_tensors):
            name, (n_dimensions,) = self._read_string(), self._read("<I")
            self._bound("dimensions", n_dimensions, _MAX_DIMENSIONS)
            shape = self._read(f"<{n_dimensions}Q")[::-1]
            n_values = math.prod(shape)
            kind, offset = self._read("<IQ")
            tensors[name.decode("utf-8", "replace")] = GgufTensor(kind, shape, offset)
            least = max(least, offset + n_values // _PER_BYTE)
            most = max(most, offset + n_values * _WIDEST)
        start = self._stream.tell()
        if start + least > self._size:
            raise ValueError("it ends too soon")
        if start + most + _PADDING < self._size:
            raise ValueError(f"it has {self._size:,} bytes, far more than its tensors have")
        start += -start % max(alignment, 1)
        return {name: one._replace(start=start + one.start) for name, one in tensors.items()}

    def _skip_value(self, kind: int, depth: int = 0) -> None:
        if kind == _STRING:
            self._skip_string(self._size)
        elif kind == _ARRAY and depth < _MAX_DEPTH:
            inner, count = self._read("<IQ")
            if inner in _SIZES:
                self._bound("bytes in an array", count, self._size)
                self._skip(count * _SIZES[inner])
                return
            self._n_elements += count
            self._bound("elements", self._n_elements, _MAX_ELEMENTS)
            for _ in range(count):
                self._skip_value(inner, depth + 1)
        elif kind in _SIZES:
            self._skip(_SIZES[kind])
        else:
            raise ValueError(f"a value of type {kind}")

    def _read_string(self) -> bytes:
        (length,) = self._read("<Q")
        self._bound("bytes in a text", length, _MAX_NAME)
        return self._stream.read(length)

    def _skip_string(self, most: int) -> None:
        (length,) = self._read("<Q")
        self._bound("bytes in a text", length, most)
        self._skip(length)

    def _skip(self, n_bytes: int) -> None:
        if self._stream.tell() + n_bytes > self._size:
            raise ValueError("it ends too soon")
        self._stream.seek(n_bytes, 1)

    def _read(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self._stream.read(struct.calcsize(form)))

    @staticmethod
    def _bound(items: str, count: int, most: int) -> None:
        if count > most:
            raise ValueError(f"it announces {count:,} {items}")
