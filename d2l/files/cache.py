"""The cache folder of a user, and digests of files. All of it may be deleted at any time."""

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

#: Digests of files that were read, by path, size and time of change.
DIGESTS = "digests.json"


def cache_dir() -> Path:
    """The user's cache folder: `D2L_CACHE_DIR` if set, else the platform's own."""
    override = os.environ.get("D2L_CACHE_DIR")
    return Path(override).expanduser() if override else Path(platformdirs.user_cache_dir("d2l"))


def find_local(name: str) -> Path | None:
    """Find the file or folder of a name, "~" expanded; None if there is none."""
    try:
        path = Path(name).expanduser()
        return path if name and path.exists() else None  # Path("") would be the working directory
    except (OSError, RuntimeError, ValueError):  # too long, no such user, or a zero byte in it
        return None


def folder_size(folder: Path) -> int:
    """Bytes of the files right in a folder; 0 if there is no folder."""
    return sum(path.stat().st_size for path in folder.glob("*") if path.is_file())


def file_digest(
    path: Path, *, fresh: bool = False, check: Callable[[Path], object] | None = None
) -> str:
    """SHA-256 of a file's bytes, in hex.

    A file in the hub's cache is a link to a blob named by its own SHA-256, and that name is
    trusted. Other digests are remembered by size and modification time, so a 5 GB base is read
    once. `fresh` reads the file in any case: flipped bits change neither size nor time. `check`
    runs before the file is read, and raises to prevent that.
    """
    target = path.resolve()
    if not fresh and target.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", target.name):
        return target.name
    stat = target.stat()
    stamp = f"{target}:{stat.st_size}:{stat.st_mtime_ns}"
    known = read_memory(DIGESTS)
    if fresh or stamp not in known:
        if check is not None:
            check(path)
        known[stamp] = hash_file(target)
        write_memory(DIGESTS, known, most=256)
    return known[stamp]


def hash_file(path: Path) -> str:
    """SHA-256 of a file, in hex, all bytes of it read now."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_memory(name: str) -> dict[str, str]:
    """Read a JSON object of texts from the cache folder; empty if the file is missing or damaged,
    since it only saves time."""
    try:
        values = json.loads((cache_dir() / name).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    items = values.items() if isinstance(values, dict) else ()
    return {key: value for key, value in items if isinstance(value, str)}


def write_memory(name: str, values: Mapping[str, str], *, most: int) -> None:
    """Write the last `most` values; a read-only cache costs time, not correctness."""
    text, path = json.dumps(dict(list(values.items())[-most:])), cache_dir() / name
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda target: target.write_text(text, "utf-8"))


def keep_tensors(
    path: Path, tensors: "Mapping[str, Tensor]", metadata: dict[str, str] | None = None
) -> None:
    """Write tensors that save work later (`find_tensors` reads them), whole or not at all; if they
    cannot be written, the work is done again."""
    from safetensors.torch import save_file

    with contextlib.suppress(*FILE_ERRORS):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda target: save_file(dict(tensors), target, metadata))


def join_digests(digests: Sequence[str]) -> str:
    """SHA-256 of several digests, a line each, in order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
