"""Adapter → the same without some chunks, with some alone, or with some stronger or weaker.

The provenance says which ranks, or seats, a chunk has; no document is read. What no document
changes, the learned part, stays.
"""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from d2l.adapters.deltas import keep_ranks, scale_ranks
from d2l.adapters.lowest_rank import lower_content
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.weights import LoraWeights, Memory
from d2l.change.card import write_texts
from d2l.change.parents import ChangeOptions, Parent, pick_dtype, read_parent
from d2l.change.reseating import load_seats_of, seat_again
from d2l.change.selectors import select
from d2l.compiler.doc_to_lora import BASE_PROMPT
from d2l.compiler.records import Change, describe_change
from d2l.compiler.seats import describe_prompt
from d2l.errors import AdapterError
from d2l.hypernets.seats.config import SeatsConfig


@dataclass(frozen=True)
class Edits:
    """What to do: selectors (`compiler.selectors`) of chunks to drop, to keep alone, to rescale."""

    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    scale: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EditPlan:
    """Everything that is decided before weights are read: indices of chunks that stay, the factor
    of each that is rescaled, the ranks (or seats) that are left, and remarks for the user."""

    parent: Parent
    edits: Edits
    stays: tuple[int, ...]
    factors: Mapping[int, float]
    rank: int
    warnings: tuple[str, ...] = ()

    @property
    def gone(self) -> list[int]:
        """Indices of chunks that are left out."""
        return sorted(set(range(len(self.parent.chunks))).difference(self.stays))

    @property
    def left_out(self) -> tuple[str, ...]:
        """What is left out, for people: "manual.pdf: p. 12-14"."""
        chunks = self.parent.chunks
        return tuple(f"{chunks[n].document}: {chunks[n].source or f'#{n}'}" for n in self.gone)


def prepare(adapter: AdapterContent | Path, edits: Edits) -> EditPlan:
    """Plan edits of an adapter, in memory or in a folder; raises D2LError.

    Exact for adapters whose chunks were concatenated; compressed and averaged ones are refused.
    """
    parent = read_parent(adapter)
    _refuse_mixed(parent)
    chunks = parent.chunks
    stays, factors, remarks = _choose(edits, chunks)
    whole = parent.count_seats() if parent.has_seats else parent.rank
    gone = set(range(len(chunks))) - set(stays)
    left = whole - len(set(_indices([chunks[n] for n in sorted(gone)]).tolist()))
    if parent.has_seats:
        left = len(_indices([chunks[n] for n in stays]))
        if not left:
            raise AdapterError(
                "the chunks that would be left have no seats of their own",
                hint="their share was averaged into the seat before them: drop less",
            )
    return EditPlan(parent, edits, tuple(stays), factors, left, tuple(remarks))


def run(plan: EditPlan, options: ChangeOptions) -> AdapterContent:
    """Edit as planned, in memory; the adapter that it is made from stays. Raises D2LError."""
    parent, edits = plan.parent, plan.edits
    chunks = parent.chunks
    kept = [_strengthen(chunks[n], plan.factors.get(n, 1.0)) for n in plan.stays]
    if parent.has_seats:
        weights, memory, seats = _edit_seats(plan, options)
        kept = _line_up(kept)
    else:
        weights, memory, seats = _edit_ranks(plan), None, None
        kept = _close_gaps(kept, [chunks[n] for n in plan.gone])
    said = f"An adapter of {len(kept)} of {len(chunks)} chunks"
    values = {"drop": list(edits.drop), "keep": list(edits.keep), "scale": dict(edits.scale)}
    change = Change("edit", values, said, plan.warnings)
    prompt = describe_prompt(*seats) if seats else BASE_PROMPT
    exact = all(factor == 0 or math.frexp(abs(factor))[0] == 0.5 for factor in edits.scale.values())
    return lower_content(
        AdapterContent(
            weights=weights,
            n_base_layers=None,
            provenance=describe_change([parent], weights, kept, prompt, change),
            memory=memory,
            texts=write_texts([parent], weights, change, seats),
            dtype=pick_dtype([parent], options.dtype, exact=exact),
            name="edited.lora",
        )
    )


def _refuse_mixed(parent: Parent) -> None:
    """Refuse adapters whose ranks cannot be told apart by chunk, each with its reason."""
    where, chunks = parent.name, parent.chunks
    if not chunks:
        raise AdapterError(
            f"{where}: does not say which ranks hold what",
            hint="only adapters that d2l compiled of documents can be edited",
        )
    made = parent.provenance
    if made is not None and made.merge_error:
        full = made.rank_before_max_rank or "a higher one"
        raise AdapterError(
            f"{where}: was cut from rank {full} to {parent.rank}, so every rank holds a bit "
            "of every chunk",
            hint="compile the document again, without --max-rank",
        )
    if made is not None and made.refinement is not None and made.refinement.kept:
        raise AdapterError(
            f"{where}: was refined on the whole of its document, so every seat and rank may hold a "
            "bit of every page, and none can be taken out alone",
            hint="compile the document again without what is to go, and refine that",
        )
    if any(chunk.ranks is None for chunk in chunks):
        raise AdapterError(
            f"{where}: is a mixture of seats and other adapters, whose ranks cannot be told apart",
            hint="edit the adapter of the document, then merge again",
        )
    spans = [span for span in map(_ranks_of, chunks) if span[0] < span[1]]
    averaged = parent.options.merge == "average" and len(chunks) > 1
    if averaged or len(set(spans)) < len(spans):  # ranks that several chunks have are a mean
        raise AdapterError(
            f"{where}: is the average of its chunks, not their sum",
            hint="compile with --merge concat",
        )


