"""Entries of the cache folder: their sizes, and the removal of those unused for longest.

An entry is a file `NAME.safetensors` in a folder of `KINDS`. Reading an entry touches it, so the
modification time is the time of the last use.
"""

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from d2l.errors import OptionError
from d2l.files.cache import cache_dir
from d2l.files.leftovers import HIDDEN, remove

#: Kinds of entries, a folder each, that compiling makes again: weights of chunks, and joined ones.
CHUNKS, ASSEMBLED = "parts", "assembled"
KINDS = (CHUNKS, ASSEMBLED)
_SUFFIX = ".safetensors"
_MAX_SIZE = "D2L_CACHE_MAX_SIZE"
DEFAULT_MAX_BYTES = 5 * 10**9
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
#: A hidden folder this old, in seconds, was left by a process that was killed.
_ABANDONED_S = 3600.0


class CacheEntry(NamedTuple):
    """A file of the cache; `used` is the time of its last use, in seconds since 1970."""

    path: Path
    size_bytes: int
    used: float


def entry_path(kind: str, key: str) -> Path:
    """Path of an entry: below its first two digits, so that no folder has too many files."""
    return cache_dir() / kind / key[:2] / f"{key}{_SUFFIX}"


def list_entries(*kinds: str) -> list[CacheEntry]:
    """List entries of some kinds (default: all), those unused for longest first."""
    entries = [entry for kind in kinds or KINDS for entry in _walk(cache_dir() / kind)]
    return sorted(entries, key=lambda entry: (entry.used, entry.path))


def _walk(folder: Path) -> Iterator[CacheEntry]:
    for path in folder.glob(f"*/*{_SUFFIX}*"):
        with contextlib.suppress(OSError):  # another process removed it meanwhile
            stat = path.stat()
            if path.suffix == _SUFFIX:
                yield CacheEntry(path, stat.st_size, stat.st_mtime)
            elif re.fullmatch(HIDDEN, path.name) and time.time() - stat.st_mtime > _ABANDONED_S:
                remove(path)


def touch(path: Path) -> None:
    """Set an entry's time of use to now."""
    with contextlib.suppress(OSError):  # a read-only cache only forgets the order
        os.utime(path)


def prune(max_bytes: int) -> list[CacheEntry]:
    """Remove entries, those unused for longest first, until at most `max_bytes` are left; return
    the removed ones."""
    entries = list_entries()
    total = sum(entry.size_bytes for entry in entries)
    removed = []
    for entry in entries:
        if total <= max_bytes:
            break
        total -= entry.size_bytes
        with contextlib.suppress(OSError):
            entry.path.unlink(missing_ok=True)
            removed.append(entry)
    return removed


def clean() -> int:
    """Remove all of the cache folder: entries, bases, downloads and measurements. Returns the bytes
    freed."""
    root = cache_dir()
    before = folder_bytes(root)
    shutil.rmtree(root, ignore_errors=True)
    return before - folder_bytes(root)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files below a folder."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += Path(parent, name).lstat().st_size
    return total


def max_bytes() -> int:
    """Most bytes of all entries together: `D2L_CACHE_MAX_SIZE`, or 5 GB; raises OptionError."""
    given = os.environ.get(_MAX_SIZE)
    return parse_size(given, source=_MAX_SIZE) if given else DEFAULT_MAX_BYTES


def parse_size(text: str, *, source: str) -> int:
    """Bytes of a size such as "500MB", "5 GB" or "0"; raises OptionError, naming `source`."""
    match = re.fullmatch(r"([0-9]{1,15}(?:\.[0-9]{1,9})?)\s*([kmgt]?)b?", text.lower().strip())
    if match is None:
        raise OptionError(
            f"{source} is {text!r}, expected a size", hint="for example 500MB, 5GB or 0"
        )
    return int(float(match[1]) * _UNITS[match[2]])
