"""The command `d2l edit`: pages and files of an adapter dropped or kept alone."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

import d2l
from d2l.adapters.info import read_info
from d2l.commands import console
from d2l.commands.options import AdapterPath, Base, Checkpoint, Device, DryRun, Force, Offline, Out

if TYPE_CHECKING:
    from d2l.change.edit import EditPlan


def edit(
    adapter: AdapterPath,
    out: Out,
    drop: Annotated[
        list[str] | None,
        typer.Option(help='Leave these out: FILE, "FILE:p. 12-14" or FILE:#3; repeatable.'),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Keep these alone, named as for --drop; repeatable.")
    ] = None,
    checkpoint: Checkpoint = None,
    base: Base = None,
    device: Device = "auto",
    dry_run: DryRun = False,
    force: Force = False,
    offline: Offline = False,
) -> None:
    """Drop or keep pages of an adapter.

    The document is not read again.
    """
    from d2l.adapters.adapter_paths import refuse_adapter

    if not dry_run:
        refuse_adapter(out, force=force)
    plan = d2l.plan_edit(adapter, drop=drop or (), keep=keep or ())
    for message in plan.warnings:
        console.warn(message)
    if dry_run:
        values = {_unit(plan): plan.rank, **_describe_plan(plan)}
        lines = [*_list_places(plan), f"{_unit(plan):<12}{plan.rank}"]
        console.emit(values, "\n".join(lines))
        return
    made = d2l.edit(plan, checkpoint=checkpoint, base=base, device=device, local_files_only=offline)
    made.save_pretrained(out, force=force)
    values = {
        "adapter": str(out),
        "rank": made.weights.rank,
        "size_bytes": read_info(out).size_bytes,
        **_describe_plan(plan),
    }
    lines = [
        str(out),
        *_list_places(plan),
        f"rank        {values['rank']}",
        f"size        {values['size_bytes'] / 1e6:.2f} MB",
    ]
    console.emit(values, "\n".join(lines))


def _describe_plan(plan: "EditPlan") -> dict[str, Any]:
    """Describe a plan, or an edit, as `--json` prints it."""
    return {
        "n_chunks": len(plan.stays),
        "n_left_out": len(plan.gone),
        "kept": list(plan.kept),
        "left_out": list(plan.left_out),
        "warnings": list(plan.warnings),
    }


def _list_places(plan: "EditPlan") -> list[str]:
    """List the chunks that stay and those that go, each in one line."""
    from d2l.adapters.selectors import describe_places

    chunks = plan.parent.chunks
    return [
        f"{name:<12}{describe_places(chunks, own)} ({len(own):,} of {len(chunks):,} chunks)"
        for name, own in (("kept", plan.stays), ("left out", plan.gone))
        if own
    ]


def _unit(plan: "EditPlan") -> str:
    """Name the unit of chunks: seats are known before they are solved for, ranks are not."""
    return plan.parent.unit
