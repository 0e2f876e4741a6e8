"""Merging of adapters: `run()` adds their deltas up, and seats their memories again.

Seats adapters claim the same tokens of the opening, so their deltas are never added: their memories
are joined and seated again, as if their documents had been compiled together.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from d2l.adapters.deltas import combine
from d2l.adapters.merge_methods import compress
from d2l.adapters.parts import PartRecord, Parts, join_parts
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.provenance import ChunkRecord
from d2l.change.kinds import AnyParent, Changed, SeatParent, join_seated, sort_parents
from d2l.change.merge_plan import MergePlan
from d2l.change.parents import ChangeOptions, pick_dtype
from d2l.change.records import Change, describe

#: A parent, with the strength that it is merged with.
Portion = tuple[AnyParent, float]


def run(plan: MergePlan, options: ChangeOptions) -> AdapterContent:
    """Merge as planned, in memory; raises D2LError. The network of `options` seats again, else the
    plan's, else the adapters' own."""
    options = replace(options, checkpoint=options.checkpoint or plan.checkpoint)
    portions, errors = _fit_parents(plan), dict[str, float]()
    seated, rest = sort_parents([parent for parent, _ in portions])
    shares = {id(parent): share for parent, share in portions}
    ordered: list[AnyParent] = [*seated, *rest]
    chunks = _join_chunks([(parent, shares[id(parent)]) for parent in ordered])
    terms, factors = [parent.weights for parent in rest], [shares[id(p)] for p in rest]
    memory = seats = None
    if seated:
        joined, memory, config = join_seated(seated, [shares[id(p)] for p in seated], options)
        seats, terms, factors = (config, joined.rank), [joined, *terms], [1.0, *factors]
    weights = terms[0] if seated and not rest else combine(terms, factors)
    if plan.max_rank is not None and plan.max_rank < weights.rank and not seated:
        weights, errors = compress(weights, plan.max_rank)
    parts = _join_parts(ordered)
    if errors or (seated and rest):
        # Compressed ranks mix the chunks; seats of a mixture cannot be seated again.
        chunks = [chunk.model_copy(update={"ranks": None}) for chunk in chunks]
        parts = None  # they are these ranks, or memories for one kind of prompt alone
    change = Change(
        verb="merge",
        values={"method": plan.method, "weights": list(plan.shares), "max_rank": plan.max_rank},
        title=f"{len(portions)} adapters, merged into one",
        made=Changed(weights, chunks, None if rest else memory, seats),
        warnings=plan.warnings,
        merge_error=errors,
        parts=parts,
        records=() if parts else _join_records(ordered),
    )
    # Exact if scale and share only move the exponent, so that b keeps its precision.
    scales = [parent.factor(share) for parent, share in portions]
    exact = not errors and all(f == 0 or math.frexp(f)[0] == 0.5 for f in scales)
    dtype = pick_dtype(plan.parents, options.dtype, exact=exact)
    return describe(plan.parents, change, dtype=dtype, name="merged.lora")


def _fit_parents(plan: MergePlan) -> list[Portion]:
    """Cut the parents to the seats that the plan grants; returns them with their strengths."""
    rows = zip(plan.parents, plan.before, plan.after, plan.shares, strict=True)
    return [
        (
            parent.thin(left, heads=plan.heads)
            if left < had and isinstance(parent, SeatParent)
            else parent,
            share,
        )
        for parent, had, left, share in rows
    ]


def _join_parts(parents: Sequence[AnyParent]) -> Parts | None:
    """Join the parts of all parents, if all have some; the plan warned of parents without."""
    parts = [parent.content.parts for parent in parents if parent.content.parts is not None]
    return join_parts(parts) if parts and len(parts) == len(parents) else None


def _join_records(parents: Sequence[AnyParent]) -> tuple[PartRecord, ...]:
    """Join places and texts of all parents' chunks, if all parents have them."""
    contents = [parent.content for parent in parents]
    own = [c.records if c.parts is None else c.parts.records for c in contents]
    return tuple(record for records in own for record in records) if all(own) else ()


def _join_chunks(portions: Sequence[Portion]) -> list[ChunkRecord]:
    """Join all parents' chunks: ranks moved to their new positions, strengths multiplied."""
    chunks, start = list[ChunkRecord](), 0
    for parent, share in portions:
        for chunk in parent.chunks:
            ranks = chunk.ranks
            moved = None if ranks is None else (ranks[0] + start, ranks[1] + start)
            factor = float(chunk.scale) * share * parent.scale
            strength = {"scale": factor} if factor != chunk.scale else {}
            chunks.append(chunk.model_copy(update={"ranks": moved, **strength}))
        start += parent.count_held()
    return chunks
