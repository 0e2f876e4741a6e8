"""Kinds of parents: ranks that add up, and memories that are seated again.

Needs no torch before weights are read.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from d2l.adapters.info import MEMORY, AdapterInfo, read_info
from d2l.adapters.peft_config import refuse_extras
from d2l.adapters.record_values import Span
from d2l.change.parents import ChangeOptions, Parent
from d2l.errors import AdapterError
from d2l.parts.open import open_kept
from d2l.parts.seats import Seats as SeatParts

if TYPE_CHECKING:
    from torch import Tensor

    from d2l.adapters.peft_folder import AdapterContent
    from d2l.adapters.provenance import ChunkRecord
    from d2l.adapters.weights import LoraWeights, Memory
    from d2l.hypernets.seats.seated_config import SeatedConfig


class Changed(NamedTuple):
    """Weights of a new adapter and its chunks; of seats also the memory, and the configuration and
    number of the seats of its opening."""

    weights: "LoraWeights"
    chunks: "list[ChunkRecord]"
    memory: "Memory | None" = None
    seats: "tuple[SeatedConfig, int] | None" = None


@dataclass(frozen=True)
class RankParent(Parent):
    """Parent whose chunks are ranks of its weights, and of other tools."""

    unit: ClassVar[str] = "rank"

    @property
    def scale(self) -> float:
        """Factor of the weights' delta that is not in the chunks."""
        return 1.0

    def factor(self, share: float) -> float:
        """Factor that the weights are stored with, if they are merged with a share."""
        return abs(share * self.weights.scale)

    def count_held(self) -> int:
        """Count the ranks that its chunks may name."""
        return self.weights.rank

    def count_left(self, stays: Sequence[int]) -> int:
        """Count the ranks that are left with these chunks."""
        gone = set(range(len(self.chunks))).difference(stays)
        return self.rank - len({rank for n in gone for rank in range(*span_of(self.chunks[n]))})

    def drop(self, stays: Sequence[int], options: ChangeOptions) -> Changed:
        """Leave out the ranks of other chunks; the bias, which belongs to no document, stays."""
        del options
        from d2l.parts.ranks import take_ranks

        gone = [chunk for n, chunk in enumerate(self.chunks) if n not in set(stays)]
        dropped = {rank for chunk in gone for rank in range(*span_of(chunk))}
        left = [rank for rank in range(self.weights.rank) if rank not in dropped]
        chunks = close_gaps([self.chunks[n] for n in stays], gone)
        return Changed(take_ranks(self.weights, left), chunks)

    def split(self, indices: Sequence[int], options: ChangeOptions) -> "Iterator[Changed]":
        """Yield each part's ranks, with those of the bias."""
        del options
        from d2l.parts.ranks import take_ranks

        assert self.provenance is not None  # it has parts
        bias = self.provenance.bias_ranks or (0, 0)
        for n in indices:
            chunk = self.chunks[n]
            if chunk.ranks is None:
                raise AdapterError(
                    f"{self.name}: does not say which ranks its parts have",
                    hint="compile the document again",
                )
            weights = take_ranks(self.weights, [*range(*chunk.ranks), *range(*bias)])
            own = chunk.model_copy(update={"ranks": (0, chunk.ranks[1] - chunk.ranks[0])})
            yield Changed(weights, [own])


