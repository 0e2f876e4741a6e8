"""The commands of `d2l checkpoints`: list and check networks."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import taking

if TYPE_CHECKING:
    from d2l.hypernets.options import NetworkOptions


def list_checkpoints() -> None:
    """List the networks that have a short name."""
    rows = describe_aliases()
    console.emit({"checkpoints": rows}, lambda: _show_aliases(rows))


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
