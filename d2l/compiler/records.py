"""What an adapter's `d2l.json` says: where it came from, exactly enough to make it again.

A plan and its outcome in, `Provenance` out; one function a verb. No time stamps and no absolute
paths of its own making: the same run gives the same bytes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2l import __version__
from d2l.adapters.provenance import (
    DESCRIPTION,
    Base,
    Checkpoint,
    ChunkRecord,
    Description,
    FindingRecord,
    Input,
    Norms,
    Options,
    Provenance,
    Skipped,
    Span,
    Tool,
)
from d2l.adapters.weights import LoraFactors, LoraWeights, delta_norm
from d2l.bases.families import module_path
from d2l.compiler.doc_to_lora import BASE_PROMPT
from d2l.compiler.options import CompileOptions
from d2l.compiler.plan import CompilePlan
from d2l.documents.document import Document
from d2l.hypernets.checkpoints import checkpoint_digest
from d2l.hypernets.protocol import Assembled, HypernetConfig
from d2l.hypernets.text_to_lora.network import TextToLoraConfig

TOOL = Tool(name="d2l", version=__version__)


def describe_compile(
    plan: CompilePlan, assembled: Assembled, merge_error: Mapping[str, float]
) -> Provenance:
    """Provenance of an adapter that was compiled of documents."""
    slices = rank_slices(plan)
    compressed = bool(merge_error)
    return Provenance(
        tool=TOOL,
        checkpoint=Checkpoint(
            name=plan.checkpoint.name,
            network=plan.config.kind,
            sha256=checkpoint_digest(plan.checkpoint.path),
        ),
        base=Base(name=plan.config.base, sha256=plan.base.digest()),
        inputs=tuple(map(_describe_input, plan.documents)),
        skipped=tuple(Skipped(name=name, reason=reason) for name, reason in plan.skipped),
        # Compression mixes the slices, so they name no ranks of the written adapter.
        chunks=_describe_chunks(plan, [None if compressed else span for span in slices]),
        bias_ranks=None if compressed else bias_slice(plan),
        rank=plan.rank,
        rank_before_max_rank=plan.full_rank,
        options=_describe_options(plan.options),
        merge_error=shorten_all(merge_error),
        prompt=plan.kind.prompt(plan.config, plan.rank),
        norms=Norms(
            layers=_norms_by_layer(assembled.weights, plan.config),
            chunks=norms_by_chunk(assembled.weights, slices),
        ),
        warnings=plan.warnings,
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
    """What was found in a document, counted; nothing where there was nothing."""
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


def _describe_options(options: CompileOptions) -> Options:
    return Options(
        merge=options.merge.method,
        scale=options.merge.scale,
        bias_scale=options.merge.bias_scale,
        max_rank=options.max_rank,
        chunk_tokens=options.chunk_tokens,
        tokens_per_seat=options.tokens_per_seat,
        dtype=options.dtype,
    )


def rank_slices(plan: CompilePlan) -> list[tuple[int, int]]:
    """[start, stop) of every chunk's ranks (or seats) before compression; all share them all
    where seats are averaged."""
    if plan.kind.averages_share and plan.method == "average":
        return [(0, plan.full_rank)] * len(plan.chunks)
    spans, start = [], 0
    for chunk in plan.chunks:
        spans.append((start, start + chunk.rank))
        start += chunk.rank
    return spans


def bias_slice(plan: CompilePlan) -> tuple[int, int]:
    """[start, stop) of the ranks of the learned part, behind all chunks; empty where there is
    none."""
    return plan.full_rank - plan.config.bias_rank, plan.full_rank


@dataclass(frozen=True)
class Made:
    """Where one adapter came from; `base_sha256` is None where no weights of the base were read."""

    text: str
    text_sha256: str
    checkpoint: str
    checkpoint_sha256: str
    base_sha256: str | None
    embedder: str
    scaling: str
    dtype: str
    familiarity: float | None = None  # None: the checkpoint does not say what it knows
    warnings: tuple[str, ...] = ()


def describe_make(made: Made, config: TextToLoraConfig, weights: LoraWeights) -> Provenance:
    """Provenance of an adapter that was made from a description."""
    return Provenance(
        tool=TOOL,
        checkpoint=Checkpoint(
            name=made.checkpoint, network=config.kind, sha256=made.checkpoint_sha256
        ),
        base=Base(name=config.base, sha256=made.base_sha256),
        description=_describe_text(made),
        inputs=(),  # documents; `ask --compare` and probes look for them here
        skipped=(),
        chunks=(),
        rank=weights.rank,
        scale=weights.scale,  # folded into lora_B
        options=Options(scaling=made.scaling, dtype=made.dtype),
        merge_error={},
        prompt=BASE_PROMPT,
        norms=Norms(layers=_norms_by_layer(weights, config), chunks=()),
        warnings=made.warnings,
    )


def _describe_text(made: Made) -> Description:
    return Description(
        text=made.text,
        sha256=made.text_sha256,
        embedder=made.embedder,
        familiarity=None if made.familiarity is None else round(made.familiarity, 4),
    )


def describe_reading(plan: CompilePlan, assembled: Assembled, made: Made) -> Provenance:
    """The same where the description was read as a document: its chunks say which seats hold it,
    so that it can be merged with documents, and taken out again."""
    record = describe_compile(plan, assembled, {})
    chunks = [chunk.model_copy(update={"source": DESCRIPTION}) for chunk in record.chunks]
    return record.model_copy(
        update={
            "description": _describe_text(made),
            "inputs": (),  # documents; a description lies in no file
            "chunks": tuple(chunks),
            "warnings": made.warnings,
        }
    )


def _norms_by_layer(weights: LoraWeights, config: HypernetConfig) -> tuple[float, ...]:
    """Frobenius norm of all adapted modules' deltas side by side, by layer of the base."""
    layers = range(config.n_base_layers)
    return tuple(
        find_norm(weights, (module_path(layer, module) for module in config.module_shapes))
        for layer in layers
    )


def find_norm(weights: LoraWeights, names: Iterable[str]) -> float:
    """Frobenius norm of the deltas of these modules, side by side."""
    present = [weights.factors[name] for name in names if name in weights.factors]
    return _short(math.hypot(*(delta_norm(factors, weights.scale) for factors in present)))


def norms_by_chunk(weights: LoraWeights, slices: Sequence[Span]) -> tuple[float, ...]:
    """Frobenius norm of the delta of each slice of ranks; of the same slice it is computed once."""
    norms = {
        (start, stop): math.hypot(
            *(
                delta_norm(LoraFactors(f.a[start:stop], f.b[:, start:stop]), weights.scale)
                for f in weights.factors.values()
            )
        )
        for start, stop in {(start, stop) for start, stop in slices if start < stop}
    }
    return tuple(_short(norms.get((start, stop), 0.0)) for start, stop in slices)


def shorten_all(values: Mapping[str, float]) -> dict[str, float]:
    """Numbers with six significant digits, sorted by name."""
    return {name: _short(value) for name, value in sorted(values.items())}


def _short(value: float) -> float:
    """Six significant digits: enough to see, and the same on every run."""
    return float(f"{value:.6g}")
