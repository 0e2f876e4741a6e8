"""Provenance of adapters, the content of `d2l.json`: exact enough to make them again.

A plan and its outcome in, `Provenance` out; a function for each verb. Without time stamps and
absolute paths: the same run gives the same bytes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from d2l.adapters.provenance import (
    DESCRIPTION,
    Base,
    Checkpoint,
    ChunkRecord,
    Description,
    FindingRecord,
    Input,
    Options,
    Prompt,
    Provenance,
    Skipped,
    Tool,
)
from d2l.adapters.record_values import Span
from d2l.adapters.weights import LoraWeights
from d2l.compiler.plan import CompilePlan, TaskPlan
from d2l.documents.document import Document
from d2l.version import __version__

#: Options of d2l.json.
_OPTIONS = ["merge", "scale", "bias_scale", "max_rank", "chunk_tokens", "tokens_per_seat", "dtype"]
TOOL = Tool(name="d2l", version=__version__)


def describe_compile(
    plan: CompilePlan, prompt: Prompt, merge_error: Mapping[str, float]
) -> Provenance:
    """Describe the provenance of an adapter of documents."""
    slices = rank_slices(plan)
    options = {name: getattr(plan.options, name) for name in _OPTIONS}
    options["base_dtype"] = plan.base_dtype
    compressed, learned = bool(merge_error), plan.cut.full_rank - plan.config.bias_rank
    return Provenance(
        tool=TOOL,
        checkpoint=_describe_checkpoint(plan),
        base=Base(name=plan.config.base, sha256=plan.base.digest()),
        inputs=tuple(map(_describe_input, plan.documents)),
        skipped=tuple(Skipped(name=name, reason=reason) for name, reason in plan.intake.skipped),
        # Compression mixes the slices, so they name no ranks of the written adapter.
        chunks=_describe_chunks(plan, [None if compressed else span for span in slices]),
        bias_ranks=None if compressed else (learned, plan.cut.full_rank),
        rank=plan.rank,
        rank_before_max_rank=plan.cut.full_rank,
        options=Options(**options),
        merge_error=shorten_all(merge_error),
        prompt=prompt,
        warnings=plan.warnings,
    )


def _describe_checkpoint(plan: CompilePlan) -> Checkpoint:
    return Checkpoint(
        name=plan.checkpoint.name, network=plan.config.kind, sha256=plan.network.digest()
    )


def _describe_input(document: Document) -> Input:
    return Input(
        name=document.name,
        format=document.format,
        sha256=document.digest,
        size_bytes=document.size_bytes,
        notes=tuple(document.notes),
        **_describe_findings(document),
    )


def _describe_findings(document: Document) -> dict[str, Any]:
    """Record the findings in a document; no key without findings."""
    said: dict[str, Any] = {}
    if document.include_hidden:
        said["include_hidden"] = True
    if document.findings:
        said["findings"] = tuple(
            FindingRecord(
                kind=found.kind,
                what=found.what,
                count=found.count,
                pages=found.pages,
                lines=found.lines,
            )
            for found in document.findings
        )
    return said


def _describe_chunks(plan: CompilePlan, ranks: Sequence[Span | None]) -> tuple[ChunkRecord, ...]:
    return tuple(
        ChunkRecord(
            index=chunk.index,
            document=chunk.document,
            source=chunk.source,
            characters=chunk.span,
            n_tokens=len(chunk.token_ids),
            ranks=span,
        )
        for chunk, span in zip(plan.chunks, ranks, strict=True)
    )


def rank_slices(plan: CompilePlan) -> list[tuple[int, int]]:
    """List [start, stop) of every chunk's ranks (or seats) before compression; averaged seats
    belong to all chunks."""
    if plan.network.averages_share and plan.options.merge == "average":
        return [(0, plan.cut.full_rank)] * len(plan.chunks)
    spans, start = [], 0
    for chunk in plan.chunks:
        spans.append((start, start + chunk.rank))
        start += chunk.rank
    return spans


def describe_description(
    plan: TaskPlan, prompt: Prompt, weights: LoraWeights, description: Description
) -> Provenance:
    """Describe the provenance of an adapter of a task description.

    If the network read it as a document, its chunks have their seats, so that it can be merged with
    documents and dropped again.
    """
    if plan.network.keeps_chunks:
        record = describe_compile(plan, prompt, {})
        chunks = [chunk.model_copy(update={"source": DESCRIPTION}) for chunk in record.chunks]
        changes = {"description": description, "inputs": (), "chunks": tuple(chunks)}
        return record.model_copy(update=changes)
    return Provenance(
        tool=TOOL,
        checkpoint=_describe_checkpoint(plan),
        base=Base(name=plan.config.base, sha256=plan.network.digest_base()),
        description=description,
        inputs=(),  # documents; `ask --compare` and probes look for them here
        skipped=(),
        chunks=(),
        rank=weights.rank,
        scale=weights.scale,  # folded into lora_B
        options=Options(scaling=plan.scaling, dtype=plan.options.dtype),
        merge_error={},
        prompt=prompt,
        warnings=plan.warnings,
    )


def shorten_all(values: Mapping[str, float]) -> dict[str, float]:
    """Shorten numbers to six significant digits, which every run reproduces; sorted by name."""
    return {name: float(f"{value:.6g}") for name, value in sorted(values.items())}
