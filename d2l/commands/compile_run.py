"""Carry out plans of `d2l compile`: write adapters and their exports, together or one each."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from d2l.adapters.find import refuse_adapter
from d2l.commands import console
from d2l.commands.compile_report import (
    Report,
    add_cached,
    add_exports,
    report_plan,
    report_run,
)
from d2l.commands.export import export_beside, refuse_beside
from d2l.documents.intake import describe_skipped, refuse_warnings
from d2l.progress import Progress, silent

if TYPE_CHECKING:
    import d2l
    from d2l.compiler.plan import CompilePlan
    from d2l.documents.intake import Intake


@dataclass(frozen=True)
class CompileRun:
    """How adapters are compiled and written, and which exports go with each of them."""

    compiler: "d2l.Compiler"
    targets: tuple[str, ...]  # exports beside the adapter
    force: bool
    strict: bool  # no warnings are allowed

    def carry_out(
        self, plan: "CompilePlan", out: Path, *, watch: Progress = silent, is_first: bool = True
    ) -> Report:
        """Compile a plan, write the adapter at `out`, and its exports beside it. The report of the
        first plan also tells how long everything took until then."""
        refuse_adapter(out, force=self.force, n_bytes=plan.adapter_bytes + plan.parts_bytes)
        found = self.compiler.look_up(plan)
        self.compiler.load(plan, found)
        start = time.perf_counter()
        adapter = self.compiler(plan, watch=watch, found=found)
        adapter.save_pretrained(out, force=self.force)
        seconds = time.perf_counter() - start
        until = start - console.STARTED if is_first else None
        report = report_run(plan, adapter, out, seconds=seconds, start=until)
        report = add_cached(report, plan, found)
        options = self.compiler.options
        exports = export_beside(
            out, self.targets, base=options.base, offline=options.offline, force=self.force
        )
        return add_exports(report, exports)


def compile_each(intake: "Intake", folder: Path, run: CompileRun, *, dry_run: bool) -> Report:
    """Plan all, then write one adapter a document; the report of all of them."""
    from d2l.batch.each import prepare_each

    planned, skipped = prepare_each(intake, folder, run.compiler)
    left_out = [describe_skipped(name, reason) for name, reason in skipped]
    for message in left_out:
        console.warn(message)
    _warn([plan for plan, _ in planned])
    if run.strict:
        refuse_warnings([*left_out, *(text for plan, _ in planned for text in plan.warnings)])
    if not dry_run:  # all that may not be written, before anything is
        for _, out in planned:
            refuse_adapter(out, force=run.force)
            refuse_beside(out, run.targets, force=run.force)
    if dry_run:
        reports = [report_plan(plan) for plan, _ in planned]
    else:
        rows = enumerate(console.watch(planned, "compiling"))
        reports = [run.carry_out(plan, out, is_first=not n) for n, (plan, out) in rows]
    return _join([out for _, out in planned], reports, skipped=(*intake.skipped, *skipped))


def _warn(plans: Sequence["CompilePlan"]) -> None:
    """Each plan's warnings with its document's name; those that all share once."""
    shared = set.intersection(*(set(plan.warnings) for plan in plans))
    shared = shared if len(plans) > 1 else set()
    for message in plans[0].warnings:
        if message in shared:
            console.warn(message)
    for plan in plans:
        for message in plan.warnings:
            if message not in shared:
                console.warn(f"{plan.documents[0].name}: {message}")


def _join(
    outs: Sequence[Path],
    reports: Sequence[Report],
    *,
    skipped: Sequence[tuple[str, str]],
) -> Report:
    """The reports below each other, an empty line between them."""
    rows = [
        {"adapter": str(out), **report.values} for out, report in zip(outs, reports, strict=True)
    ]
    texts = [
        report.text if report.text.startswith(f"{out}\n") else f"{out}\n{report.text}"
        for out, report in zip(outs, reports, strict=True)
    ]
    values = {
        "adapters": rows,
        "skipped": [{"name": name, "reason": reason} for name, reason in skipped],
    }
    return Report("\n\n".join(texts), values)
