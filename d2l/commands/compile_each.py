"""`d2l compile --each`: documents in, a plan or an adapter for each out, as text and as JSON."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from d2l.adapters.find import refuse_adapter
from d2l.commands import console
from d2l.commands.compile_report import Report, report_plan
from d2l.commands.export import refuse_beside
from d2l.documents.intake import describe_skipped

if TYPE_CHECKING:
    from d2l.commands.compile_order import Order
    from d2l.compiler.plan import CompilePlan
    from d2l.documents.intake import Intake


def compile_each(intake: "Intake", folder: Path, order: "Order", *, dry_run: bool) -> Report:
    """Plan all, then write one adapter a document; the report of all of them."""
    from d2l.batch.each import prepare_each

    planned, skipped = prepare_each(intake, folder, order.compiler)
    if not dry_run:  # all that may not be written, before anything is
        for _, out in planned:
            refuse_adapter(out, force=order.force)
            refuse_beside(out, order.targets, force=order.force)
    for name, reason in skipped:
        console.warn(describe_skipped(name, reason))
    _warn([plan for plan, _ in planned])
    if dry_run:
        reports = [report_plan(plan) for plan, _ in planned]
    else:
        reports = [order.carry_out(plan, out) for plan, out in console.watch(planned, "compiling")]
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
