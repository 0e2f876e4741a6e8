"""`d2l cache`: where the cache is, what is in it, and making it smaller."""

import time
from dataclasses import dataclass
from typing import Annotated

import typer

from d2l.commands import console
from d2l.commands.options import AsJson, make_app
from d2l.files import cache_entries as entries
from d2l.files.cache import cache_dir

app = make_app(add_completion=False)


@app.command("dir", epilog="Example: d2l cache dir")
def show_folder(as_json: AsJson = False) -> None:
    """Print the cache folder; D2L_CACHE_DIR names another."""
    folder = str(cache_dir())
    console.emit({"cache": folder}, folder, as_json=as_json)


@app.command("ls", epilog="Example: d2l cache ls")
def list_cache(as_json: AsJson = False) -> None:
    """List what the cache holds: entries that `prune` bounds, and all else."""
    rows = [_summarize(room) for room in entries.ROOMS]
    pruned = sum(row.n_bytes for row in rows)
    rest = max(entries.folder_bytes(cache_dir()) - pruned, 0)
    most = entries.max_bytes()
    if as_json:
        values = {
            "cache": str(cache_dir()),
            "rooms": [
                {
                    "kind": row.room,
                    "entries": row.n_entries,
                    "bytes": row.n_bytes,
                    "oldest_use": row.oldest,
                }
                for row in rows
            ],
            "other_bytes": rest,
            "max_bytes": most,
        }
        console.result_json(values)
        return
    shown = [(row.room, f"{row.n_entries:,}", _size(row.n_bytes), _age(row.oldest)) for row in rows]
    console.show_table(
        ("kind", "entries", "size", "least recently used"),
        [*shown, ("bases and others", "", _size(rest), "")],
    )
    console.result(f"{_size(pruned)} of at most {_size(most)} (D2L_CACHE_MAX_SIZE)")


@app.command("prune", epilog="Example: d2l cache prune --max-size 5GB")
def prune(
    max_size: Annotated[
        str | None,
        typer.Option(help="Such as 500MB or 5GB; default: D2L_CACHE_MAX_SIZE, or 5GB."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Remove entries, least recently used first, until the rest is no larger."""
    given = max_size is not None
    most = entries.parse_size(str(max_size), source="--max-size") if given else entries.max_bytes()
    removed = entries.prune(most)
    n_bytes = sum(entry.size_bytes for entry in removed)
    what = "entry" if len(removed) == 1 else "entries"
    console.emit(
        {"removed": len(removed), "freed_bytes": n_bytes},
        f"removed {len(removed):,} {what}, {_size(n_bytes)}",
        as_json=as_json,
    )


@app.command("clean", epilog="Example: d2l cache clean")
def clean(
    everything: Annotated[
        bool, typer.Option("--all", help="Bases, downloads and measurements, too.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove all entries; what is needed again is made again."""
    freed = entries.clean(everything=everything)
    console.emit({"freed_bytes": freed}, f"removed {_size(freed)}", as_json=as_json)


@dataclass(frozen=True)
class _Room:
    """What one kind of entries takes, and when the one not used for the longest time was used."""

    room: str
    n_entries: int
    n_bytes: int
    oldest: float | None


def _summarize(room: str) -> _Room:
    found = entries.list_entries(room)
    n_bytes = sum(entry.size_bytes for entry in found)
    return _Room(room, len(found), n_bytes, found[0].used if found else None)


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:,.1f} MB"


def _age(used: float | None) -> str:
    """How long ago something was, in the largest unit that fits."""
    if used is None:
        return ""
    seconds = max(time.time() - used, 0)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        n = int(seconds // length)
        if n:
            return f"{n} {unit}{'' if n == 1 else 's'} ago"
    return "just now"
