"""The beginning of a GGUF file, walked before a library believes it: counts that fit the file.

A path in, nothing out but a refusal. Layout: ggml-org/ggml, docs/gguf.md at version 3; files of
versions 2 and 3 are alike, and older or big-endian ones are refused by who reads them.
"""

import struct
from pathlib import Path
from typing import BinaryIO

#: More than any model has: the largest have some hundred fields and tens of thousands of tensors.
_MAX_FIELDS, _MAX_TENSORS, _MAX_ELEMENTS = 10_000, 100_000, 20_000_000
_MAX_NAME, _MAX_DIMENSIONS, _MAX_DEPTH = 65_535, 4, 2
_STRING, _ARRAY = 8, 9
#: Bytes of a value by its type.
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def refuse_false_header(path: Path) -> None:
    """Raise ValueError where a header announces more than the file can hold."""
    try:
        with path.open("rb") as stream:
            _Header(stream, path.stat().st_size).walk()
    except struct.error as error:
        raise ValueError("it ends too soon") from error


class _Header:
    """A walk over fields and tensors; raises ValueError or struct.error."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self._size = size_bytes
        self._n_elements = 0

    def walk(self) -> None:
        """Go over everything before the tensors' values."""
        _, version, n_tensors, n_fields = self._read("<4sIQQ")
        if version not in (2, 3):
            return  # the library says which it takes
        self._bound("fields", n_fields, _MAX_FIELDS)
        self._bound("tensors", n_tensors, _MAX_TENSORS)
        for _ in range(n_fields):
            self._skip_string(_MAX_NAME)
            self._skip_value(*self._read("<I"))
        for _ in range(n_tensors):
            self._skip_string(_MAX_NAME)
            (n_dimensions,) = self._read("<I")
            self._bound("dimensions", n_dimensions, _MAX_DIMENSIONS)
            self._skip(8 * n_dimensions + 4 + 8)

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
    def _bound(what: str, found: int, most: int) -> None:
        if found > most:
            raise ValueError(f"it announces {found:,} {what}")
