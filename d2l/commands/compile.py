"""The command `d2l compile`: documents in, a plan or an adapter out."""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

import d2l
from d2l.adapters.adapter_paths import VARIABLE, home_folder, refuse_adapter, refuse_small_disk
from d2l.commands import console
from d2l.commands.compile_report import (
    Report,
    report_plan,
    report_run,
    report_unchanged,
    show_preflight,
    warn,
)
from d2l.commands.options import OUTPUT, DryRun, Force, Strict, in_panel, note_smaller, taking
from d2l.compiler.lock import Request, check
from d2l.compiler.names import name_adapters
from d2l.documents.inputs import STDIN
from d2l.documents.intake import ReadOptions, read_inputs
from d2l.documents.sandbox import ReadLimits
from d2l.progress import announce

if TYPE_CHECKING:
    from d2l.compiler.plan import CompilePlan
    from d2l.files.hub import Need
    from d2l.hypernets.options import CompileOptions

T = TypeVar("T")


@taking("d2l.hypernets.options:CompileOptions")
@taking("d2l.documents.intake:ReadOptions", into="reading")
@taking("d2l.documents.sandbox:ReadLimits", into="limits")
def compile_command(
    context: typer.Context,
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
    reading, beside = replace(reading, limits=limits), dict[str, Path]()
    if out is None:
        out = _name_out(inputs, needed=locked or not dry_run)
    if locked or not (dry_run or force or to):
        wanted = options.record({}) | reading.record()
        where = (options.base, options.device, options.offline)
        request = Request(tuple(inputs), wanted, *where, options.base_dtype)
        state = check(out, request, locked=locked)
        if state is not None and (locked or state.is_current):
            report_unchanged(out, state, strict=strict)
            return
        force = state is not None and state.may_replace
        if state is not None and options.base_dtype is None:
            options = replace(options, base_dtype=state.lock.get("base_dtype"))
    if not dry_run:
        refuse_adapter(out, force=force)
    if to and not dry_run:
        from d2l.runtimes.export import refuse_beside

        beside = refuse_beside(out, to, force=force)

    intake = read_inputs(inputs, reading, console.ProgressBar("reading"))
    announce("planning")
    for remark in intake.remarks:
        console.note(remark)
    warn(intake.warnings, strict=strict)
    options = replace(options, cache=True)
    preflight = show_preflight(options, intake, dry_run=dry_run)
    need: Need = "plan" if dry_run else "weights"
    compiler = d2l.Compiler(options, need=need, network=preflight.network)
    plan = compiler.plan(preflight.plan or intake)
    warn(plan.warnings, strict=strict)
    write = partial(_write, force=force, hint=note_smaller(context, plan.config.base, plan.device))
    report = report_plan(plan) if dry_run else write(compiler, plan, out, beside)
    console.emit(report.values, report.text)


def _write(
    compiler: "d2l.Compiler",
    plan: "CompilePlan",
    out: Path,
    beside: Mapping[str, Path],
    *,
    force: bool,
    hint: str,
) -> Report:
    """Compile a plan, write the adapter at `out` and its exports `beside` it, by their target."""
    refuse_small_disk(out, plan.adapter_bytes + plan.parts_bytes)
    cached = compiler.look_up(plan)
    compiler.load(plan, cached, watch=console.watch)
    start = time.perf_counter()
    adapter = compiler(plan, watch=partial(_count_kept, hint=hint), cached=cached)
    adapter.save_pretrained(out, force=force)
    times = (time.perf_counter() - start, start - console.STARTED)
    base, offline = compiler.options.base, compiler.options.offline
    exports = [
        d2l.export(out, path, to=to, base=base, force=force, local_files_only=offline)
        for to, path in beside.items()
    ]
    console.warn(*(message for done in exports for message in done.warnings))
    return report_run(plan, adapter, out, times, cached=cached, exports=exports)


def _count_kept(items: Sequence[T], label: str, hint: str = "") -> Iterator[T]:
    """Show the progress, and say at an interruption what the cache keeps."""
    for n, item in enumerate(console.watch(items, label, hint)):
        console.set_stopping(f"{n:,} of {len(items):,} chunks are kept: run it again to go on")
        yield item
    console.set_stopping(None)


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
