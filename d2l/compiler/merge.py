"""Adapters → one adapter: `merge()` adds their deltas up, and seats what holds seats once more.

Seats adapters claim the same tokens of the opening, so their deltas are never added: their memories
are joined and seated again, as if their documents had been compiled together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from d2l.adapters.deltas import combine
from d2l.adapters.merge_methods import compress
from d2l.adapters.peft_folder import AdapterContent, refuse_adapter, write_adapter
from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.weights import LoraWeights, Memory
from d2l.compiler.change_card import write_texts
from d2l.compiler.doc_to_lora import BASE_PROMPT
from d2l.compiler.parents import (
    ChangeOptions,
    Parent,
    Seated,
    load_seats_of,
    pick_dtype,
    read_parent,
    seat_again,
)
from d2l.compiler.records import Change, describe_change
from d2l.compiler.seats import describe_prompt
from d2l.errors import MergeError
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import join_memories

#: No base has this depth, so the config names the adapted layers, which holds for every depth.
ANY_DEPTH = 0


@dataclass(frozen=True)
class MergeResult:
    """What was written; `errors` is each module's relative error where a rank was bounded."""

    adapter: Path
    rank: int
    size_bytes: int
    warnings: tuple[str, ...] = ()
    errors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Merged:
    """New weights with what must be said of them."""

    weights: LoraWeights
    chunks: list[ChunkRecord]
    memory: Memory | None = None
    seats: tuple[SeatsConfig, int] | None = None


def merge(
    folders: Sequence[Path],
    out: Path,
    *,
    shares: Sequence[float] | None = None,
    method: str = "concat",
    max_rank: int | None = None,
    options: ChangeOptions,
) -> MergeResult:
    """Merge adapters of one base into a new one; raises D2LError.

    "concat": the delta is Σ share · delta, "average": the same with shares that sum to 1. Exact in
    fp32; `max_rank` cuts the sum to the nearest delta of that rank.
    """
    refuse_adapter(out, force=options.force)
    if not folders:
        raise MergeError("there is nothing to merge", hint="name at least one adapter")
    parents = [read_parent(folder) for folder in folders]
    shares = _check_shares(parents, shares, method)
    seated = [parent for parent in parents if parent.has_seats]
    merged = (
        _seat_together(parents, shares, options)
        if len(seated) == len(parents)
        else _add_up(parents, shares, options)
    )
    weights, errors = _bound(merged, max_rank)
    warnings = _warn(parents, merged)
    chunks = _unplaced(merged.chunks) if errors else merged.chunks
    values = {"method": method, "weights": list(shares), "max_rank": max_rank}
    said = f"{len(parents)} adapters, merged into one"
    change = Change("merge", values, said, warnings, errors)
    prompt = BASE_PROMPT
    if merged.seats is not None:
        prompt = describe_prompt(*merged.seats)
    content = AdapterContent(
        weights=weights,
        n_base_layers=ANY_DEPTH,
        provenance=describe_change(parents, weights, chunks, prompt, change),
        memory=merged.memory,
        texts=write_texts(parents, weights, out.name, change, merged.seats),
    )
    exact = all(_is_plain_share(p, share) for p, share in zip(parents, shares, strict=True))
    dtype = pick_dtype(parents, options.dtype, exact=exact and not errors)
    write_adapter(content, out, dtype=dtype, force=options.force)
    size = sum(path.stat().st_size for path in out.iterdir())
    return MergeResult(out, weights.rank, size, warnings, errors)


def _check_shares(
    parents: Sequence[Parent], shares: Sequence[float] | None, method: str
) -> list[float]:
    found = list(shares) if shares is not None else [1.0] * len(parents)
    if len(found) != len(parents):
        raise MergeError(
            f"{len(parents)} adapters and {len(found)} weights",
            hint="give one --weight for each adapter, in their order",
        )
    if any(not math.isfinite(share) for share in found):
        raise MergeError("a weight is not a finite number")
    if method == "average":
        total = sum(found)
        if total == 0:
            raise MergeError("weights that sum to 0 have no average")
        return [share / total for share in found]
    return found


def _seat_together(
    parents: Sequence[Parent], shares: Sequence[float], options: ChangeOptions
) -> Merged:
    """Join the memories of seats adapters, in order, and seat them once."""
    joined = join_seats(parents, shares, options)
    memory = joined.assembled.memory
    assert memory is not None
    weights = joined.assembled.weights
    return Merged(weights, _join_chunks(parents, shares), memory, (joined.config, weights.rank))


