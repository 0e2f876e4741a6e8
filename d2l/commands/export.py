"""The command `d2l export`: options in, a file or folder for another runtime out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import d2l
from d2l.commands import console
from d2l.commands.options import (
    OUTPUT,
    AdapterPath,
    Base,
    Checkpoint,
    Device,
    Force,
    Offline,
    Target,
    in_panel,
)

if TYPE_CHECKING:
    from d2l.runtimes.export import ExportResult


def export(
    adapter: AdapterPath,
    to: Annotated[Target, in_panel(OUTPUT, help="What to write.")],
    out: Annotated[
        Path | None,
        in_panel(
            OUTPUT,
            "-o",
            "--out",
            help="Folder to write, or one file NAME.gguf; default: NAME.gguf or NAME-TO beside the "
            "adapter.",
        ),
    ] = None,
    base: Base = None,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
    dry_run: Annotated[
        bool, in_panel(OUTPUT, "--dry-run", help="Print the plan; write nothing.")
    ] = False,
    force: Force = False,
    offline: Offline = False,
) -> None:
    """Export an adapter for another runtime.

    d2l reads the result back before it keeps it. `--to parts` writes an adapter for each part:
    `d2l serve FOLDER --upstream URL` then chooses one for each question, and the engine at URL
    answers.
    """
    if out is None:
        from d2l.runtimes.export import name_beside

        out = name_beside(adapter, to)
    if dry_run:
        plan = d2l.plan_export(adapter, out, to=to, base=base, local_files_only=offline)
        console.warn(*plan.warnings)
        values, rows = plan.describe()
        values = {"to": plan.options.to, **values, "load": plan.load}
        values["warnings"] = list(plan.warnings)
        console.emit(values, "\n".join([*rows, f"load        {plan.load}"]))
        return
    done = d2l.export(
        adapter,
        out,
        to=to,
        watch=console.watch,
        base=base,
        checkpoint=checkpoint,
        device=device,
        force=force,
        local_files_only=offline,
    )
    console.warn(*done.warnings)
    console.emit(describe(done), show(done))


def describe(done: "ExportResult") -> dict[str, Any]:
    """Describe an export as `--json` prints it."""
    return {
        "export": str(done.path),
        "to": done.to,
        "size_bytes": done.size_bytes,
        "load": done.load,
        "warnings": list(done.warnings),
    }


def show(done: "ExportResult") -> str:
    """Show an export for people."""
    return f"{done.path}\nsize        {done.size_bytes / 1e6:.2f} MB\nload        {done.load}"
