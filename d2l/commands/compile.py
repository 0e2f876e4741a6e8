"""The command `d2l compile`: documents in, a plan or an adapter out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import d2l
from d2l.adapters.find import refuse_adapter
from d2l.commands import console
from d2l.commands.compile_each import compile_each
from d2l.commands.compile_order import Order
from d2l.commands.compile_report import Report, report_plan
from d2l.commands.export import refuse_beside
from d2l.commands.lock import Locking, check_lock, refuse_with_each, report_unchanged
from d2l.commands.options import (
    AsJson,
    Base,
    CheckpointName,
    Chunking,
    Device,
    DryRun,
    Force,
    Format,
    Merge,
    Offline,
    Out,
    RefineSteps,
    RefineTime,
    Targets,
    WrittenDtype,
    split_list,
)
from d2l.compiler.lock import Request, name_options
from d2l.documents.intake import Intake, ReadOptions, make_limits, read_inputs
from d2l.hypernets.registry import DEFAULT
from d2l.refining.options import parse_time

if TYPE_CHECKING:
    from d2l.compiler.options import PlanWishes


def compile_command(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, or - for stdin.")],
    out: Out,
    checkpoint: CheckpointName = DEFAULT,
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
    refine: RefineTime = None,
    refine_steps: RefineSteps = None,
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
    each: Annotated[
        bool,
        typer.Option("--each", help="One adapter for each input; -o is the folder of them all."),
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without inputs that cannot be read.")
    ] = False,
    include_hidden: Annotated[
        bool, typer.Option("--include-hidden", help="Compile text that no reader sees, too.")
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse hidden text, instructions to models, and secrets."),
    ] = False,
    keep_paths: Annotated[
        bool, typer.Option("--keep-paths", help="Name inputs in d2l.json by their whole paths.")
    ] = False,
    chunking: Annotated[
        Chunking,
        typer.Option(help="stable: a change of the text moves only the borders around it."),
    ] = "usual",
    locked: Annotated[
        bool,
        typer.Option("--locked", help="Write nothing; fail if anything drifted from d2l.lock."),
    ] = False,
    frozen: Annotated[
        bool,
        typer.Option("--frozen", help="Make exactly what d2l.lock says, offline, or fail."),
    ] = False,
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Read every chunk; keep nothing in the cache.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say why each chunk that is read was not cached.")
    ] = False,
    dry_run: DryRun = False,
    force: Force = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Compile documents into one adapter, or with --each into one adapter each."""
    offline = offline or frozen
    targets = split_list("--to", to)
    if each:
        refuse_with_each(locked=locked, frozen=frozen)
    reading = ReadOptions(
        format=format,
        encoding=encoding,
        password=password,
        skip_bad=skip_bad,
        include_hidden=include_hidden,
        limits=make_limits(
            max_bytes=max_bytes,
            max_chars=max_chars,
            seconds=parse_seconds,
            memory_mb=parse_memory,
        ),
    )
    wishes: PlanWishes = {
        "merge": merge,
        "scale": scale,
        "bias_scale": bias_scale,
        "max_rank": max_rank,
        "chunk_tokens": chunk_tokens,
        "tokens_per_seat": tokens_per_seat,
        "dtype": dtype,
        "refine": None if refine is None else parse_time(refine),
        "refine_steps": refine_steps,
        "keep_paths": keep_paths,
        "chunking": chunking,
        "cache": not no_cache,
    }
    state = None
    if locked or frozen or not (each or dry_run or force or strict or to):
        wanted = name_options(checkpoint, wishes, reading)
        request = Request(tuple(inputs), wanted, base, device, offline)
        state = check_lock(out, request, locked=locked, frozen=frozen)
    if state is not None and (locked or state.is_current):
        report_unchanged(out, state, as_json=as_json)
        return
    force = force or (state is not None and (frozen or state.may_replace))
    if not dry_run and not each:
        refuse_adapter(out, force=force)
        refuse_beside(out, targets, force=force)

    intake = _read(inputs, reading, strict=strict)
    compiler = d2l.Compiler.from_pretrained(
        checkpoint, base=base, device=device, local_files_only=offline
    )
    order = Order(
        compiler,
        tuple(targets),
        force=force,
        explain=explain,
        locking=Locking(state, frozen=frozen),
    )
    if each:
        report = compile_each(intake, out, order, wishes, dry_run=dry_run)
    else:
        report = _compile_together(intake, out, order, wishes, dry_run=dry_run)
    console.emit(report.values, report.text, as_json=as_json)


def _read(inputs: list[str], reading: ReadOptions, *, strict: bool) -> Intake:
    """Read all inputs, and say what was found in them; raises DocumentError."""
    with console.Steps("reading") as progress:
        intake = read_inputs(inputs, reading, progress)
    for message in intake.describe():
        console.warn(message)
    if strict:
        intake.refuse_findings()
    return intake


def _compile_together(
    intake: Intake, out: Path, order: Order, wishes: "PlanWishes", *, dry_run: bool
) -> Report:
    """Plan one adapter of all documents, and write it unless the plan is all that is wanted."""
    plan = order.compiler.plan(intake, **wishes)
    for message in plan.warnings:
        console.warn(message)
    return report_plan(plan) if dry_run else order.carry_out(plan, out, watch=console.watch)
