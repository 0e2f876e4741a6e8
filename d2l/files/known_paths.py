"""Paths, on this machine, of files that adapters name by SHA-256; remembered in the cache folder.

Adapters are passed on, so they hold no paths of their makers.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from d2l.files.cache import read_memory, write_memory

_FILE = "places.json"


def remember(paths: Mapping[str, Path]) -> None:
    """Remember the paths of existing files, by their SHA-256 in hex."""
    new = {digest: str(path.absolute()) for digest, path in paths.items() if path.exists()}
    known = read_memory(_FILE)
    if any(known.get(digest) != path for digest, path in new.items()):
        others = {digest: path for digest, path in known.items() if digest not in new}
        write_memory(_FILE, others | new, most=1024)  # the last used stand last


def find_path(digest: str | None) -> Path | None:
    """Find the file that had this SHA-256 when it was last used; None if it is gone."""
    path = read_memory(_FILE).get(digest or "")
    with contextlib.suppress(OSError, ValueError):
        if path is not None and Path(path).exists():
            return Path(path)
    return None
