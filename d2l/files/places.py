"""Where files lie on this machine that adapters name by their SHA-256 alone: a memory in the cache.

An adapter is passed on, so it says nothing of the folders of who made it; here they are known.
"""

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path

from d2l.files.atomic import replace_file
from d2l.files.cache import cache_dir

_KEPT = 1024


def remember(places: Mapping[str, Path]) -> None:
    """Keep where files lie, by their SHA-256 in hex; those that are nowhere are left out."""
    found = {digest: str(path.absolute()) for digest, path in places.items() if path.exists()}
    known = _read()
    if all(known.get(digest) == place for digest, place in found.items()):
        return
    for digest in found:
        known.pop(digest, None)  # what was used last stands last
    kept = dict(list((known | found).items())[-_KEPT:])
    path = cache_dir() / "places.json"
    with contextlib.suppress(OSError):  # without it they are named again on the command line
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda target: target.write_text(json.dumps(kept), "utf-8"))


def recall(digest: str | None) -> Path | None:
    """Where a file of this SHA-256 lay when it was last used; None where nothing is there now."""
    place = _read().get(digest or "")
    with contextlib.suppress(OSError, ValueError):
        if place is not None and Path(place).exists():
            return Path(place)
    return None


def _read() -> dict[str, str]:
    try:
        found = json.loads((cache_dir() / "places.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    items = found.items() if isinstance(found, dict) else ()
    return {digest: place for digest, place in items if isinstance(place, str)}
