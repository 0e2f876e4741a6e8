"""Parts of an adapter → the class of their kind."""

from d2l.adapters.info import AdapterInfo
from d2l.adapters.parts import PartIndex, Parts
from d2l.parts.kept import Kept
from d2l.parts.kv import Kv
from d2l.parts.ranks import Ranks
from d2l.parts.seats import Seats


def find_kind(index: PartIndex) -> str:
    """Find the kind of parts; an index of an older version tells it by its other fields alone."""
    if index.opening is None:
        return "ranks"
    return "kv" if index.turns else "seats"


def open_kept(parts: Parts, info: AdapterInfo | None = None) -> Kept:
    """Open parts for questions; parts of an engine's adapters (no `info`) are routed only."""
    kind = find_kind(parts.index)
    if kind == "kv":
        return Kv(parts)
    if kind == "seats":
        return Seats(parts)
    return Ranks(parts, info)
