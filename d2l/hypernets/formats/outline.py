"""The outline of a file made by `torch.save`: its configuration without its weights.

A remote file in, a local one of the same length out, with holes instead of weights. So a plan can
read the configuration before gigabytes are downloaded.
"""

import os
from pathlib import Path
from typing import BinaryIO

import torch

from d2l.hypernets.formats.pickles import list_tensors, read_object
from d2l.hypernets.formats.torch_zip import list_entries

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
        tensors = list_tensors(read_object(target)).values()
        # Whole numbers belong to configurations.
        whole = {tensor.storage.key for tensor in tensors if tensor.storage.dtype == torch.int64}
        wanted = tuple(f"/data/{key}" for key in whole)
        for name, entry in entries.items():
            if name.endswith(wanted):
                copy(entry.header_offset, entry.header_offset + _HEADER + entry.file_size)
