"""Where d2l keeps what it made once and may need again: one folder per user, and digests.

Only the cache folder is ours to write; everything in it can be deleted at any time.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from d2l.files.atomic import replace_file
from d2l.files.tensors import FILE_ERRORS

if TYPE_CHECKING:
    from torch import Tensor

_DIGESTS = "digests.json"


def cache_dir() -> Path:
    """The user's cache folder: `D2L_CACHE_DIR` if set, else the platform's own place for caches."""
    override = os.environ.get("D2L_CACHE_DIR")
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("d2l"))


def find_local(name: str) -> Path | None:
    """The file or folder that a name leads to, "~" expanded; None where there is none."""
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None  # Path("") would be the working directory
    except (OSError, RuntimeError, ValueError):  # too long, no such user, or a zero byte in it
        return None


def folder_size(folder: Path) -> int:
    """Bytes of the files in a folder, those of folders in it left out; 0 where there is none."""
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def file_digest(
    path: Path, *, fresh: bool = False, check: Callable[[Path], object] | None = None
) -> str:
    """SHA-256 of a file's bytes, in hex, read in blocks.

    A file in the hub's cache is a link to a blob named by its own SHA-256, which is taken as is.
    Others are remembered by size and modification time, so a 5 GB base is read once. `fresh`
    reads the file in any case: bits can flip without leaving a trace in either. `check` is asked
    before a file is read, and raises where that is not worth it.
    """
    target = path.resolve()
    if not fresh and target.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", target.name):
        return target.name
    stat = target.stat()
    stamp = f"{target}:{stat.st_size}:{stat.st_mtime_ns}"
    known = read_memory(_DIGESTS)
    if fresh or stamp not in known:
        if check is not None:
            check(path)
        with target.open("rb") as stream:
            known[stamp] = hashlib.file_digest(stream, "sha256").hexdigest()
        write_memory(_DIGESTS, known, most=256)
    return known[stamp]


def read_memory(name: str) -> dict[str, str]:
    """The texts in a JSON object of the cache folder; empty where the file is missing or damaged:
    it is only a shortcut."""
    try:
        found = json.loads((cache_dir() / name).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    items = found.items() if isinstance(found, dict) else ()
    return {key: value for key, value in items if isinstance(value, str)}


def write_memory(name: str, values: Mapping[str, str], *, most: int) -> None:
    """Keep the last `most` values; a read-only cache costs time, not correctness."""
    text, path = json.dumps(dict(list(values.items())[-most:])), cache_dir() / name
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda target: target.write_text(text, "utf-8"))


def keep_tensors(
    path: Path, tensors: "Mapping[str, Tensor]", metadata: dict[str, str] | None = None
) -> None:
    """Keep tensors to save work later (`tensors.find_kept` reads them), whole or not at all; where
    they cannot be written, the work is done again."""
    from safetensors.torch import save_file

    with contextlib.suppress(*FILE_ERRORS):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda target: save_file(dict(tensors), target, metadata))


def join_digests(digests: Sequence[str]) -> str:
    """One SHA-256 for several files: that of their digests, one a line, in order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
