"""Adapter → the same without some chunks, with some alone, or with some stronger or weaker.

The provenance says which ranks, or seats, a chunk has; no document is read. What no document
changes, the learned part, stays.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from d2l.adapters.deltas import keep_ranks, scale_ranks
from d2l.adapters.peft_folder import AdapterContent, refuse_adapter, write_adapter
from d2l.adapters.weights import LoraWeights, Memory
from d2l.compiler import change_records
from d2l.compiler.change_records import Change
from d2l.compiler.doc_to_lora import BASE_PROMPT
from d2l.compiler.merge import ANY_DEPTH
from d2l.compiler.parents import (
    ChangeOptions,
    Parent,
    load_seats_of,
    pick_dtype,
    read_parent,
    seat_again,
)
from d2l.compiler.seats import describe_prompt
from d2l.compiler.selectors import select
from d2l.errors import AdapterError
from d2l.hypernets.seats.config import SeatsConfig


@dataclass(frozen=True)
class Edits:
    """What to do: selectors (`compiler.selectors`) of chunks to drop, to keep alone, to rescale."""

    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    scale: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class EditResult:
    """What was written; `left_out` are the chunks that went."""

    adapter: Path
    rank: int
    size_bytes: int
    n_chunks: int
    left_out: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Plan:
    """Indices of chunks that stay, the factor of each, and remarks."""

    stays: list[int]
    factors: dict[int, float]
    remarks: list[str]


def edit(folder: Path, out: Path, *, edits: Edits, options: ChangeOptions) -> EditResult:
    """Write a copy of an adapter with edits done; raises D2LError.

    Exact for adapters whose chunks were concatenated; compressed and averaged ones are refused.
    """
    refuse_adapter(out, force=options.force)
    parent = read_parent(folder)
    chunks = parent.chunks
    _refuse_mixed(parent)
    plan = _plan(edits, chunks)
    gone = [n for n in range(len(chunks)) if n not in plan.stays]
    kept = [chunks[n] | _strength(chunks[n], plan.factors.get(n, 1.0)) for n in plan.stays]
    if parent.has_seats:
        weights, memory, seats = _edit_seats(parent, plan, options)
    else:
        weights, memory, seats = _edit_ranks(parent, plan, gone), None, None
    kept = _close_gaps(kept, [chunks[n] for n in gone])
    said = f"An adapter of {len(kept)} of {len(chunks)} chunks"
    values = {"drop": list(edits.drop), "keep": list(edits.keep), "scale": dict(edits.scale)}
    change = Change("edit", values, said, tuple(plan.remarks))
    prompt = describe_prompt(*seats) if seats else BASE_PROMPT
    content = AdapterContent(
        weights=weights,
        n_base_layers=ANY_DEPTH,
        provenance=change_records.describe([parent], weights, kept, prompt, change),
        memory=memory,
        texts=change_records.write_texts([parent], weights, out.name, change, seats),
    )
    exact = all(factor == 0 or math.frexp(abs(factor))[0] == 0.5 for factor in edits.scale.values())
    dtype = pick_dtype([parent], options.dtype, exact=exact)
    write_adapter(content, out, dtype=dtype, force=options.force)
    size = sum(path.stat().st_size for path in out.iterdir())
    named = tuple(f"{chunks[n]['document']}: {chunks[n]['source'] or f'#{n}'}" for n in gone)
    return EditResult(out, weights.rank, size, len(kept), named, tuple(plan.remarks))


def _refuse_mixed(parent: Parent) -> None:
    """Refuse adapters whose ranks cannot be told apart by chunk, each with its reason."""
    where, chunks = parent.info.folder, parent.chunks
    if not chunks:
        raise AdapterError(
            f"{where}: does not say which ranks hold what",
            hint="only adapters that d2l compiled of documents can be edited",
        )
    if parent.provenance.get("merge_error"):
        full = parent.provenance.get("rank_before_max_rank", "a higher one")
        raise AdapterError(
            f"{where}: was cut from rank {full} to {parent.info.rank}, so every rank holds a bit "
            "of every chunk",
            hint="compile the document again, without --max-rank",
        )
    if any(chunk.get("ranks") is None for chunk in chunks):
        raise AdapterError(
            f"{where}: is a mixture of seats and other adapters, whose ranks cannot be told apart",
            hint="edit the adapter of the document, then merge again",
        )
    if parent.options.get("merge") == "average" and len(chunks) > 1:
        raise AdapterError(
            f"{where}: is the average of its chunks, not their sum",
            hint="compile with --merge concat",
        )


def _plan(edits: Edits, chunks: Sequence[Mapping[str, Any]]) -> _Plan:
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
    return _Plan(stays, factors, remarks)


def _edit_ranks(parent: Parent, plan: _Plan, gone: Sequence[int]) -> LoraWeights:
    """Leave out the ranks of chunks that go; all others stay, the learned part's among them."""
    weights, chunks = parent.weights, parent.chunks
    for n, factor in plan.factors.items():
        if n in plan.stays:
            weights = scale_ranks(weights, _indices([chunks[n]]), factor)
    dropped = set(_indices([chunks[n] for n in gone]).tolist())
    kept = [rank for rank in range(weights.rank) if rank not in dropped]
    return keep_ranks(weights, torch.tensor(kept, dtype=torch.long))


def _edit_seats(
    parent: Parent, plan: _Plan, options: ChangeOptions
) -> tuple[LoraWeights, Memory, tuple[SeatsConfig, int]]:
    """Take the seats of the chunks that stay out of the memory, and seat them again."""
    chunks, memory, factors = parent.chunks, parent.memory, parent.seat_factors()
    for n, factor in plan.factors.items():
        factors[_indices([chunks[n]])] *= factor
    kept = _indices([chunks[n] for n in plan.stays])
    if not len(kept):
        raise AdapterError(
            "the chunks that would be left have no seats of their own",
            hint="their share was averaged into the seat before them: drop less",
        )
    seats, files = load_seats_of([parent], options)
    left = Memory(memory.keys[:, kept].contiguous(), memory.values[:, kept].contiguous())
    strength = float(parent.options.get("bias_scale", 1.0))
    seated = seat_again(seats, files, left, factors[kept], bias_scale=strength)
    weights = seated.assembled.weights
    return weights, left, (seated.config, weights.rank)


def _indices(chunks: Sequence[Mapping[str, Any]]) -> torch.Tensor:
    """Ranks, or seats, of chunks, in order."""
    spans = [range(*chunk["ranks"]) for chunk in chunks]
    return torch.tensor([rank for span in spans for rank in span], dtype=torch.long)


def _strength(chunk: Mapping[str, Any], factor: float) -> dict[str, float]:
    strength = float(chunk.get("scale", 1.0)) * factor
    return {} if strength == 1 else {"scale": strength}


def _close_gaps(
    kept: Sequence[dict[str, Any]], gone: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Chunks with their ranks moved down over those that went."""
    result = []
    for chunk in kept:
        start, stop = chunk["ranks"]
        before = sum(g["ranks"][1] - g["ranks"][0] for g in gone if g["ranks"][1] <= start)
        result.append(chunk | {"ranks": [start - before, stop - before]})
    return result
