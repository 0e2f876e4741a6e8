"""The command `d2l merge`: adapters of one base in, one adapter out."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from d2l.commands import console
from d2l.commands.options import (
    AsJson,
    Base,
    Checkpoint,
    Device,
    Force,
    Merge,
    NewDtype,
    Offline,
    Out,
    split_list,
)

#: Spellings of earlier versions.
RENAMED = {"--weights": "--weight", "--merge": "--method"}


def merge(
    adapters: Annotated[list[Path], typer.Argument(help="Adapter folders, of one base.")],
    out: Out,
    weight: Annotated[
        list[str] | None,
        typer.Option(help="Strength of an adapter, in their order; repeatable, once for each."),
    ] = None,
    method: Annotated[
        Merge, typer.Option(help="concat: the weighted sum; average: weights that sum to 1.")
    ] = "concat",
    max_rank: Annotated[int | None, typer.Option(min=1, help="Bound the adapter's rank.")] = None,
    checkpoint: Checkpoint = None,
    base: Base = None,
    device: Device = "auto",
    dtype: NewDtype = None,
    force: Force = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Merge adapters of one base into one: documents, tasks, or both."""
    from d2l.compiler import merge as merging
    from d2l.compiler.parents import ChangeOptions

    done = merging.merge(
        adapters,
        out,
        shares=_read_numbers(split_list("--weight", weight)) if weight else None,
        method=method,
        max_rank=max_rank,
        options=ChangeOptions(checkpoint, base, device, dtype, offline, force),
    )
    for message in done.warnings:
        console.warn(message)
    worst = max(done.errors.values(), default=0.0)
    if as_json:
        console.result_json(
            {
                "adapter": str(done.adapter),
                "rank": done.rank,
                "size_bytes": done.size_bytes,
                "max_merge_error": worst,
                "merge_error": done.errors,
                "warnings": list(done.warnings),
            }
        )
        return
    lines = [str(done.adapter), f"rank        {done.rank}"]
    if done.errors:
        lines.append(f"error       at most {worst:.2%} of a module's delta was cut off")
    console.result("\n".join([*lines, f"size        {done.size_bytes / 1e6:.2f} MB"]))


def _read_numbers(texts: Sequence[str]) -> list[float]:
    numbers = []
    for text in texts:
        try:
            numbers.append(float(text))
        except ValueError as error:
            raise typer.BadParameter(f"{text!r}: expected a number, such as 0.5") from error
    return numbers
