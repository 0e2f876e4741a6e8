"""A seats adapter that goes into another one with fewer seats than it has.

A parent in, one with a smaller memory out, whose chunks have their new places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch

from d2l.adapters.provenance import ChunkRecord, Span
from d2l.adapters.weights import Memory
from d2l.change.merge_plan import MergePlan
from d2l.change.parents import Parent
from d2l.errors import MergeError
from d2l.hypernets.seats.config import split_seats
from d2l.hypernets.seats.fewer import thin_out


@dataclass(frozen=True)
class SmallerParent(Parent):
    """The adapter `whole` with `n_seats` of its seats; each chunk keeps its share of them."""

    whole: Parent
    n_seats: int
    heads: int  # key-value heads of the base

    @cached_property
    def _spans(self) -> list[tuple[Span, Span]]:
        """Stretches of seats that one chunk owns, in order: where they are, where they will be."""
        old = _tile(self.whole.chunks, self.whole.memory.n_seats)
        sizes = split_seats([stop - start for start, stop in old], self.n_seats)
        new, start = list[Span](), 0
        for size in sizes:
            new.append((start, start + size))
            start += size
        return list(zip(old, new, strict=True))

    @cached_property
    def memory(self) -> Memory:
        """The smaller memory: every stretch is made smaller for itself."""
        whole = self.whole.memory
        parts = []
        for (start, stop), (begin, end) in self._spans:
            if end > begin:
                own = Memory(whole.keys[:, start:stop], whole.values[:, start:stop])
                parts.append(thin_out(own, end - begin, heads=self.heads))
        return Memory(
            torch.cat([part.keys for part in parts], dim=1),
            torch.cat([part.values for part in parts], dim=1),
        )

    @property
    def chunks(self) -> tuple[ChunkRecord, ...]:
        """The chunks with the seats that they keep."""
        moved = dict(self._spans)
        return tuple(
            chunk
            if chunk.ranks is None or chunk.ranks not in moved
            else chunk.model_copy(update={"ranks": moved[chunk.ranks]})
            for chunk in self.whole.chunks
        )


def fit_parents(plan: MergePlan) -> list[Parent]:
    """A plan's parents, those that get fewer seats than they have with as many as they get."""
    return [
        SmallerParent(parent.source, parent, kept, plan.heads) if kept < had else parent
        for parent, had, kept in zip(plan.parents, plan.before, plan.after, strict=True)
    ]


def _tile(chunks: Sequence[ChunkRecord], n_seats: int) -> list[Span]:
    """The chunks' stretches and those that no chunk owns, side by side; raises MergeError where
    chunks share seats."""
    spans, at = list[Span](), 0
    owned = sorted({chunk.ranks for chunk in chunks if chunk.ranks is not None})
    for start, stop in owned:
        if start < at or stop > n_seats:
            raise MergeError(
                "chunks that share their seats cannot be given fewer",
                hint="compile the document again, with --merge concat",
            )
        if start > at:
            spans.append((at, start))
        spans.append((start, stop))
        at = stop
    if at < n_seats:
        spans.append((at, n_seats))
    return spans