@dataclass(frozen=True)
class SeatParent(Parent):
    """Parent with a memory that can be seated again; parts may hold more than its seats."""

    unit: ClassVar[str] = "seats"

    @property
    def scale(self) -> float:
        """Factor of the seats' deltas that is not in the chunks."""
        return float(self.options.scale)

    def factor(self, share: float) -> float:
        """Factor that the weights are stored with: seats are solved for anew."""
        del share
        return 1.0

    @property
    def memory(self) -> "Memory":
        """Memory that it was seated from; it holds all seats that its chunks name."""
        memory = self.content.memory
        assert memory is not None
        named = max((chunk.ranks[1] for chunk in self.chunks if chunk.ranks), default=0)
        if named > memory.n_seats:
            raise AdapterError(
                f"{self.name}: d2l.json names {named} seats, {MEMORY} has {memory.n_seats}",
                hint="compile the document again",
            )
        return memory

    def count_seats(self) -> int:
        """Count the seats of its memory, without weights."""
        source = self.source
        return source.count_seats() if isinstance(source, AdapterInfo) else self.memory.n_seats

    def count_held(self) -> int:
        """Count the seats that its chunks may name."""
        return self.memory.n_seats

    def seat_factors(self) -> "Tensor":
        """Compute the factors of the seats' deltas (seats,), from its options and chunks."""
        import torch

        factors = torch.full((self.memory.n_seats,), self.scale)
        for chunk in self.chunks:
            if chunk.ranks is not None:
                start, stop = chunk.ranks
                factors[start:stop] *= float(chunk.scale)
        return factors.double()

    def count_left(self, stays: Sequence[int]) -> int:
        """Count the seats that are left with these chunks; raises AdapterError for none."""
        if self.parts is not None and len(stays) < len(self.chunks):
            return sum(self.fill(stays))
        left = sum(stop - start for start, stop in (span_of(self.chunks[n]) for n in stays))
        if not left:
            raise AdapterError(
                "the chunks that would be left have no seats of their own",
                hint="drop less, or compile the document again",
            )
        return left

    def drop(self, stays: Sequence[int], options: ChangeOptions) -> Changed:
        """Seat the chunks that stay again: their seats, or from their parts as many as fit."""
        import torch

        from d2l.adapters.weights import Memory
        from d2l.change.seats import load_seats_of, seat_again

        parent = self
        if self.parts is not None and len(stays) < len(self.chunks):
            parent = self.join_parts(stays)
        memory, factors = parent.memory, parent.seat_factors()
        spans = [span_of(parent.chunks[n]) for n in stays]
        stay = torch.tensor([seat for span in spans for seat in range(*span)], dtype=torch.long)
        left = Memory(memory.keys[:, stay].contiguous(), memory.values[:, stay].contiguous())
        seats, strength = load_seats_of(self, options), float(self.options.bias_scale)
        weights = seat_again(seats, left, factors[stay], bias_scale=strength)
        chunks = line_up([parent.chunks[n] for n in stays])
        return Changed(weights, chunks, left, (seats.config, weights.rank))

    def fill(self, indices: Sequence[int]) -> list[int]:
        """Share the opening's seats among some parts, in order."""
        assert self.parts is not None
        assert self.provenance is not None  # it has parts
        kept = open_kept(self.parts)
        assert isinstance(kept, SeatParts)
        return kept.fill(indices, self.provenance.prompt.opening)

    def join_parts(self, indices: Sequence[int]) -> "SeatParent":
        """Join the memories of some parts to the one memory, as many as the opening holds: parts at
        its beginning may be dropped."""
        from d2l.hypernets.seats.network import join_memories

        parts, provenance = self.parts, self.provenance
        assert parts is not None
        assert provenance is not None
        sizes = dict(zip(indices, self.fill(indices), strict=True))
        memories = [parts.read(index).first(size) for index, size in sizes.items() if size]
        chunks, start = list(provenance.chunks), 0
        for index, chunk in enumerate(chunks):
            stop = start + sizes.get(index, 0)
            chunks[index], start = chunk.model_copy(update={"ranks": (start, stop)}), stop
        provenance = provenance.model_copy(update={"chunks": tuple(chunks)})
        memory = join_memories(memories)
        return SeatParent(replace(self.content, memory=memory, provenance=provenance))

    def split(self, indices: Sequence[int], options: ChangeOptions) -> "Iterator[Changed]":
        """Yield each part seated alone, in the opening of the longest: an engine has one chat
        template for all of its adapters."""
        import torch

        from d2l.change.seats import load_seats_of, seat_again

        parts, seats = self.content.parts, load_seats_of(self, options)
        assert parts is not None
        longest = max(parts.records[n].n_seats for n in indices)
        if longest > seats.config.max_seats:
            most = seats.config.exported_tokens
            raise AdapterError(
                f"{self.name}: a part of {longest} tokens, and engines read {most} of a part",
                hint=f"compile the document again, with --chunk-tokens {most}",
            )
        bias_scale = float(self.options.bias_scale)
        for n in indices:
            chunk, memory, n_own = self.chunks[n], parts.read(n), parts.records[n].n_seats
            strength = self.scale * float(chunk.scale)
            factors = torch.full((n_own,), strength, dtype=torch.double)
            weights = seat_again(seats, memory, factors, bias_scale=bias_scale, n_seats=longest)
            own = chunk.model_copy(update={"ranks": (0, n_own)})
            yield Changed(weights, [own], memory, (seats.config, weights.rank))

    def thin(self, n_seats: int, *, heads: int) -> "SeatParent":
        """Thin the memory out to `n_seats`, of which each chunk keeps its share; `heads`: the
        base's key-value heads. Raises MergeError if chunks share seats."""
        from d2l.adapters.weights import Memory
        from d2l.change.seats import thin_out, tile
        from d2l.hypernets.seats.network import join_memories
        from d2l.hypernets.seats.sharing import split_seats

        whole, provenance = self.memory, self.provenance
        assert provenance is not None  # it has seats
        old, start = tile(self.chunks, whole.n_seats), 0
        sizes = split_seats([end - begin for begin, end in old], n_seats)
        moved, thinned = dict[Span, Span](), list[Memory]()
        for (begin, end), size in zip(old, sizes, strict=True):
            if size:
                own = Memory(whole.keys[:, begin:end], whole.values[:, begin:end])
                thinned.append(thin_out(own, size, heads=heads))
            moved[begin, end] = (start, start + size)
            start += size
        chunks = tuple(
            chunk
            if chunk.ranks is None
            else chunk.model_copy(update={"ranks": moved.get(chunk.ranks, chunk.ranks)})
            for chunk in self.chunks
        )
        provenance = provenance.model_copy(update={"chunks": chunks})
        memory = join_memories(thinned)
        return SeatParent(replace(self.content, memory=memory, provenance=provenance))


