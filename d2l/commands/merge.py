"""The command `d2l merge`: adapters of one base in, one adapter out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import d2l
from d2l.adapters.info import read_info
from d2l.commands import console
from d2l.commands.edit import emit_written
from d2l.commands.options import (
    Base,
    Checkpoint,
    Device,
    DryRun,
    Force,
    Offline,
    Out,
    adapter_argument,
)
from d2l.hypernets.options import Merge

if TYPE_CHECKING:
    from d2l.change.merge_plan import MergePlan


def merge(
    adapters: Annotated[list[Path], adapter_argument("Adapters of one base.")],
    out: Out,
    weight: Annotated[
        list[float] | None,
        typer.Option(help="Strength of each adapter, in their order; repeatable; default: 1."),
    ] = None,
    method: Annotated[
        Merge, typer.Option(help="concat: the weighted sum; average: weights that sum to 1.")
    ] = "concat",
    max_rank: Annotated[
        int | None, typer.Option(min=1, help="Highest rank: smaller files recall less.")
    ] = None,
    checkpoint: Checkpoint = None,
    base: Base = None,
    device: Device = "auto",
    dry_run: DryRun = False,
    force: Force = False,
    offline: Offline = False,
) -> None:
    """Merge adapters of one base into one."""
    from d2l.adapters.adapter_paths import refuse_adapter

    if not dry_run:
        refuse_adapter(out, force=force)
    plan = d2l.plan_merge(
        adapters,
        weights=weight or None,
        method=method,
        max_rank=max_rank,
        checkpoint=checkpoint,
        local_files_only=offline,
    )
    console.warn(*plan.warnings)  # decided and said before torch is imported
    if dry_run:
        console.emit(_describe_plan(plan), _show_plan(plan))
        return
    made = d2l.merge(
        plan, checkpoint=checkpoint, base=base, device=device, local_files_only=offline
    )
    made.save_pretrained(out, force=force)
    assert made.provenance is not None  # merging says where it came from
    errors, n_parts = made.provenance.merge_error, read_info(out).n_parts
    worst = max(errors.values(), default=0.0)
    values = {
        "n_parts": n_parts,
        "max_merge_error": worst,
        "merge_error": errors,
        "warnings": list(plan.warnings),
    }
    lines = [f"parts       {n_parts:,}"] if n_parts else []
    lines += [f"error       at most {worst:.2%} of a module's delta was cut off"] if errors else []
    emit_written(out, made.weights.rank, values, (), lines)


def _describe_plan(plan: "MergePlan") -> dict[str, Any]:
    return {
        "adapters": [parent.name for parent in plan.parents],
        "weights": list(plan.shares),
        "method": plan.method,
        "rank": plan.rank,
        "seats": list(plan.after),
        "seats_before": list(plan.before),
        "warnings": list(plan.warnings),
    }


def _show_plan(plan: "MergePlan") -> str:
    rows = [
        f"adapter     {parent.name} (rank {parent.rank}{_describe_seats(had, kept)}, "
        f"strength {share:g})"
        for parent, share, had, kept in zip(
            plan.parents, plan.shares, plan.before, plan.after, strict=True
        )
    ]
    n_seats = sum(plan.after)
    rank = f"{plan.rank} ({n_seats} seats)" if plan.rank < n_seats else str(plan.rank)
    return "\n".join([*rows, f"method      {plan.method}", f"rank        {rank}"])


def _describe_seats(before: int, after: int) -> str:
    if after < before:
        return f", {after:,} of {before:,} seats"
    return ", seats" if before else ""
