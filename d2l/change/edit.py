"""Edits of an adapter: chunks dropped or kept alone.

The provenance names the ranks, or seats, of each chunk; no document is read. The bias, which
belongs to no document, stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.selectors import select
from d2l.change.kinds import AnyParent, read_parent, span_of
from d2l.change.parents import ChangeOptions, Parent, pick_dtype
from d2l.change.records import Change, describe
from d2l.errors import AdapterError


@dataclass(frozen=True)
class EditPlan:
    """Plan of an edit, made before weights are read.

    `values`: the user's selectors, for d2l.json; `stays`: indices of chunks that stay; `rank`: the
    ranks (or seats) that are left.
    """

    parent: AnyParent
    values: Mapping[str, Any]
    stays: tuple[int, ...]
    rank: int
    warnings: tuple[str, ...] = ()

    @property
    def gone(self) -> list[int]:
        """Indices of chunks that are left out."""
        return sorted(set(range(len(self.parent.chunks))).difference(self.stays))

    @property
    def kept(self) -> tuple[str, ...]:
        """Places of chunks that stay, each once: "manual.pdf: p. 12-14"."""
        return self._name(self.stays)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Places of chunks that are left out, each once."""
        return self._name(self.gone)

    def _name(self, numbers: Sequence[int]) -> tuple[str, ...]:
        chunks = self.parent.chunks
        names = (f"{chunks[n].document}: {chunks[n].source or f'#{n}'}" for n in numbers)
        return tuple(dict.fromkeys(names))


def prepare(
    adapter: AdapterContent | Path, *, drop: Sequence[str] = (), keep: Sequence[str] = ()
) -> EditPlan:
    """Plan edits of an adapter, in memory or in a folder; raises D2LError.

    Selectors (`adapters.selectors`) name chunks to drop or to keep alone.
    Exact for adapters whose chunks were concatenated; compressed and averaged ones are refused.
    """
    values = {"drop": list(drop), "keep": list(keep)}
    parent = read_parent(adapter)
    _refuse_mixed(parent)
    chunks = parent.chunks
    records = parent.parts.records if parent.parts is not None else ()
    stays, remarks = _choose(values, chunks, [record.headings for record in records])
    return EditPlan(parent, values, tuple(stays), parent.count_left(stays), tuple(remarks))


def run(plan: EditPlan, options: ChangeOptions) -> AdapterContent:
    """Edit as planned, in memory; the old adapter stays. Raises D2LError."""
    parent = plan.parent
    made = parent.drop(plan.stays, options)
    stays = set(plan.stays)
    change = Change(
        verb="edit",
        values=plan.values,
        title=f"An adapter of {len(plan.stays)} of {len(parent.chunks)} chunks",
        made=made,
        warnings=plan.warnings,
        parts=parent.content.parts and parent.content.parts.select(plan.stays),
        records=tuple(r for n, r in enumerate(parent.content.records) if n in stays),
    )
    dtype = pick_dtype([parent], options.dtype, exact=True)
    return describe([parent], change, dtype=dtype, name="edited.lora")


def _refuse_mixed(parent: Parent) -> None:
    """Refuse adapters whose ranks cannot be told apart by chunk, each with its reason."""
    where, chunks = parent.name, parent.chunks
    if not chunks:
        raise AdapterError(
            f"{where}: does not say which ranks hold which chunk",
            hint="only adapters that d2l compiled of documents can be edited",
        )
    record = parent.provenance
    if record is not None and record.merge_error:
        full = record.rank_before_max_rank or "a higher one"
        raise AdapterError(
            f"{where}: was cut from rank {full} to {parent.rank}, so every rank holds a bit "
            "of every chunk",
            hint="compile the document again, without --max-rank",
        )
    if record is not None and record.refinement is not None and record.refinement.get("kept"):
        raise AdapterError(
            f"{where}: was refined on the whole of its document, so every seat and rank may hold a "
            "bit of every page, and none can be taken out alone",
            hint="compile the document again without what is to go",
        )
    if any(chunk.ranks is None for chunk in chunks):
        raise AdapterError(
            f"{where}: is a mixture of seats and other adapters, whose ranks cannot be told apart",
            hint="edit the adapter of the document, then merge again",
        )
    spans = [span for span in map(span_of, chunks) if span[0] < span[1]]
    averaged = parent.options.merge == "average" and len(chunks) > 1
    if averaged or len(set(spans)) < len(spans):  # ranks of several chunks are a mean
        raise AdapterError(
            f"{where}: is the average of its chunks, not their sum",
            hint="compile with --merge concat",
        )


def _choose(
    values: Mapping[str, Any], chunks: Sequence[ChunkRecord], headings: Sequence[Sequence[str]]
) -> tuple[list[int], list[str]]:
    """Choose chunks: (indices of those that stay, remarks)."""
    if not any(values.values()):
        raise AdapterError("nothing to edit", hint="give --drop or --keep")
    dropped = [select(text, chunks, headings) for text in values["drop"]]
    alone = [select(text, chunks, headings) for text in values["keep"]]
    remarks = [remark for _, own in (*dropped, *alone) for remark in own]
    keep = {n for indices, _ in alone for n in indices} if alone else set(range(len(chunks)))
    stays = sorted(keep.difference(*(indices for indices, _ in dropped)))
    if not stays:
        raise AdapterError("no chunk would be left", hint="drop less")
    return stays, remarks
