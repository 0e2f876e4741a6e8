"""Entries of the zip that `torch.save` writes: listed and read without decompression.

An open file in, entries and bytes out; raises CheckpointError for other formats.
"""

import os
import struct
import zipfile
from io import BufferedReader

from d2l.errors import CheckpointError
from d2l.hypernets.formats.fields import FETCH_AGAIN, show

FOREIGN = "nothing was run; this is not what a network's trainer writes: do not open it elsewhere"
BROKEN_ZIP = "is a damaged or truncated zip file"

# Errors of `zipfile` on an invalid directory.
_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, ValueError, OverflowError, struct.error)


def list_entries(file: BufferedReader) -> dict[str, zipfile.ZipInfo]:
    """List the zip's entries; raises CheckpointError for compressed ones, which may be bombs."""
    head = file.read(512)
    if not head.startswith(b"PK\x03\x04"):
        _refuse_other_format(head)
    try:
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
    """Read a stored entry's bytes behind its local header."""
    limit = os.fstat(file.fileno()).st_size
    file.seek(min(max(entry.header_offset, 0), limit))
    header = file.read(30)
    if len(header) == 30 and header.startswith(b"PK\x03\x04") and entry.header_offset >= 0:
        n_name, n_extra = struct.unpack("<HH", header[26:])
        if file.seek(n_name + n_extra, os.SEEK_CUR) + entry.file_size <= limit:
            data = bytearray(entry.file_size)
            if file.readinto(data) == len(data):
                return data
    raise CheckpointError(BROKEN_ZIP, hint=FETCH_AGAIN)


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
