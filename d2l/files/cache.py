"""Where d2l keeps what it made once and may need again: one folder per user, and digests.

Only the cache folder is ours to write; everything in it can be deleted at any time.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import platformdirs

from d2l.files.atomic import replace_file


def cache_dir() -> Path:
    """The user's cache folder: `D2L_CACHE_DIR` if set, else `D2L_CACHE`, its older name, else the
    platform's own place for caches."""
    override = os.environ.get("D2L_CACHE_DIR") or os.environ.get("D2L_CACHE")
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


def file_digest(path: Path, *, fresh: bool = False) -> str:
    """SHA-256 of a file's bytes, in hex, read in blocks.

    A file in the hub's cache is a link to a blob named by its own SHA-256, which is taken as is.
    Others are remembered by size and modification time, so a 5 GB base is read once. `fresh`
    reads the file in any case: bits can flip without leaving a trace in either.
    """
    target = path.resolve()
    if not fresh and target.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", target.name):
        return target.name
    stat = target.stat()
    stamp = f"{target}:{stat.st_size}:{stat.st_mtime_ns}"
    memory = cache_dir() / "digests.json"
    known = _read_digests(memory)
    if fresh or stamp not in known:
        with target.open("rb") as stream:
            known[stamp] = hashlib.file_digest(stream, "sha256").hexdigest()
        _write_digests(memory, known)
    return known[stamp]


def _read_digests(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (
        OSError,
        ValueError,
        RecursionError,
    ):  # no memory yet, or a damaged one: it is only a shortcut
        return {}
    if not isinstance(found, dict):
        return {}
    return {stamp: digest for stamp, digest in found.items() if isinstance(digest, str)}


def _write_digests(path: Path, known: dict[str, str]) -> None:
    fresh = dict(list(known.items())[-256:])
    with contextlib.suppress(OSError):  # a read-only cache costs time, not correctness
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda target: target.write_text(json.dumps(fresh), "utf-8"))


def join_digests(digests: Sequence[str]) -> str:
    """One SHA-256 for several files: that of their digests, one a line, in order."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()
