"""Parts of an adapter → the class of their kind."""

from d2l.adapters.info import AdapterInfo
from d2l.adapters.parts import PartIndex, PartKind, Parts
from d2l.parts.kept import Kept
from d2l.parts.kv import Kv
from d2l.parts.ranks import Ranks
from d2l.parts.seats import Seats

_OF_MEMORIES: dict[str, type[Seats]] = {"seats": Seats, "kv": Kv}


def find_kind(index: PartIndex) -> PartKind:
    """Find the kind of parts; an index of an older version tells it by its other fields alone."""
    if index.kind is not None:
        return index.kind
    if index.opening is None:
        return "ranks"
    return "kv" if index.turns else "seats"


def open_kept(parts: Parts, info: AdapterInfo | None = None) -> Kept:
    """Open parts for questions; parts of an engine's adapters (no `info`) are routed only."""
    kind = find_kind(parts.index)
    return Ranks(parts, info) if kind == "ranks" else _OF_MEMORIES[kind](parts)
