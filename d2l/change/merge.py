"""Merging of adapters: `run()` adds their deltas up, and seats their memories again.

Seats adapters claim the same tokens of the opening, so their deltas are never added: their memories
are joined and seated again, as if their documents had been compiled together.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from d2l.adapters.deltas import combine
from d2l.adapters.merge_methods import compress
from d2l.adapters.parts import PartRecord, Parts, join_parts
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.weights import LoraWeights, Memory
from d2l.change.merge_plan import MergePlan
from d2l.change.parents import ChangeOptions, Parent, pick_dtype
from d2l.change.records import Change, describe
from d2l.change.seats import load_seats_of, seat_again, thin_parent
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import join_memories

#: A parent, with the strength that it is merged with.
Portion = tuple[Parent, float]


def run(plan: MergePlan, options: ChangeOptions) -> AdapterContent:
    """Merge as planned, in memory; raises D2LError. The network of `options` seats again, else the
    plan's, else the adapters' own."""
    options = replace(options, checkpoint=options.checkpoint or plan.checkpoint)
    portions = _fit_parents(plan)
    seated = [portion for portion in portions if portion[0].has_seats]
    rest = [portion for portion in portions if not portion[0].has_seats]
    chunks = _join_chunks([*seated, *rest])
    memory, seats, errors = None, None, dict[str, float]()
    parts, shares = [parent.weights for parent, _ in rest], [share for _, share in rest]
    if seated:
        joined, memory, config = _join_seats(seated, options)
        seats = config, joined.rank
        parts, shares = [joined, *parts], [1.0, *shares]
    weights = parts[0] if memory is not None and not rest else combine(parts, shares)
    if plan.max_rank is not None and plan.max_rank < weights.rank and memory is None:
        weights, errors = compress(weights, plan.max_rank)
    joined_parts = _join_parts([parent for parent, _ in (*seated, *rest)])
    if errors or (seated and rest):
        # Compressed ranks mix the chunks; seats of a mixture cannot be seated again.
        chunks = [chunk.model_copy(update={"ranks": None}) for chunk in chunks]
        joined_parts = None  # they are these ranks, or memories for one kind of prompt alone
    values = {"method": plan.method, "weights": list(plan.shares), "max_rank": plan.max_rank}
    change = Change(
        verb="merge",
        values=values,
        title=f"{len(portions)} adapters, merged into one",
        weights=weights,
        chunks=chunks,
        memory=None if rest else memory,
        seats=seats,
        warnings=plan.warnings,
        merge_error=errors,
        parts=joined_parts,
        records=() if joined_parts else _join_records([p for p, _ in (*seated, *rest)]),
    )
    # Exact if scale and share only move the exponent, so that b keeps its precision.
    factors = [1.0 if p.has_seats else abs(share * p.weights.scale) for p, share in portions]
    exact = not errors and all(f == 0 or math.frexp(f)[0] == 0.5 for f in factors)
    dtype = pick_dtype(plan.parents, options.dtype, exact=exact)
    return describe(plan.parents, change, dtype=dtype, name="merged.lora")


def _fit_parents(plan: MergePlan) -> list[Portion]:
    """Cut the parents to the seats that the plan grants; returns them with their strengths."""
    parents = [
        thin_parent(parent, left, heads=plan.heads) if left < had else parent
        for parent, had, left in zip(plan.parents, plan.before, plan.after, strict=True)
    ]
    return list(zip(parents, plan.shares, strict=True))


def _join_seats(
    seated: Sequence[Portion], options: ChangeOptions
) -> tuple[LoraWeights, Memory, SeatsConfig]:
    """Join the memories of seats adapters, in order, and seat them once; shares multiply the deltas
    of their seats."""
    first = seated[0][0]
    seats = load_seats_of(first, options)
    memory = join_memories([parent.memory for parent, _ in seated])
    factors = torch.cat([parent.seat_factors() * share for parent, share in seated])
    strength = float(first.options.bias_scale)  # the plan refuses parents with different ones
    return seat_again(seats, memory, factors, bias_scale=strength), memory, seats.config


def _join_parts(parents: Sequence[Parent]) -> Parts | None:
    """Join the parts of all parents, if all have some; the plan warned of parents without."""
    parts = [parent.content.parts for parent in parents if parent.content.parts is not None]
    return join_parts(parts) if parts and len(parts) == len(parents) else None


def _join_records(parents: Sequence[Parent]) -> tuple[PartRecord, ...]:
    """Join places and texts of all parents' chunks, if all parents have them."""
    contents = [parent.content for parent in parents]
    own = [c.records if c.parts is None else c.parts.records for c in contents]
    return tuple(record for records in own for record in records) if all(own) else ()


def _join_chunks(portions: Sequence[Portion]) -> list[ChunkRecord]:
    """Join all parents' chunks: ranks moved to their new positions, strengths multiplied."""
    chunks, start = list[ChunkRecord](), 0
    for parent, share in portions:
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
