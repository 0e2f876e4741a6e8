"""The command `d2l compile`: documents in, a plan or an adapter out, as text and as JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.adapters.info import read_info
from d2l.commands import console
from d2l.commands.export import export_beside, refuse_beside
from d2l.commands.options import (
    AsJson,
    Base,
    CheckpointName,
    Device,
    DryRun,
    Force,
    Format,
    Merge,
    Offline,
    Out,
    Targets,
    WrittenDtype,
    split_list,
)

if TYPE_CHECKING:
    from d2l.compiler.compile import CompileOptions, CompilePlan, CompileResult
    from d2l.documents.document import Document
    from d2l.documents.intake import Intake
    from d2l.runtimes.export import ExportResult


def compile_command(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, or - for stdin.")],
    out: Out,
    checkpoint: CheckpointName = "smollm2-135m",
    base: Base = None,
    device: Device = "auto",
    merge: Annotated[Merge, typer.Option(help="How chunks become one adapter.")] = "concat",
    max_rank: Annotated[int | None, typer.Option(min=1, help="Bound the adapter's rank.")] = None,
    scale: Annotated[float, typer.Option(help="Strength of the document's part.")] = 1.0,
    bias_scale: Annotated[float, typer.Option(help="Strength of the learned bias.")] = 1.0,
    chunk_tokens: Annotated[
        int | None, typer.Option(min=1, help="Chunk limit; default: the checkpoint's own.")
    ] = None,
    tokens_per_seat: Annotated[
        int | None,
        typer.Option(
            min=1, help="Seat networks: fewer recall more, and disturb other answers more."
        ),
    ] = None,
    dtype: WrittenDtype = "bf16",
    to: Targets = None,
    format: Annotated[Format | None, typer.Option(help="Read inputs as this format.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Read text in this encoding.")] = None,
    password: Annotated[str | None, typer.Option(help="Password of encrypted PDFs.")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Largest input file.")] = None,
    max_chars: Annotated[int | None, typer.Option(min=1, help="Most text in a file.")] = None,
    parse_seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Time limit of a parser.")
    ] = None,
    parse_memory: Annotated[
        int | None, typer.Option(min=1, help="Memory limit of a parser, in MB.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without inputs that cannot be read.")
    ] = False,
    dry_run: DryRun = False,
    force: Force = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Compile documents into one adapter."""
    from d2l.adapters.peft_folder import refuse_adapter
    from d2l.compiler import compile as pipeline
    from d2l.documents.intake import ReadOptions, make_limits, read_inputs
    from d2l.hypernets.protocol import MergeOptions

    reading = ReadOptions(
        format=format,
        encoding=encoding,
        password=password,
        skip_bad=skip_bad,
        limits=make_limits(
            max_bytes=max_bytes,
            max_chars=max_chars,
            seconds=parse_seconds,
            memory_mb=parse_memory,
        ),
    )
    options = pipeline.CompileOptions(
        checkpoint=checkpoint,
        base=base,
        device=device,
        merge=MergeOptions(merge, scale, bias_scale),
        max_rank=max_rank,
        chunk_tokens=chunk_tokens,
        tokens_per_seat=tokens_per_seat,
        dtype=dtype,
        offline=offline,
        force=force,
    )
    targets = split_list("--to", to)
    if not dry_run:
        refuse_adapter(out, force=force)
        refuse_beside(out, targets, force=force)
    with console.Steps("reading") as progress:
        intake = read_inputs(inputs, reading, progress)
    plan = pipeline.prepare(intake.documents, options)
    for message in (*remarks(intake), *plan.warnings):
        console.warn(message)
    if dry_run:
        report = report_plan(plan, options, intake)
    else:
        done = pipeline.run(plan, out, options=options, watch=console.watch, skipped=intake.skipped)
        report = report_run(done, intake)
        exports = export_beside(out, targets, base=base, offline=offline, force=force)
        report = add_exports(report, exports)
    if as_json:
        console.result_json(report.values)
    else:
        console.result(report.text)


@dataclass(frozen=True)
class Report:
    """The same facts twice: lines for people, values for programs."""

    text: str
    values: dict[str, Any]


