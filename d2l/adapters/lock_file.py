"""`d2l.lock` in an adapter's folder: read, written, and compared with the files beside it.

Without torch. What it says of the making is `compiler.lock`'s; here it is a JSON object.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from d2l.adapters.info import LOCK
from d2l.errors import AdapterError
from d2l.files.atomic import replace_file

#: Raised with every change that an older d2l would misread.
FORMAT: Final = 1
_MAX_BYTES = 64 << 20
_FILES = "files"


def write_lock(folder: Path, values: Mapping[str, Any]) -> Path:
    """Write a folder's lock: the values, and the digests of all files that stand there now."""
    whole = {"format": FORMAT, **values, _FILES: digest_folder(folder)}
    text, path = format_lock(whole), folder / LOCK
    replace_file(path, lambda target: target.write_text(text, "utf-8", newline="\n"))
    return path


def format_lock(values: Mapping[str, Any]) -> str:
    """The one form of a lock's file."""
    return json.dumps(values, indent=1, sort_keys=True) + "\n"


def read_lock(folder: Path) -> dict[str, Any] | None:
    """A folder's lock; None where there is none. Raises AdapterError for one that is damaged."""
    path = folder / LOCK
    try:
        if not path.is_file():
            return None
    except OSError:  # a name that no folder can have: whoever is to write there says so
        return None
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise ValueError(f"more than {_MAX_BYTES:,} bytes")
        found = json.loads(path.read_text("utf-8"))
        if not isinstance(found, dict) or found.get("format") != FORMAT:
            raise ValueError(f"no lock of format {FORMAT}")
        if not isinstance(found.get(_FILES), dict):
            raise ValueError(f"{_FILES} is missing")
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterError(
            f"{path}: not readable as a lock ({error})", hint="compile the documents again: --force"
        ) from error
    return found


def digest_folder(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its path in it, but for the lock itself; of a link,
    pipe or device, which no lock lists, a word instead.

    All bytes are read: size and time of a file say nothing of who altered it.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name == LOCK:
            continue
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            found[name] = "no file"
        elif path.is_file():
            with path.open("rb") as stream:
                found[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return found


def compare_files(lock: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """What is not as the lock says it was, one line a file."""
    then = lock[_FILES]
    said = []
    for name in sorted({*then, *now}):
        if name not in now:
            said.append(f"{name} is missing")
        elif name not in then:
            said.append(f"{name} was added")
        elif then[name] != now[name]:
            said.append(f"{name} was altered")
    return said