def _choose(
    edits: Edits, chunks: Sequence[ChunkRecord]
) -> tuple[list[int], dict[int, float], list[str]]:
    """(indices of chunks that stay, factors of those that are rescaled, remarks)."""
    if not edits.drop and not edits.keep and not edits.scale:
        raise AdapterError("nothing to edit", hint="give --drop, --keep or --rescale")
    remarks: list[str] = []
    picked: dict[str, set[int]] = {}
    for kind, texts in (("drop", edits.drop), ("keep", edits.keep)):
        for text in texts:
            selection = select(text, chunks)
            picked.setdefault(kind, set()).update(selection.indices)
            remarks += selection.remarks
    factors: dict[int, float] = {}
    for text, factor in edits.scale.items():
        if not math.isfinite(factor):
            raise AdapterError(f"{text}: the factor is not a finite number")
        for n in select(text, chunks).indices:
            factors[n] = factors.get(n, 1.0) * factor
    keep = picked.get("keep", set(range(len(chunks))))
    stays = sorted(keep - picked.get("drop", set()))
    if not stays:
        raise AdapterError("no chunk would be left", hint="drop less")
    return stays, factors, remarks


def _edit_ranks(plan: EditPlan) -> LoraWeights:
    """Leave out the ranks of chunks that go; all others stay, the learned part's among them."""
    weights, chunks = plan.parent.weights, plan.parent.chunks
    factors = torch.ones(weights.rank, dtype=torch.double)
    for n in set(plan.factors).intersection(plan.stays):
        factors[_indices([chunks[n]])] *= plan.factors[n]
    ranks = torch.nonzero(factors != 1).flatten()
    if len(ranks):
        weights = scale_ranks(weights, ranks, factors[ranks])
    dropped = set(_indices([chunks[n] for n in plan.gone]).tolist())
    kept = [rank for rank in range(weights.rank) if rank not in dropped]
    return keep_ranks(weights, torch.tensor(kept, dtype=torch.long))


def _edit_seats(
    plan: EditPlan, options: ChangeOptions
) -> tuple[LoraWeights, Memory, tuple[SeatsConfig, int]]:
    """Take the seats of the chunks that stay out of the memory, and seat them again."""
    parent = plan.parent
    chunks, memory, factors = parent.chunks, parent.memory, parent.seat_factors()
    for n, factor in plan.factors.items():
        factors[_indices([chunks[n]])] *= factor
    kept = _indices([chunks[n] for n in plan.stays])
    seats, files = load_seats_of([parent], options)
    left = Memory(memory.keys[:, kept].contiguous(), memory.values[:, kept].contiguous())
    strength = float(parent.options.bias_scale)
    seated = seat_again(seats, files, left, factors[kept], bias_scale=strength)
    weights = seated.assembled.weights
    return weights, left, (seated.config, weights.rank)


def _indices(chunks: Sequence[ChunkRecord]) -> torch.Tensor:
    """Ranks, or seats, of chunks, in order."""
    spans = [range(*_ranks_of(chunk)) for chunk in chunks]
    return torch.tensor([rank for span in spans for rank in span], dtype=torch.long)


def _ranks_of(chunk: ChunkRecord) -> tuple[int, int]:
    assert chunk.ranks is not None  # `_refuse_mixed` looked
    return chunk.ranks


def _strengthen(chunk: ChunkRecord, factor: float) -> ChunkRecord:
    if factor == 1:
        return chunk
    return chunk.model_copy(update={"scale": float(chunk.scale) * factor})


def _line_up(kept: Sequence[ChunkRecord]) -> list[ChunkRecord]:
    """Chunks with the seats that they have in a memory of their own alone, in order."""
    result, start = [], 0
    for chunk in kept:
        begin, end = _ranks_of(chunk)
        stop = start + end - begin
        result.append(chunk.model_copy(update={"ranks": (start, stop)}))
        start = stop
    return result


def _close_gaps(kept: Sequence[ChunkRecord], gone: Sequence[ChunkRecord]) -> list[ChunkRecord]:
    """Chunks with their ranks moved down over those that went."""
    left = sorted(map(_ranks_of, gone), key=lambda span: span[1])
    ends, before = [stop for _, stop in left], [0]
    for start, stop in left:
        before.append(before[-1] + stop - start)
    result = []
    for chunk in kept:
        start, stop = _ranks_of(chunk)
        moved = before[bisect_right(ends, start)]
        result.append(chunk.model_copy(update={"ranks": (start - moved, stop - moved)}))
    return result