def join_seats(
    parents: Sequence[Parent], shares: Sequence[float], options: ChangeOptions
) -> Seated:
    """One memory of all parents' seats, seated; shares multiply what their seats add."""
    strengths = {float(parent.options.bias_scale) for parent in parents}
    if len(strengths) > 1:
        raise MergeError(
            f"the learned part has different strengths in them: {sorted(strengths)}",
            hint="compile the documents again, with the same --bias-scale",
        )
    if any(parent.options.merge == "average" for parent in parents) and len(parents) > 1:
        raise MergeError(
            "seats that were averaged are shared by all of a document and cannot be joined",
            hint="compile with --merge concat",
        )
    seats, files = load_seats_of(parents, options)
    memory = join_memories([parent.memory for parent in parents])
    if memory.n_seats > seats.config.max_seats:
        raise MergeError(
            f"{memory.n_seats} seats, but openings have at most {seats.config.max_seats}",
            hint="compile the documents together: they then share the seats by length",
        )
    factors = torch.cat(
        [parent.seat_factors() * share for parent, share in zip(parents, shares, strict=True)]
    )
    return seat_again(seats, files, memory, factors, bias_scale=strengths.pop())


def _add_up(parents: Sequence[Parent], shares: Sequence[float], options: ChangeOptions) -> Merged:
    """Add the deltas of adapters, of which several with seats count as one that is seated anew."""
    seated = [n for n, parent in enumerate(parents) if parent.has_seats]
    rest = [n for n in range(len(parents)) if n not in seated]
    if not seated:
        weights = combine([parents[n].weights for n in rest], [shares[n] for n in rest])
        return Merged(weights, _join_chunks(parents, shares))
    joined = join_seats([parents[n] for n in seated], [shares[n] for n in seated], options)
    parts = [joined.assembled.weights, *(parents[n].weights for n in rest)]
    weights = combine(parts, [1.0, *(shares[n] for n in rest)])
    order = [*seated, *rest]
    chunks = _join_chunks([parents[n] for n in order], [shares[n] for n in order])
    # Ranks of a mixture are not to be edited: the seats could not be seated again without the rest.
    return Merged(weights, _unplaced(chunks), None, (joined.config, joined.assembled.weights.rank))


def _join_chunks(parents: Sequence[Parent], shares: Sequence[float]) -> list[ChunkRecord]:
    """All parents' chunks, their ranks moved to where they stand now, their strength multiplied."""
    chunks, start = list[ChunkRecord](), 0
    for parent, share in zip(parents, shares, strict=True):
        rank = parent.memory.n_seats if parent.has_seats else parent.weights.rank
        own = float(parent.options.scale) if parent.has_seats else 1.0
        for chunk in parent.chunks:
            ranks = chunk.ranks
            moved = None if ranks is None else (ranks[0] + start, ranks[1] + start)
            factor = float(chunk.scale) * share * own
            strength = {"scale": factor} if factor != chunk.scale else {}
            chunks.append(chunk.model_copy(update={"ranks": moved, **strength}))
        start += rank
    return chunks


def _unplaced(chunks: Sequence[ChunkRecord]) -> list[ChunkRecord]:
    """Chunks of which no rank is their own."""
    return [chunk.model_copy(update={"ranks": None}) for chunk in chunks]


def _bound(merged: Merged, max_rank: int | None) -> tuple[LoraWeights, dict[str, float]]:
    weights = merged.weights
    if max_rank is None or max_rank >= weights.rank:
        return weights, {}
    if merged.seats is not None:
        raise MergeError(
            f"seats need rank {merged.seats[1]} and cannot be cut to {max_rank}",
            hint="compile the documents together with --max-rank, which shares the seats out",
        )
    return compress(weights, max_rank)


def _warn(parents: Sequence[Parent], merged: Merged) -> tuple[str, ...]:
    found = []
    seated = [parent for parent in parents if parent.has_seats]
    if seated and len(seated) < len(parents):
        found.append(
            "seats were made for the base as it is, and the other adapters change what it "
            "computes: what comes back of the documents is not known; measure it with d2l probe"
        )
    learned = [p.provenance.bias_ranks for p in parents if p.provenance is not None]
    biased = [span for span in learned if span is not None and span[0] < span[1]]
    if len(biased) > 1 and merged.seats is None:
        found.append(
            f"{len(biased)} of the adapters hold their network's learned, document-independent "
            "part, which the sum now holds as often; compiling the documents together holds it once"
        )
    return tuple(found)


def _is_plain_share(parent: Parent, share: float) -> bool:
    """Whether scale and share only move the exponent, so that b stays exact in its precision."""
    factor = 1.0 if parent.has_seats else abs(share * parent.weights.scale)
    return factor == 0 or math.frexp(factor)[0] == 0.5
