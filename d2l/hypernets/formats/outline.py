"""The outline of a file made by `torch.save`: its configuration without its weights.

A remote file in, a local one of the same length out, with holes instead of weights. So a plan can
read the configuration before gigabytes are downloaded.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from d2l.hypernets.formats.pickles import ObjectRecord, TensorRecord, list_entries, read_object

#: Bytes to copy from the file's beginning and end: the pickle comes first and the directory last,
#: some 50 KB each.
_ENDS = 1 << 18
#: Bytes of an entry's header, name and padding.
_HEADER = 1 << 10


def write_outline(source: BinaryIO, target: Path) -> None:
    """Copy the bytes that `pickles.read_object` reads, and the tensors of whole numbers; raises
    CheckpointError unless `torch.save` made the file."""
    n_bytes = source.seek(0, os.SEEK_END)
    with target.open("wb") as file:
        file.truncate(n_bytes)

        def copy(first: int, last: int) -> None:
            source.seek(first)
            file.seek(first)
            file.write(source.read(min(last, n_bytes) - first))
            file.flush()

        copy(0, _ENDS)
        copy(max(0, n_bytes - _ENDS), n_bytes)
        with target.open("rb") as written:
            entries = list_entries(written)
        wanted = tuple(f"/data/{key}" for key in _list_whole_numbers(read_object(target)))
        for name, entry in entries.items():
            if name.endswith(wanted):
                copy(entry.header_offset, entry.header_offset + _HEADER + entry.file_size)


def _list_whole_numbers(value: object) -> Iterator[str]:
    """List the storages of the tensors of whole numbers, which belong to configurations."""
    if isinstance(value, TensorRecord) and not value.storage.dtype.is_floating_point:
        yield value.storage.key
    inner = value.values if isinstance(value, ObjectRecord) else value
    for item in inner.values() if isinstance(inner, dict) else ():
        yield from _list_whole_numbers(item)
