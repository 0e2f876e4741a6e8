"""`d2l checkpoints` and `d2l calibrate`: list and check networks, write, begin and fit them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from d2l.commands import console
from d2l.commands.options import NETWORK, Device, DryRun, Force, Offline, Out, in_panel, taking

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
    from d2l.compiler.preflight import look

    preflight = look(options)
    console.emit(preflight.to_json(), "\n".join(preflight.describe()))
    for fault in (*preflight.list_faults(), *preflight.list_doubts()):
        raise fault


def export_checkpoint(
    source: Annotated[str, typer.Argument(help="Folder of a run, or a released checkpoint.")],
    out: Out,
    compact: Annotated[
        bool, typer.Option("--compact", help="Runs: 8-bit rows, a quarter of the size.")
    ] = False,
    force: Force = False,
    offline: Offline = False,
) -> None:
    """Write a run or a released checkpoint as a folder."""
    from d2l.hypernets.checkpoints import convert
    from d2l.hypernets.registry import find_checkpoint
    from d2l.training.run_export import export_run
    from d2l.training.run_folder import RunFolder

    if RunFolder(Path(source)).has_log or compact:
        written = export_run(Path(source), out, compact=compact, force=force)
    else:
        written = convert(find_checkpoint(source, offline=offline).path, out, force=force)
    console.emit({"checkpoint": str(written)}, str(written))


def create_checkpoint(
    kind: Annotated[Literal["seats"], typer.Argument(help="Kind of network.")],  # noqa: ARG001
    out: Out,
    base: Annotated[
        str, in_panel(NETWORK, help="Folder, GGUF file, alias or hub name of the base.")
    ],
    seats: Annotated[int, typer.Option(min=1, help="Most seats of an adapter.")] = 320,
    width: Annotated[int, typer.Option(min=16, help="Of the network, a multiple of 64.")] = 320,
    system: Annotated[
        str | None, typer.Option(help="Opening text; default: the template's.")
    ] = None,
    device: Device = "auto",
    force: Force = False,
    offline: Offline = False,
) -> None:
    """Begin a network for another base; train it next.

    Writes config.json and second moments. `d2l train` starts from them with `fresh = true`.
    """
    from d2l.training.create import CreateOptions, create

    options = CreateOptions(base, seats, width, system, device, offline)
    with console.ProgressBar("reading plain text") as steps:
        create(options, out, watch=steps, force=force)
    console.emit({"checkpoint": str(out)}, str(out))


@taking("d2l.hypernets.options:NetworkOptions")
def calibrate(options: "NetworkOptions", dry_run: DryRun = False) -> None:
    """Fit a seat network to another file of its base.

    Takes minutes on a CPU.
    """
    from d2l.hypernets import calibrate as pipeline

    plan = pipeline.prepare(options)
    if dry_run:
        config, n_tokens = plan.network.config, sum(map(len, plan.pieces))
        lines = [
            f"checkpoint  {plan.network.files.name} ({config.kind})",
            f"base        {config.base}",
            f"tokens      {n_tokens:,} of plain text in {len(plan.pieces):,} pieces",
            f"writes      {plan.path}",
        ]
        values = {
            "checkpoint": plan.network.files.name,
            "base": config.base,
            "n_tokens": n_tokens,
            "moments": str(plan.path),
        }
        console.emit(values, "\n".join(lines))
        return
    with console.ProgressBar("reading plain text") as steps:
        path = pipeline.calibrate(plan, options.device, watch=steps)
    console.emit({"moments": str(path)}, str(path))


def _show_aliases(rows: list[dict[str, Any]]) -> None:
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
    """Describe a checkpoint's place and configuration; raises CheckpointError. Weights that are on
    the hub stay there."""
    from dataclasses import asdict

    from d2l.files.hub import find_commit
    from d2l.hypernets.networks import find_format
    from d2l.hypernets.registry import ask_checkpoint, find_checkpoint

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
