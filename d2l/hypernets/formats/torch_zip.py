"""The zip container of `torch.save`: which entries there are, and the bytes of one.

Takes an open file. Python's `zipfile` lists the entries; their bytes are read straight from the
file, since torch stores them uncompressed. Knows nothing of what the entries mean.
"""

import os
import struct
import zipfile
from io import BufferedReader

from d2l.errors import CheckpointError
from d2l.hypernets.formats.native import FETCH_AGAIN
from d2l.hypernets.formats.showing import show

FOREIGN = "nothing was run; this is not what a network's trainer writes: do not open it elsewhere"
BROKEN_ZIP = "is a damaged or truncated zip file"

# What `zipfile` raises on a directory of nonsense, besides its own error.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    NotImplementedError,
    ValueError,
    OverflowError,
    struct.error,
)


def list_entries(file: BufferedReader) -> dict[str, zipfile.ZipInfo]:
    """List the zip's entries; only stored ones, since a compressed one could grow without end."""
    head = file.read(512)
    if not head.startswith(b"PK\x03\x04"):
        _refuse_other_format(head)
    try:
        # Used for its central directory only: the bytes are read straight from the file.
        listed = zipfile.ZipFile(file).infolist()
    except _ZIP_ERRORS as error:
        raise CheckpointError(BROKEN_ZIP, hint=FETCH_AGAIN) from error
    entries = {entry.filename: entry for entry in listed}
    if len(entries) != len(listed):
        raise CheckpointError("has two entries of the same name", hint=FOREIGN)
    for entry in listed:
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise CheckpointError(
                f"entry {show(entry.filename)} is compressed, which torch.save never does",
                hint=FOREIGN,
            )
    return entries


def read_entry(file: BufferedReader, entry: zipfile.ZipInfo) -> bytearray:
    """Read a stored entry's bytes from where its local header says that they start."""
    limit = os.fstat(file.fileno()).st_size
    header = b""
    if 0 <= entry.header_offset < limit:
        file.seek(entry.header_offset)
        header = file.read(30)
    if len(header) < 30 or not header.startswith(b"PK\x03\x04"):
        raise CheckpointError(BROKEN_ZIP, hint=FETCH_AGAIN)
    skip = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = file.seek(skip, os.SEEK_CUR)
    if start + entry.file_size > limit:
        raise CheckpointError(BROKEN_ZIP, hint=FETCH_AGAIN)
    data = bytearray(entry.file_size)
    if file.readinto(data) != len(data):
        raise CheckpointError(BROKEN_ZIP, hint=FETCH_AGAIN)
    return data


def _refuse_other_format(head: bytes) -> None:
    if not head:
        raise CheckpointError("is an empty file", hint=FETCH_AGAIN)
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            "is a Git LFS pointer, not the file itself", hint="run `git lfs pull`"
        )
    if head.startswith(b"\x80") or head[257:262] == b"ustar":
        raise CheckpointError(
            "is in an old format (a bare pickle or a tar file), expected a zip of torch.save",
            hint="only its owner can safely save it again with PyTorch 1.6 or later",
        )
    raise CheckpointError("is not a file made by torch.save", hint=FETCH_AGAIN)
