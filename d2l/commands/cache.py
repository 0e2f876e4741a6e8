"""`d2l cache`: list the cache, and make it smaller."""

from typing import Annotated, Any

import typer

from d2l.commands import console
from d2l.files import cache_entries as entries
from d2l.files.cache import cache_dir


def list_cache() -> None:
    """List the cache: its folder, its entries and their size.

    `prune` removes entries. Bases, downloads and measurements are not entries.
    """
    values = describe_cache()
    console.emit(values, lambda: _show(values))


def describe_cache() -> dict[str, Any]:
    """Describe the cache's folder and its sizes; raises OptionError for an invalid largest size."""
    kinds = [_summarize(kind) for kind in entries.KINDS]
    entry_bytes = sum(kind["bytes"] for kind in kinds)
    return {
        "cache": str(cache_dir()),
        "rooms": kinds,
        "other_bytes": max(entries.folder_bytes(cache_dir()) - entry_bytes, 0),
        "max_bytes": entries.max_bytes(),
    }


def prune(
    max_size: Annotated[
        str | None,
        typer.Option(help="Such as 500MB, 5GB or 0; default: D2L_CACHE_MAX_SIZE, or 5GB."),
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Empty the folder: bases and measurements, too.")
    ] = False,
) -> None:
    """Remove entries that were not used for the longest time.

    d2l computes a removed entry again when it needs it.
    """
    if everything and max_size is not None:
        raise typer.BadParameter("--all removes everything: leave --max-size out")
    if everything:
        freed = entries.clean()
        console.emit({"freed_bytes": freed}, f"removed {_size(freed)}")
        return
    most = (
        entries.max_bytes()
        if max_size is None
        else entries.parse_size(max_size, source="--max-size")
    )
    removed = entries.prune(most)
    n_bytes = sum(entry.size_bytes for entry in removed)
    noun = "entry" if len(removed) == 1 else "entries"
    console.emit(
        {"removed": len(removed), "freed_bytes": n_bytes},
        f"removed {len(removed):,} {noun}, {_size(n_bytes)}",
    )


def _summarize(kind: str) -> dict[str, Any]:
    listed = entries.list_entries(kind)
    return {
        "kind": kind,
        "entries": len(listed),
        "bytes": sum(entry.size_bytes for entry in listed),
        "oldest_use": listed[0].used if listed else None,
    }


def _show(values: dict[str, Any]) -> None:
    entry_bytes = sum(kind["bytes"] for kind in values["rooms"])
    rows = [
        (
            kind["kind"],
            f"{kind['entries']:,}",
            _size(kind["bytes"]),
            console.spell_age(kind["oldest_use"]),
        )
        for kind in values["rooms"]
    ]
    console.result(values["cache"])
    console.show_table(
        ("kind", "entries", "size", "least recently used"),
        [*rows, ("bases and others", "", _size(values["other_bytes"]), "")],
    )
    most = _size(values["max_bytes"])
    console.result(f"{_size(entry_bytes)} of at most {most} (D2L_CACHE_MAX_SIZE)")


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"