def remarks(intake: "Intake") -> Iterator[str]:
    """What the readers want told, and what was skipped."""
    for document in intake.documents:
        for note in document.notes:
            yield f"{document.name}: {note}"
    for name, reason in intake.skipped:
        yield f"skipped {reason if reason.startswith(name) else f'{name}: {reason}'}"
    if intake.ignored:
        shown = ", ".join(intake.ignored[:3]) + (", …" if len(intake.ignored) > 3 else "")
        files = "file" if len(intake.ignored) == 1 else "files"
        yield f"passed over {len(intake.ignored)} {files} of other kinds: {shown}"


def report_plan(plan: "CompilePlan", options: "CompileOptions", intake: "Intake") -> Report:
    """What would be done, and how long it would take past start-up."""
    from d2l.bases.models import pick_device
    from d2l.compiler.timing import estimate_seconds

    device = pick_device(options.device)
    seconds, origin = estimate_seconds(plan, device)
    values = _common(plan, intake) | {
        "device": device,
        "adapter_bytes": plan.adapter_bytes,
        "estimated_seconds": round(seconds, 2),
        "estimate_from": origin,
    }
    lines = [
        *_describe_inputs(intake),
        f"checkpoint  {plan.checkpoint.name} ({plan.config.kind})",
        f"base        {plan.config.base}",
        f"tokens      {plan.describe_tokens()}",
        f"rank        {_describe_rank(plan)}",
        f"weights     {_size(plan.adapter_bytes)} ({options.dtype})",
        f"time        about {seconds:.1f} s on {device} past start-up (from {origin})",
    ]
    return Report("\n".join(lines), values)


def report_run(done: "CompileResult", intake: "Intake") -> Report:
    """What was written."""
    plan, info = done.plan, read_info(done.adapter)
    worst = max(done.merge_error.values(), default=0.0)
    values = _common(plan, intake) | {
        "adapter": str(done.adapter),
        "device": done.device,
        "size_bytes": info.size_bytes,
        "seconds": round(done.seconds, 3),
        "max_merge_error": worst,
    }
    lines = [
        str(done.adapter),
        *_describe_inputs(intake),
        f"tokens      {plan.describe_tokens()}",
        f"rank        {_describe_rank(plan)}",
        f"size        {_size(info.size_bytes)}",
        f"time        {done.seconds:.1f} s on {done.device} past start-up",
    ]
    if done.merge_error:
        lines.insert(-2, f"error       at most {worst:.2%} of a module's delta was cut off")
    return Report("\n".join(lines), values)


def add_exports(report: Report, exports: Sequence["ExportResult"]) -> Report:
    """The report of a run, and of what was exported beside the adapter."""
    if not exports:
        return report
    lines = [f"export      {done.path} ({_size(done.size_bytes)}): {done.load}" for done in exports]
    rows = [
        {"export": str(done.path), "to": done.to, "size_bytes": done.size_bytes, "load": done.load}
        for done in exports
    ]
    return Report("\n".join([report.text, *lines]), report.values | {"exports": rows})


def _common(plan: "CompilePlan", intake: "Intake") -> dict[str, Any]:
    return {
        "checkpoint": plan.checkpoint.name,
        "base": plan.config.base,
        "inputs": [_describe_document(document) for document in intake.documents],
        "skipped": [{"name": name, "reason": reason} for name, reason in intake.skipped],
        "n_tokens": plan.n_tokens,
        "n_chunks": len(plan.chunks),
        "chunks": [
            {
                "document": chunk.document,
                "source": chunk.source,
                "n_tokens": len(chunk.token_ids),
                "rank": chunk.rank,
            }
            for chunk in plan.chunks
        ],
        "merge": plan.method,
        "rank": plan.rank,
        "rank_before_max_rank": plan.full_rank,
        "warnings": list(plan.warnings),
    }


def _describe_document(document: "Document") -> dict[str, Any]:
    return {
        "name": document.name,
        "format": document.format,
        "n_sections": len(document.sections),
        "n_chars": len(document.text),
        "notes": list(document.notes),
    }


def _describe_inputs(intake: "Intake") -> list[str]:
    documents = intake.documents
    if len(documents) > 8:
        chars = sum(len(document.text) for document in documents)
        return [f"inputs      {len(documents)} documents, {chars:,} characters"]
    return [
        f"input       {document.name} ({document.format}, {len(document.text):,} characters)"
        for document in documents
    ]


def _describe_rank(plan: "CompilePlan") -> str:
    if plan.rank != plan.full_rank:
        return f"{plan.rank} (bounded, from {plan.full_rank})"
    return f"{plan.rank}{plan.kind.rank_unit}"


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes >= 100_000 else f"{n_bytes / 1e3:.1f} kB"
