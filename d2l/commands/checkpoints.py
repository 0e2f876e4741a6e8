"""The commands `d2l checkpoints …`: list, show, convert, export, begin."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from d2l.commands import console
from d2l.commands.console import show_rows
from d2l.commands.options import AsJson, Device, Force, Offline

checkpoints_app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    help="List, show and convert checkpoints.",
)


@checkpoints_app.command("ls", epilog="Example: d2l checkpoints ls")
def list_command(as_json: AsJson = False) -> None:
    """List the checkpoints that have a short name."""
    rows = list_checkpoints()
    console.emit({"checkpoints": rows}, lambda: show_checkpoints(rows), as_json=as_json)


@checkpoints_app.command("show", epilog="Example: d2l checkpoints show smollm2-135m")
def show_command(
    name: Annotated[str, typer.Argument(help="Alias, folder, file or hub name.")],
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Show a checkpoint's configuration."""
    values = describe_checkpoint(name, offline=offline)
    console.emit(values, lambda: show_checkpoint(values), as_json=as_json)


@checkpoints_app.command(
    "convert", epilog="Example: d2l checkpoints convert gemma_demo/ gemma-demo-native/"
)
def convert_command(
    source: Annotated[str, typer.Argument(help="A released checkpoint.")],
    target: Annotated[Path, typer.Argument(help="Folder to write.")],
    force: Force = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Convert a released checkpoint to a folder with config.json and model.safetensors."""
    from d2l.hypernets.checkpoints import convert
    from d2l.hypernets.registry import find_checkpoint

    written = convert(find_checkpoint(source, offline=offline).path, target, force=force)
    console.emit({"checkpoint": str(written)}, str(written), as_json=as_json)


@checkpoints_app.command(
    "export", epilog="Example: d2l checkpoints export runs/one -o my-network --compact"
)
def export_command(
    run: Annotated[Path, typer.Argument(help="Folder of a run of d2l train.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Checkpoint folder to write.")],
    compact: Annotated[
        bool, typer.Option("--compact", help="Store matrices as 8-bit rows: a quarter of the size.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the network of a run as a checkpoint folder with a card."""
    from d2l.training.run_export import export_run

    written = export_run(run, out, compact=compact, force=force)
    console.emit({"checkpoint": str(written)}, str(written), as_json=as_json)


@checkpoints_app.command(
    "new", epilog="Example: d2l checkpoints new seats --base model.gguf -o net"
)
def new_command(
    kind: Annotated[Literal["seats"], typer.Argument(help="Kind of network.")],  # noqa: ARG001
    out: Annotated[Path, typer.Option("-o", "--out", help="Checkpoint folder to write.")],
    base: Annotated[str, typer.Option(help="Folder, GGUF file, alias or hub name of the base.")],
    seats: Annotated[int, typer.Option(min=1, help="Most seats of an adapter.")] = 320,
    width: Annotated[int, typer.Option(min=16, help="Of the network, a multiple of 64.")] = 320,
    system: Annotated[
        str | None, typer.Option(help="The opening's text, where the base's template has none.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of all that is drawn by chance.")] = 0,
    device: Device = "auto",
    force: Force = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Begin a network for another base: its config.json and second moments, to be trained fresh."""
    from d2l.learners.seats.create import CreateOptions, create

    options = CreateOptions(base, seats, width, system, device, offline, seed)
    with console.Steps("reading plain text") as steps:
        create(options, out, watch=steps, force=force)
    console.emit({"checkpoint": str(out)}, str(out), as_json=as_json)


def show_checkpoints(rows: list[dict[str, Any]]) -> None:
    """Print the table of known checkpoints."""
    console.show_table(
        ("name", "base", "base license", "network", "size", "on disk"),
        [
            (
                row["name"],
                row["base"],
                row["base_license"],
                row["network"],
                f"{row['size_bytes'] / 1e6:,.0f} MB",
                "built in" if row["source"] == "built in" else ("yes" if row["on_disk"] else "no"),
            )
            for row in rows
        ],
    )


def show_checkpoint(values: dict[str, Any]) -> None:
    """Print a checkpoint's facts; long lists of token ids are shown by their length."""
    config = values["config"]
    rows = [(key, values[key]) for key in ("name", "path", "format", "network", "sha256")]
    for key, value in config.items():
        if key == "network":
            continue  # the kind, shown above
        long = isinstance(value, list | tuple) and len(value) > 8
        text = f"{len(value)} values" if long else value
        rows.append((key, str(text) if len(str(text)) <= 100 else f"{str(text)[:97]}…"))
    show_rows(rows)


def list_checkpoints() -> list[dict[str, Any]]:
    """The table of known checkpoints, with what is on disk; opens no socket."""
    from d2l.hypernets.registry import list_aliases

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
    """A checkpoint's configuration and place; raises CheckpointError."""
    from dataclasses import asdict

    from d2l.hypernets.checkpoints import checkpoint_digest, find_format, read_config
    from d2l.hypernets.registry import find_checkpoint

    files = find_checkpoint(name, offline=offline)
    config = read_config(files.path)
    return {
        "name": files.name,
        "path": str(files.path),
        "format": find_format(files.path).name,
        "network": config.kind,
        "sha256": checkpoint_digest(files.path),
        "config": asdict(config),  # type: ignore[call-overload]
    }
