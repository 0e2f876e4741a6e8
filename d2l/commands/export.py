"""The command `d2l export`: options in, a file or folder for another runtime out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import AdapterPath, AsJson, Base, Dtype, Force, Offline, Target

if TYPE_CHECKING:
    from d2l.runtimes.export import ExportResult


def export(
    adapter: AdapterPath,
    to: Annotated[Target, typer.Option(help="What to write.")],
    out: Annotated[
        Path,
        typer.Option(
            "-o", "--out", help="Folder to write; for gguf a name in .gguf writes one file."
        ),
    ],
    dtype: Annotated[
        Dtype | None, typer.Option(help="Precision; default: fp32, or the base's own when merged.")
    ] = None,
    base: Base = None,
    force: Force = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Write an adapter as another runtime loads it, and read it back."""
    from d2l.runtimes import export as pipeline

    options = pipeline.ExportOptions(to, base, dtype, offline, force)
    done = pipeline.run(adapter, out, options)
    for message in done.warnings:
        console.warn(message)
    if as_json:
        console.result_json(describe(done))
    else:
        console.result(show(done))


def describe(done: "ExportResult") -> dict[str, Any]:
    """The values that `--json` prints."""
    return {
        "export": str(done.path),
        "to": done.to,
        "size_bytes": done.size_bytes,
        "load": done.load,
        "warnings": list(done.warnings),
    }


def show(done: "ExportResult") -> str:
    """The lines that are printed for people."""
    return f"{done.path}\nsize        {done.size_bytes / 1e6:.2f} MB\nload        {done.load}"


def export_beside(
    adapter: Path, targets: Sequence[str], *, base: str | None, offline: bool, force: bool
) -> "list[ExportResult]":
    """What `d2l compile --to` does behind the adapter: export it to each target, beside it."""
    from d2l.runtimes import export as pipeline

    done = []
    for to in dict.fromkeys(targets):
        place = pipeline.place_beside(adapter, to)
        options = pipeline.ExportOptions(to, base, offline=offline, force=force)
        done.append(pipeline.run(adapter, place, options))
        for message in done[-1].warnings:
            console.warn(message)
    return done


def refuse_beside(adapter: Path, targets: Sequence[str], *, force: bool) -> None:
    """Raise before the work where one of the exports is unknown or could not be written."""
    if not targets:
        return
    from d2l.runtimes import export as pipeline

    for to in dict.fromkeys(targets):
        place = pipeline.place_beside(adapter, to)
        pipeline.refuse_export(place, pipeline.ExportOptions(to, force=force))
