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
    from d2l.batch.each import Planned
    from d2l.commands.compile_order import Order
    from d2l.compiler.options import PlanWishes
    from d2l.documents.intake import Intake


def compile_each(
    intake: "Intake", folder: Path, order: "Order", wishes: "PlanWishes", *, dry_run: bool
) -> Report:
    """Plan all, then write one adapter a document; the report of all of them."""
    from d2l.batch.each import prepare_each

    each = prepare_each(intake, folder, order.compiler, **wishes)
    if not dry_run:  # all that may not be written, before anything is
        for item in each.planned:
            refuse_adapter(item.out, force=order.force)
            refuse_beside(item.out, order.targets, force=order.force)
    for name, reason in each.skipped:
        console.warn(describe_skipped(name, reason))
    _warn(each.planned)
    if dry_run:
        reports = [report_plan(item.plan) for item in each.planned]
    else:
        reports = [
            order.carry_out(item.plan, item.out)
            for item in console.watch(each.planned, "compiling")
        ]
    return _join(each.planned, reports, skipped=(*intake.skipped, *each.skipped))


def _warn(planned: Sequence["Planned"]) -> None:
    """Each plan's warnings with its document's name; those that all share once."""
    shared = set.intersection(*(set(item.plan.warnings) for item in planned))
    shared = shared if len(planned) > 1 else set()
    for message in planned[0].plan.warnings:
        if message in shared:
            console.warn(message)
    for item in planned:
        for message in item.plan.warnings:
            if message not in shared:
                console.warn(f"{item.document.name}: {message}")


def _join(
    planned: Sequence["Planned"],
    reports: Sequence[Report],
    *,
    skipped: Sequence[tuple[str, str]],
) -> Report:
    """The reports below each other, an empty line between them."""
    rows = [
        {"adapter": str(item.out), **report.values}
        for item, report in zip(planned, reports, strict=True)
    ]
    texts = [
        report.text if report.text.startswith(f"{item.out}\n") else f"{item.out}\n{report.text}"
        for item, report in zip(planned, reports, strict=True)
    ]
    values = {
        "adapters": rows,
        "skipped": [{"name": name, "reason": reason} for name, reason in skipped],
    }
    return Report("\n\n".join(texts), values)
