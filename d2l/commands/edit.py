"""The command `d2l edit`: pages and files of an adapter dropped, kept alone or rescaled."""

from typing import Annotated

import typer

from d2l.commands import console
from d2l.commands.options import (
    AdapterPath,
    AsJson,
    Base,
    Checkpoint,
    Device,
    Force,
    NewDtype,
    Offline,
    Out,
)

#: Spellings of earlier versions.
RENAMED = {"--scale": "--rescale"}


def edit(
    adapter: AdapterPath,
    out: Out,
    drop: Annotated[
        list[str] | None,
        typer.Option(help='Leave these out: FILE, "FILE:p. 12-14" or FILE:#3; repeatable.'),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="Keep these alone, named as for --drop; repeatable.")
    ] = None,
    rescale: Annotated[
        list[str] | None,
        typer.Option(help='Multiply the strength of these: "FILE:p. 3=0.5"; repeatable.'),
    ] = None,
    checkpoint: Checkpoint = None,
    base: Base = None,
    device: Device = "auto",
    dtype: NewDtype = None,
    force: Force = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Drop, keep or rescale pages and files of an adapter, without reading the document again."""
    from d2l.compiler import edit as editing
    from d2l.compiler.parents import ChangeOptions

    edits = editing.Edits(tuple(drop or ()), tuple(keep or ()), _read_factors(rescale or []))
    options = ChangeOptions(checkpoint, base, device, dtype, offline, force)
    done = editing.edit(adapter, out, edits=edits, options=options)
    for message in done.warnings:
        console.warn(message)
    if as_json:
        console.result_json(
            {
                "adapter": str(done.adapter),
                "rank": done.rank,
                "size_bytes": done.size_bytes,
                "n_chunks": done.n_chunks,
                "left_out": list(done.left_out),
                "warnings": list(done.warnings),
            }
        )
        return
    gone = [f"left out    {name}" for name in done.left_out]
    rows = [str(done.adapter), *gone, f"chunks      {done.n_chunks}", f"rank        {done.rank}"]
    console.result("\n".join([*rows, f"size        {done.size_bytes / 1e6:.2f} MB"]))


def _read_factors(texts: list[str]) -> dict[str, float]:
    factors = {}
    for text in texts:
        name, found, number = text.rpartition("=")
        try:
            factors[name] = float(number)
        except ValueError as error:
            raise typer.BadParameter(f"{text!r}: expected SELECTOR=NUMBER") from error
        if not found:
            raise typer.BadParameter(f"{text!r}: expected SELECTOR=NUMBER")
    return factors
