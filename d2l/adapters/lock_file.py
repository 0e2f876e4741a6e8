"""`d2l.lock` in an adapter's folder: read, written, and compared with the files beside it.

A JSON object, read without torch; `compiler.lock` knows the meaning of its other values.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from d2l.adapters.info import LOCK
from d2l.errors import AdapterError
from d2l.files.atomic import replace_file
from d2l.files.cache import hash_file

#: Raised with every change that older versions of d2l would misread.
FORMAT: Final = 1
_MAX_BYTES = 64 << 20
_FILES = "files"


def write_lock(folder: Path, values: Mapping[str, Any]) -> Path:
    """Write a folder's lock: the values, and the digests of all present files."""
    whole = {"format": FORMAT, **values, _FILES: digest_folder(folder)}
    text, path = format_lock(whole), folder / LOCK
    replace_file(path, lambda target: target.write_text(text, "utf-8", newline="\n"))
    return path


def format_lock(values: Mapping[str, Any]) -> str:
    """Format a lock's values as the text of its file."""
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def read_lock(folder: Path) -> dict[str, Any] | None:
    """Read a folder's lock; None if there is none. Raises AdapterError for a damaged lock."""
    path = folder / LOCK
    try:
        if not path.is_file():
            return None
    except OSError:  # an invalid name: writing the folder will say so
        return None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES:,} bytes")
        lock = json.loads(path.read_text("utf-8"))
        if not isinstance(lock, dict) or lock.get("format") != FORMAT:
            raise ValueError(f"no lock of format {FORMAT}")
        if not isinstance(lock.get(_FILES), dict):
            raise ValueError(f"{_FILES} is missing")
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(
            f"{path}: not readable as a lock ({error})", hint="compile the documents again: --force"
        ) from error
    return lock


def read_state(folder: Path) -> tuple[dict[str, Any], list[str]] | None:
    """Read a folder's lock, and list the files that differ from it; None without a lock."""
    lock = read_lock(folder)
    return None if lock is None else (lock, compare_files(lock, digest_folder(folder)))


def digest_folder(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder but the lock, by its path there; for links, pipes and
    devices, which no lock lists, the words "no file".

    All bytes are read: an altered file may have the same size and time.
    """
    digests = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == LOCK:
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            digests[name] = "no file"
        elif path.is_file():
            digests[name] = hash_file(path)
    return digests


def compare_files(lock: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """List the files that differ from the lock, a line each."""
    then = lock[_FILES]
    differences = []
    for name in sorted({*then, *now}):
        if name not in now:
            differences.append(f"{name} is missing")
        elif name not in then:
            differences.append(f"{name} was added")
        elif then[name] != now[name]:
            differences.append(f"{name} was altered")
    return differences
