"""The command `d2l compile`: documents in, a plan or an adapter out."""

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import d2l
from d2l.adapters import info as names
from d2l.adapters.find import VARIABLE, home_folder, refuse_adapter
from d2l.commands import console
from d2l.commands.compile_report import (
    Report,
    report_plan,
    report_unchanged,
    show_preflight,
)
from d2l.commands.compile_run import CompileRun
from d2l.commands.export import refuse_beside
from d2l.commands.options import (
    OUTPUT,
    DryRun,
    Force,
    Strict,
    in_panel,
    taking,
)
from d2l.compiler.lock import Request, State, check
from d2l.compiler.names import name_adapters
from d2l.documents.inputs import STDIN
from d2l.documents.intake import Intake, ReadOptions, read_inputs, refuse_warnings
from d2l.documents.sandbox import ReadLimits
from d2l.errors import AdapterError

if TYPE_CHECKING:
    from d2l.hypernets.options import CompileOptions


@taking("d2l.hypernets.options:CompileOptions", command="compile")
@taking("d2l.documents.intake:ReadOptions", into="reading")
@taking("d2l.documents.sandbox:ReadLimits", into="limits")
def compile_command(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, or - for stdin.")],
    options: "CompileOptions",
    reading: ReadOptions,
    limits: ReadLimits,
    out: Annotated[
        Path | None,
        in_panel(OUTPUT, "-o", "--out", help=f"Folder; default: FILE.lora, in {VARIABLE} or here."),
    ] = None,
    to: Annotated[
        list[str] | None,
        in_panel(OUTPUT, help="Also export to gguf, ollama, mlx or merged; repeatable."),
    ] = None,
    strict: Strict = False,
    locked: Annotated[
        bool,
        in_panel(OUTPUT, "--locked", help="Write nothing; fail if anything drifted from d2l.lock."),
    ] = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Compile documents into one adapter."""
    targets = tuple(to or ())
    reading = replace(reading, limits=limits)
    if out is None:
        out = _name_out(inputs, needed=locked or not dry_run)
    if locked or not (dry_run or force or to):
        wanted = options.record({}) | reading.record()
        request = Request(tuple(inputs), wanted, options.base, options.device, options.offline)
        state = _check_lock(out, request, locked=locked)
        if state is not None and (locked or state.is_current):
            report_unchanged(out, state, strict=strict)
            return
        force = state is not None and state.may_replace
    if not dry_run:
        refuse_adapter(out, force=force)
        refuse_beside(out, targets, force=force)

    intake = _read(inputs, reading, strict=strict)
    show_preflight(options, intake, dry_run=dry_run)
    compiler = d2l.Compiler(replace(options, cache=True), need="plan" if dry_run else "weights")
    run = CompileRun(compiler, targets, force=force, strict=strict)
    report = _compile(intake, out, run, dry_run=dry_run)
    console.emit(report.values, report.text)


def _name_out(inputs: list[str], *, needed: bool) -> Path:
    """Name the adapter of one input without -o; raises BadParameter for other inputs, if an adapter
    is `needed`."""
    reason = None
    if len(inputs) > 1:
        reason = "name the adapter of several inputs"
    elif inputs[0] == STDIN:
        reason = "standard input has no name"
    if reason is None:
        return home_folder() / name_adapters([os.path.abspath(inputs[0])])[0]
    if needed:
        raise typer.BadParameter(f"-o is missing: {reason}")
    return home_folder()


def _check_lock(out: Path, request: Request, *, locked: bool) -> State | None:
    """Compare with the lock at `out`; None if there is no lock.

    With `locked` a missing lock and every difference raise AdapterError.
    """
    state = check(out, request)
    if not locked:
        return state
    if state is None:
        raise AdapterError(
            f"--locked: {out} has no {names.LOCK}",
            hint=f"compile once without --locked, and keep the folder or its {names.LOCK}",
        )
    state.refuse(out, "--locked")
    return state


def _read(inputs: list[str], reading: ReadOptions, *, strict: bool) -> Intake:
    """Read all inputs, and show notes and warnings; raises DocumentError."""
    with console.ProgressBar("reading") as progress:
        intake = read_inputs(inputs, reading, progress)
    for message in intake.remarks:
        console.note(message)
    for message in intake.warnings:
        console.warn(message)
    if strict:
        refuse_warnings(intake.warnings)
    return intake


def _compile(intake: Intake, out: Path, run: CompileRun, *, dry_run: bool) -> Report:
    """Plan one adapter of all documents, and write it unless only the plan is wanted."""
    plan = run.compiler.plan(intake)
    for message in plan.warnings:
        console.warn(message)
    if run.strict:
        refuse_warnings(plan.warnings)
    return report_plan(plan) if dry_run else run.carry_out(plan, out, watch=console.watch)
