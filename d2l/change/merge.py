"""Adapters → one adapter: `run()` adds their deltas up, and seats what holds seats once more.

Seats adapters claim the same tokens of the opening, so their deltas are never added: their memories
are joined and seated again, as if their documents had been compiled together.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from d2l.adapters.deltas import combine
from d2l.adapters.lowest_rank import lower_content
from d2l.adapters.merge_methods import compress
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.weights import LoraWeights, Memory
from d2l.change.card import write_texts
from d2l.change.fewer_seats import fit_parents
from d2l.change.merge_plan import MergePlan
from d2l.change.parents import ChangeOptions, Parent, pick_dtype
from d2l.change.reseating import Seated, load_seats_of, seat_again
from d2l.compiler.doc_to_lora import BASE_PROMPT
from d2l.compiler.records import Change, describe_change
from d2l.compiler.seats import describe_prompt
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import join_memories


@dataclass(frozen=True)
class Merged:
    """New weights with what must be said of them."""

    weights: LoraWeights
    chunks: list[ChunkRecord]
    memory: Memory | None = None
    seats: tuple[SeatsConfig, int] | None = None


def run(plan: MergePlan, options: ChangeOptions) -> AdapterContent:
    """Merge as planned, in memory; raises D2LError. The network that re-seats is that of `options`,
    else the plan's, else the one that the adapters name."""
    options = replace(options, checkpoint=options.checkpoint or plan.checkpoint)
    parents, shares = fit_parents(plan), plan.shares
    merged = (
        _seat_together(parents, shares, options)
        if len(plan.seated) == len(parents)
        else _add_up(parents, shares, options)
    )
    weights, errors = _bound(merged, plan.max_rank)
    chunks = _unplaced(merged.chunks) if errors else merged.chunks
    values = {"method": plan.method, "weights": list(shares), "max_rank": plan.max_rank}
    said = f"{len(parents)} adapters, merged into one"
    change = Change("merge", values, said, plan.warnings, errors)
    prompt = BASE_PROMPT
    if merged.seats is not None:
        prompt = describe_prompt(*merged.seats)
    exact = all(_is_plain_share(p, share) for p, share in zip(parents, shares, strict=True))
    return lower_content(
        AdapterContent(
            weights=weights,
            n_base_layers=None,
            provenance=describe_change(parents, weights, chunks, prompt, change),
            memory=merged.memory,
            texts=write_texts(parents, weights, change, merged.seats),
            dtype=pick_dtype(parents, options.dtype, exact=exact and not errors),
            name="merged.lora",
        )
    )


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
    strength = float(parents[0].options.bias_scale)  # that of all: the plan looked
    seats, files = load_seats_of(parents, options)
    memory = join_memories([parent.memory for parent in parents])
    factors = torch.cat(
        [parent.seat_factors() * share for parent, share in zip(parents, shares, strict=True)]
    )
    return seat_again(seats, files, memory, factors, bias_scale=strength)


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
    assert merged.seats is None  # the plan looked
    return compress(weights, max_rank)


def _is_plain_share(parent: Parent, share: float) -> bool:
    """Whether scale and share only move the exponent, so that b stays exact in its precision."""
    factor = 1.0 if parent.has_seats else abs(share * parent.weights.scale)
    return factor == 0 or math.frexp(factor)[0] == 0.5
