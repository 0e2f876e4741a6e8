"""Records of adapters, `d2l.json` and `d2l.lock`: exact enough to make them again.

A plan and its outcome in, records out. Without time stamps and absolute paths: the same run gives
the same bytes.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from d2l.adapters.provenance import (
    DESCRIPTION,
    Base,
    Checkpoint,
    ChunkRecord,
    FindingRecord,
    Input,
    Options,
    Prompt,
    Provenance,
    Skipped,
    Tool,
)
from d2l.adapters.record_values import Span
from d2l.compiler.lock import digest_text
from d2l.compiler.plan import CompilePlan, TaskPlan
from d2l.documents.document import Document
from d2l.files.cache import file_digest
from d2l.hypernets.network import AnyNetwork
from d2l.version import __version__

#: Options of d2l.json.
_OPTIONS = ["merge", "scale", "bias_scale", "max_rank", "chunk_tokens", "tokens_per_seat", "dtype"]
TOOL = Tool(name="d2l", version=__version__)


def describe_compile(
    plan: CompilePlan, prompt: Prompt, merge_error: Mapping[str, float]
) -> Provenance:
    """Describe the provenance of an adapter.

    A task's chunks are listed, too, if its network keeps their seats apart: so it can be merged
    with documents and dropped again.
    """
    given = dict[str, Any]()
    options = {name: getattr(plan.options, name) for name in _OPTIONS}
    options["base_dtype"] = plan.base_dtype
    if isinstance(plan, TaskPlan):
        given["description"] = plan.description
        if plan.scale is not None:
            options["scaling"], given["scale"] = plan.task.scaling, plan.scale[0]
    # Compression mixes the slices, so they name no ranks of the written adapter.
    slices = [None] * len(plan.chunks) if merge_error else rank_slices(plan)
    chunks = _describe_chunks(plan, slices) if plan.network.keeps_chunks else ()
    learned = plan.cut.full_rank - plan.config.bias_rank
    return Provenance(
        tool=TOOL,
        checkpoint=Checkpoint(
            name=plan.checkpoint.name, network=plan.config.kind, sha256=plan.network.digest()
        ),
        base=Base(name=plan.config.base, sha256=plan.network.digest_base()),
        inputs=() if "description" in given else tuple(map(_describe_input, plan.documents)),
        skipped=tuple(Skipped(name=name, reason=reason) for name, reason in plan.intake.skipped),
        chunks=chunks,
        bias_ranks=None if merge_error else (learned, plan.cut.full_rank),
        rank=plan.rank,
        rank_before_max_rank=plan.cut.full_rank,
        options=Options(**options),
        merge_error=shorten_all(merge_error),
        prompt=prompt,
        warnings=plan.warnings,
        **given,
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
    is_task = isinstance(plan, TaskPlan)
    return tuple(
        ChunkRecord(
            index=chunk.index,
            document=chunk.document,
            source=DESCRIPTION if is_task else chunk.source,
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


def describe_lock(plan: CompilePlan, names: Mapping[str, str]) -> dict[str, Any]:
    """Describe a compiled adapter for its lock, without the digests of its files. `names` are the
    names to pass on, by the plan's names."""
    more = _describe_models(plan.network, names)
    if isinstance(plan, TaskPlan) and plan.examples is not None:
        more["examples"] = plan.examples.sha256
    return {
        "tool": {
            "d2l": __version__,
            "torch": version("torch"),
            "transformers": version("transformers"),
        },
        "inputs": [
            {
                "name": names.get(document.name, document.name),
                "sha256": document.digest,
                "size_bytes": document.size_bytes,
                "text_sha256": digest_text(document.text),
            }
            for document in plan.documents
        ],
        "skipped": [  # two of different folders may have the same name
            {"name": names.get(name, name), "given_sha256": digest_text(name)}
            for name, _ in plan.intake.skipped
        ],
        "chunks": [
            {
                "document": names.get(chunk.document, chunk.document),
                "tokens_sha256": digest_text(",".join(map(str, chunk.token_ids))),
                "n_tokens": len(chunk.token_ids),
                "rank": chunk.rank,
            }
            for chunk in plan.chunks
        ],
        "network": {
            "name": names.get(plan.checkpoint.name, plan.checkpoint.name),
            "files": plan.network.digest_files(),
        },
        "device": plan.device.split(":")[0],
        "base_dtype": plan.base_dtype,
        "options": plan.record_options(names),
        **more,
    }


def _describe_models(network: AnyNetwork, names: Mapping[str, str]) -> dict[str, Any]:
    """Describe the models that an adapter depends on: the "base" (None if its weights take no
    part), a "reader" of its own, and measured "moments"."""
    reader, moments = network.reader, network.find_moments()
    base = None if network.digest_base() is None else network.base
    values: dict[str, Any] = {"base": base and base.describe()}
    if reader is not base:  # its checkpoint may name it by a path
        described = reader.describe()
        values["reader"] = described | {"name": names.get(described["name"], described["name"])}
    if moments is not None:
        values["moments"] = {"file": moments.name, "sha256": file_digest(moments)}
    return values


def shorten_all(values: Mapping[str, float]) -> dict[str, float]:
    """Shorten numbers to six significant digits, which every run reproduces; sorted by name."""
    return {name: float(f"{value:.6g}") for name, value in sorted(values.items())}