AnyParent = RankParent | SeatParent


def make_parent(source: "AdapterInfo | AdapterContent") -> AnyParent:
    """Make the parent of an adapter, by whether it has an opening and a memory."""
    parent = Parent(source)
    if isinstance(source, AdapterInfo):
        has_memory = (source.folder / MEMORY).is_file()
    else:
        has_memory = source.memory is not None
    return (SeatParent if has_memory and parent.opening is not None else RankParent)(source)


def read_parent(adapter: "AdapterContent | Path") -> AnyParent:
    """Read an adapter in memory or in a folder for a new adapter; raises AdapterError."""
    if not isinstance(adapter, Path):
        return make_parent(adapter)
    info = read_info(adapter)
    refuse_extras(info, purpose="merged or edited")
    return make_parent(info)


def sort_parents(
    parents: Sequence[AnyParent],
) -> tuple[list[SeatParent], list[RankParent]]:
    """Sort parents by their kinds: those with seats come first in a merged adapter."""
    return (
        [parent for parent in parents if isinstance(parent, SeatParent)],
        [parent for parent in parents if isinstance(parent, RankParent)],
    )


def join_seated(
    seated: Sequence[SeatParent], shares: Sequence[float], options: ChangeOptions
) -> "tuple[LoraWeights, Memory, SeatedConfig]":
    """Join the memories of seats adapters, in order, and seat them once; shares multiply the deltas
    of their seats."""
    import torch

    from d2l.change.seats import load_seats_of, seat_again
    from d2l.hypernets.seats.network import join_memories

    first = seated[0]
    seats = load_seats_of(first, options)
    memory = join_memories([parent.memory for parent in seated])
    pairs = zip(seated, shares, strict=True)
    factors = torch.cat([parent.seat_factors() * share for parent, share in pairs])
    strength = float(first.options.bias_scale)  # the plan refuses parents with different ones
    return seat_again(seats, memory, factors, bias_scale=strength), memory, seats.config


def span_of(chunk: "ChunkRecord") -> Span:
    """Ranks, or seats, of a chunk that has its own."""
    assert chunk.ranks is not None  # the plan refuses others
    return chunk.ranks


def line_up(chunks: "Sequence[ChunkRecord]") -> "list[ChunkRecord]":
    """Move the seats of chunks together, as in a memory of these chunks alone."""
    result, start = [], 0
    for chunk in chunks:
        begin, end = span_of(chunk)
        stop = start + end - begin
        result.append(chunk.model_copy(update={"ranks": (start, stop)}))
        start = stop
    return result


def close_gaps(
    chunks: "Sequence[ChunkRecord]", gone: "Sequence[ChunkRecord]"
) -> "list[ChunkRecord]":
    """Move the ranks of chunks down over those of the dropped chunks."""
    left = sorted(map(span_of, gone), key=lambda span: span[1])
    ends, before = [stop for _, stop in left], [0]
    for start, stop in left:
        before.append(before[-1] + stop - start)
    result = []
    for chunk in chunks:
        start, stop = span_of(chunk)
        moved = before[bisect_right(ends, start)]
        result.append(chunk.model_copy(update={"ranks": (start - moved, stop - moved)}))
    return result
