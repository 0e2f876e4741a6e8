"""The command `d2l ls`: the adapters in a folder, a line each."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2l.commands import console

if TYPE_CHECKING:
    from d2l.adapters.listing import Entry

_COLUMNS = ("adapter", "base", "inputs", "rank", "size", "inputs changed")


def list_adapters(
    folder: Annotated[Path, typer.Argument(help="Folder with adapters in it.")] = Path(),
) -> None:
    """List the adapters in a folder."""
    from d2l.adapters import listing

    entries = listing.list_adapters(folder)
    rows = [entry._asdict() for entry in entries]
    console.emit({"folder": str(folder), "adapters": rows}, lambda: _show(folder, entries))


def _show(folder: Path, entries: "list[Entry]") -> None:
    readable = [entry for entry in entries if entry.error is None]
    if readable:
        console.show_table(_COLUMNS, [_describe(entry) for entry in readable])
    for entry in entries:
        if entry.error is not None:
            console.warn(f"left out: {entry.error}")
    if not entries:
        console.note(f"{folder}: no adapters in it")


def _describe(entry: "Entry") -> tuple[str, ...]:
    inputs = ", ".join(entry.inputs[:3]) + (f", … ({len(entry.inputs)})" * (len(entry.inputs) > 3))
    rank = "" if entry.rank is None else str(entry.rank)
    return (
        entry.name,
        entry.base or "?",
        inputs or "?",
        rank if entry.seats is None else f"{entry.seats} seats",
        f"{(entry.size_bytes or 0) / 1e6:.1f} MB",
        entry.inputs_date or "?",
    )
