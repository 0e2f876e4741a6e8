"""The command `d2l edit`: pages and files of an adapter dropped or kept alone."""

from collections.abc import Mapping, Sequence
from pathlib import Path
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
    console.warn(*plan.warnings)
    values = {
        "n_chunks": len(plan.stays),
        "n_left_out": len(plan.gone),
        "kept": list(plan.kept),
        "left_out": list(plan.left_out),
        "warnings": list(plan.warnings),
    }
    lines = _list_places(plan)
    if dry_run:  # seats are known before they are solved for, ranks are not
        unit = plan.parent.unit
        console.emit({unit: plan.rank, **values}, "\n".join([*lines, f"{unit:<12}{plan.rank}"]))
        return
    made = d2l.edit(plan, checkpoint=checkpoint, base=base, device=device, local_files_only=offline)
    made.save_pretrained(out, force=force)
    emit_written(out, made.weights.rank, values, lines)


def emit_written(
    out: Path, rank: int, values: Mapping[str, Any], above: Sequence[str], below: Sequence[str] = ()
) -> None:
    """Print a changed adapter that was written: `values`, with lines above and below its rank."""
    size = read_info(out).size_bytes
    lines = [str(out), *above, f"rank        {rank}", *below, f"size        {size / 1e6:.2f} MB"]
    written = {"adapter": str(out), "rank": rank, "size_bytes": size, **values}
    console.emit(written, "\n".join(lines))


def _list_places(plan: "EditPlan") -> list[str]:
    """List the chunks that stay and those that go, each in one line."""
    from d2l.adapters.selectors import describe_places

    chunks = plan.parent.chunks
    return [
        f"{name:<12}{describe_places(chunks, own)} ({len(own):,} of {len(chunks):,} chunks)"
        for name, own in (("kept", plan.stays), ("left out", plan.gone))
        if own
    ]
