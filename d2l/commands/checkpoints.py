"""The commands of `d2l checkpoints`: list and check networks."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import Offline, taking

if TYPE_CHECKING:
    from d2l.hypernets.options import NetworkOptions


def list_checkpoints(
    name: Annotated[
        str | None, typer.Argument(help="Show this one: alias, folder, file or hub name.")
    ] = None,
    offline: Offline = False,
) -> None:
    """List the networks that have a short name, or show one."""
    if name is None:
        rows = describe_aliases()
        console.emit({"checkpoints": rows}, lambda: _show_aliases(rows))
    else:
        values = describe_checkpoint(name, offline=offline)
        console.emit(values, lambda: _show_checkpoint(values))


@taking("d2l.hypernets.options:NetworkOptions")
def check_checkpoint(
    checkpoint: Annotated[str, typer.Argument(help="Alias, folder, file or hub name.")],
    options: "NetworkOptions",
) -> None:
    """Check access, disk and GPU memory for a network.

    Downloads no weights. Exits with 1 if it cannot run, and says the first thing to do.
    """
    del checkpoint  # one of the options
    from d2l.compiler.preflight import list_needs

    preflight = list_needs(options)
    console.emit(preflight.to_json(), "\n".join(preflight.describe()))
    for fault in (*preflight.list_faults(), *preflight.list_doubts()):
        raise fault


def _show_aliases(rows: list[dict[str, Any]]) -> None:
    console.show_table(
        ("name", "base", "base license", "network", "size", "on disk"),
        [
            (
                row["name"],
                row["base"],
                row["base_license"],
                row["network"],
                f"{row['size_bytes'] / 1e6:,.0f} MB" if row["size_bytes"] else "not known",
                "built in" if row["source"] == "built in" else ("yes" if row["on_disk"] else "no"),
            )
            for row in rows
        ],
    )


def _show_checkpoint(values: dict[str, Any]) -> None:
    """Print a checkpoint's facts; of a long list its length."""
    keys = ("name", "path", "commit", "format", "network", "sha256")
    rows = [(key, values[key]) for key in keys if values[key] is not None]
    for key, value in values["config"].items():
        if key == "network":
            continue  # the kind, shown above
        long = isinstance(value, list | tuple) and len(value) > 8
        text = str(f"{len(value)} values" if long else value)
        rows.append((key, text if len(text) <= 100 else f"{text[:97]}…"))
    console.show_rows(rows)


def describe_aliases() -> list[dict[str, Any]]:
    """Describe the checkpoints that have a short name; opens no socket."""
    from d2l.hypernets.networks import list_aliases

    return [
        {
            "name": alias.name,
            "network": alias.network,
            "base": alias.base,
            "base_license": alias.license,
            "size_bytes": alias.size_bytes,
            "source": alias.location or "built in",
            "on_disk": str(path) if path is not None else None,
        }
        for alias, path in list_aliases()
    ]


def describe_checkpoint(name: str, *, offline: bool) -> dict[str, Any]:
    """Describe a checkpoint's place and configuration; raises CheckpointError. Weights that are on
    the hub stay there."""
    from dataclasses import asdict

    from d2l.files.hub import find_commit
    from d2l.hypernets.networks import ask_checkpoint, find_checkpoint, find_format

    missing = None if offline else ask_checkpoint(name)
    files = find_checkpoint(name, offline=offline, weights=False)
    _, entry = find_format(files.path)
    config: Any = entry.read_config(files.path)
    return {
        "name": files.name,
        "path": str(files.path) if missing is None else None,
        "commit": find_commit(files.path) if missing is None else missing.commit,
        "format": entry.name,
        "network": config.kind,
        "sha256": entry.digest(files.path) if missing is None else None,
        "config": asdict(config),
    }
