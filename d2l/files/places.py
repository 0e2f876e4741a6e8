"""Where files lie on this machine that adapters name by their SHA-256 alone: a memory in the cache.

An adapter is passed on, so it says nothing of the folders of who made it; here they are known.
"""

import contextlib
from collections.abc import Mapping
from pathlib import Path

from d2l.files.cache import read_memory, write_memory

_FILE = "places.json"


def remember(places: Mapping[str, Path]) -> None:
    """Keep where files lie, by their SHA-256 in hex; those that are nowhere are left out."""
    found = {digest: str(path.absolute()) for digest, path in places.items() if path.exists()}
    known = read_memory(_FILE)
    if any(known.get(digest) != place for digest, place in found.items()):
        others = {digest: place for digest, place in known.items() if digest not in found}
        write_memory(_FILE, others | found, most=1024)  # the last used stand last


def recall(digest: str | None) -> Path | None:
    """Where a file of this SHA-256 lay when it was last used; None where nothing is there now."""
    place = read_memory(_FILE).get(digest or "")
    with contextlib.suppress(OSError, ValueError):
        if place is not None and Path(place).exists():
            return Path(place)
    return None
