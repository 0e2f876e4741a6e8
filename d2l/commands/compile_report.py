"""Reports of `d2l compile` on a plan and on a run, as text and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from d2l.adapters import info as names
from d2l.adapters.info import read_info
from d2l.commands import console
from d2l.commands.export import describe
from d2l.documents.intake import describe_skipped, refuse_warnings

if TYPE_CHECKING:
    from d2l.api.adapter import Adapter
    from d2l.compiler.chunk_cache import Cached
    from d2l.compiler.lock import State
    from d2l.compiler.plan import CompilePlan
    from d2l.compiler.preflight import Preflight
    from d2l.documents.document import Document
    from d2l.documents.intake import Intake
    from d2l.hypernets.options import NetworkOptions
    from d2l.runtimes.export import ExportResult

#: Inputs that have a line of their own in what is printed.
_MOST_SHOWN = 8


@dataclass(frozen=True)
class Report:
    """The same facts twice: lines for people, values for programs."""

    text: str
    values: dict[str, Any]


def show_preflight(
    options: "NetworkOptions", intake: "Intake | None" = None, *, dry_run: bool = False
) -> "Preflight":
    """Open the network, plan documents, and print the files that have to be fetched, with access,
    disk, memory, and the plan. Raises the first fault that would stop the run, before anything is
    fetched."""
    from d2l.compiler.preflight import list_needs

    preflight = list_needs(options, intake, need="plan" if dry_run else "weights")
    if preflight.missing:
        console.note("\n".join(preflight.describe(with_plan=not dry_run)))
        for fault in () if dry_run else preflight.list_faults():
            raise fault
    return preflight


def report_plan(plan: "CompilePlan") -> Report:
    """Report a plan, with the estimated time after loading."""
    from d2l.compiler.timing import describe_estimate, estimate_seconds

    device = plan.device
    seconds = estimate_seconds(plan, device)
    values = _common(plan) | {
        "device": device,
        "parts_bytes": plan.parts_bytes,
        "estimated_seconds": None if seconds is None else [round(value, 2) for value in seconds],
    }
    lines = [
        *_describe_inputs(plan),
        f"checkpoint  {plan.checkpoint.name} ({plan.config.kind})",
        f"base        {plan.config.base}",
        *_describe_tokens(plan),
        f"LoRA rank   {_describe_rank(plan)}",
        f"weights     {_size(plan.adapter_bytes)} ({plan.options.dtype})"
        + (f", parts {_size(plan.parts_bytes)}" if plan.parts_bytes else ""),
        f"time        {describe_estimate(seconds)}",
    ]
    return Report("\n".join(lines), values)


def report_run(
    plan: "CompilePlan",
    adapter: "Adapter",
    out: Path,
    times: tuple[float, float | None],
    *,
    cached: "Cached | None" = None,
    exports: Sequence["ExportResult"] = (),
) -> Report:
    """Report the adapter that was written at `out`, and its exports. `times`: seconds of the work,
    and of the start before it."""
    seconds, start = times
    made, device, written = adapter.provenance, plan.device, read_info(out)
    assert made is not None  # compiling says where an adapter came from
    errors = made.merge_error
    worst = max(errors.values(), default=0.0)
    values = _common(plan) | {
        "adapter": str(out),
        "device": device,
        "size_bytes": written.size_bytes,
        "parts_bytes": written.parts_bytes,
        "seconds": round(seconds, 3),
        "max_merge_error": worst,
    }
    lines = [
        str(out),
        *_describe_inputs(plan),
        *_describe_tokens(plan),
        f"LoRA rank   {_describe_rank(plan)}",
        f"size        {_size(written.size_bytes)} (weights {_size(plan.adapter_bytes)}"
        + (f", parts {_size(written.parts_bytes)})" if written.n_parts else ")"),
        f"time        {console.describe_times(seconds, start)}",
    ]
    if errors:
        lines.insert(-2, f"error       at most {worst:.2%} of a module's delta was cut off")
    if cached is not None:
        n_chunks, n_cached = len(plan.chunks), cached.n_cached
        values |= {"n_cached": n_cached, "n_read": n_chunks - n_cached}
        unit = "chunk" if n_chunks == 1 else "chunks"
        row = f"cache       {n_chunks:,} {unit}: {n_cached:,} cached, {cached.n_read:,} read"
        lines += [row] if n_cached else []
    if exports:
        values["exports"] = [describe(done) for done in exports]
        lines += [
            f"export      {done.path} ({_size(done.size_bytes)}): {done.load}" for done in exports
        ]
    return Report("\n".join(lines), values)


def warn(warnings: Sequence[str], *, strict: bool) -> None:
    """Show warnings; `strict` refuses them with DocumentError."""
    console.warn(*warnings)
    if strict:
        refuse_warnings(warnings)


def report_unchanged(out: Path, state: "State", *, strict: bool) -> None:
    """Print that the adapter is up to date, and warn of loss again; `strict` refuses all."""
    warnings = _read_warnings(out, strict=strict)
    warn(warnings, strict=strict)
    n_chunks = len(state.lock["chunks"])
    values = {
        "adapter": str(out),
        "unchanged": True,
        "n_chunks": n_chunks,
        "n_cached": n_chunks,
        "n_read": 0,
    }
    text = f"{out}\nunchanged   inputs, network, base and options are those of {out / names.LOCK}"
    console.emit(values, text)


def _read_warnings(out: Path, *, strict: bool) -> list[str]:
    """Read warnings from d2l.json, if `strict` with findings; the lock has checked its digest."""
    provenance = json.loads((out / names.PROVENANCE).read_text("utf-8"))
    inputs, skipped = provenance["inputs"], provenance["skipped"]
    findings = [
        f"{row['name']}: its text has findings, listed in {out / names.PROVENANCE}"
        for row in inputs
        if strict and any(f["kind"] != "furniture" for f in row.get("findings", ()))
    ]
    notes = [f"{row['name']}: {note}" for row in inputs for note in row.get("notes", ())]
    left_out = [describe_skipped(row["name"], row["reason"]) for row in skipped]
    return [*findings, *notes, *left_out, *map(str, provenance["warnings"])]


def _common(plan: "CompilePlan") -> dict[str, Any]:
    return {
        "checkpoint": plan.checkpoint.name,
        "base": plan.config.base,
        "inputs": [_describe_document(plan, document) for document in plan.documents],
        "skipped": [{"name": name, "reason": reason} for name, reason in plan.intake.skipped],
        "n_tokens": plan.n_text_tokens,
        "n_tokens_read": plan.n_tokens,
        "n_chunks": len(plan.chunks),
        "n_parts": len(plan.chunks) if plan.keeps_parts else 0,
        "chunks": [
            {
                "document": chunk.document,
                "source": chunk.source,
                "n_tokens": len(chunk.token_ids),
                "rank": chunk.rank,
            }
            for chunk in plan.chunks
        ],
        "merge": plan.options.merge,
        "rank": plan.file_rank,
        "rank_before_max_rank": plan.cut.full_rank if plan.is_compressed else plan.file_rank,
        "adapter_bytes": plan.adapter_bytes,
        "warnings": list(plan.warnings),
    }


def _describe_document(plan: "CompilePlan", document: "Document") -> dict[str, Any]:
    return {
        "name": document.name,
        "format": document.format,
        "n_sections": len(document.sections),
        "n_chars": len(document.text),
        "rank": plan.ranks[document.name],
        "notes": list(document.notes),
        "findings": [
            asdict(found) | {"pages": list(found.pages), "lines": list(found.lines)}
            for found in document.findings
        ],
    }


def _describe_inputs(plan: "CompilePlan") -> list[str]:
    """A line for every input; of several also how many ranks or seats are its own."""
    documents = plan.documents
    if len(documents) == 1:
        return [f"input       {_describe_input(documents[0])}"]
    unit = plan.network.unit
    lines = [
        f"input       {_describe_input(document)}: {plan.ranks[document.name]:,} {unit}"
        for document in documents[:_MOST_SHOWN]
    ]
    if more := documents[_MOST_SHOWN:]:
        chars = sum(len(document.text) for document in more)
        ranks = sum(plan.ranks[document.name] for document in more)
        lines.append(f"            and {len(more):,} more, {chars:,} characters: {ranks:,} {unit}")
    return lines


def _describe_input(document: "Document") -> str:
    """For people: "manual.pdf (pdf, 38 pages, 61,204 characters)"."""
    last = max((section.page or 0 for section in document.sections), default=0)
    pages = f"{last:,} page{'s' * (last != 1)}, " if last else ""
    return f"{document.name} ({document.format}, {pages}{len(document.text):,} characters)"


def _describe_tokens(plan: "CompilePlan") -> list[str]:
    """Describe the tokens to read, and the choice among parts."""
    line = f"tokens      {plan.describe_tokens()}"
    if not plan.keeps_parts:
        return [line]
    one = "memory" if plan.network.unit == "seats" else "adapter"
    use = "use         d2l ask and d2l serve choose parts for a question"
    if plan.n_text_tokens > plan.cut.held_by_one:
        limit = plan.network.find_export_limit(plan.chunks)
        first = f"--chunk-tokens {limit} and " if limit else ""
        use += f"; other engines need {first}d2l export --to parts"
    return [f"{line}; one {one} of all holds about {plan.cut.held_by_one:,}", use]


def _describe_rank(plan: "CompilePlan") -> str:
    if plan.is_compressed:
        return f"{plan.rank} (bounded, from {plan.cut.full_rank})"
    seats = f" ({plan.rank} seats)" if plan.network.unit == "seats" else ""
    return f"{plan.file_rank}{seats}"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 100_000 else f"{n_bytes / 1e3:.1f} kB"
