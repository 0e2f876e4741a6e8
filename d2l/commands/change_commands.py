"""The commands `d2l merge`, `d2l edit` and `d2l diff`: options in, a new adapter or a table out."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import (
    AdapterPath,
    AsJson,
    Base,
    Device,
    Dtype,
    Force,
    Merge,
    Offline,
    Out,
)

if TYPE_CHECKING:
    from d2l.compiler.diff import Difference, LayerChange

Checkpoint = Annotated[
    str | None,
    typer.Option(help="Seats adapters: their network, if its name leads elsewhere by now."),
]
NewDtype = Annotated[
    Dtype | None, typer.Option(help="Precision; default: the parents', or fp32 where they round.")
]


def merge(
    adapters: Annotated[list[Path], typer.Argument(help="Adapter folders, of one base.")],
    out: Out,
    weights: Annotated[
        str | None, typer.Option(help="Strength of each, with commas between: 1,0.5.")
    ] = None,
    merge: Annotated[
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
        shares=None if weights is None else _read_numbers(weights),
        method=merge,
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
    scale: Annotated[
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

    edits = editing.Edits(tuple(drop or ()), tuple(keep or ()), _read_factors(scale or []))
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


def diff(
    first: Annotated[Path, typer.Argument(help="Adapter folder.")],
    second: Annotated[Path, typer.Argument(help="Adapter folder to compare with it.")],
    as_json: AsJson = False,
) -> None:
    """Show what differs between two adapters, and by how much each layer's delta changed."""
    from d2l.compiler.diff import compare

    found = compare(first, second)
    if as_json:
        console.result_json(_describe(found))
    else:
        _show(found)


def _describe(found: "Difference") -> dict[str, Any]:
    def row(change: "LayerChange") -> dict[str, Any]:
        return {
            "layer": change.layer,
            "norm": change.norm,
            "difference": change.difference,
            "relative": change.relative,
        }

    return {
        "same": found.same,
        "changed": {name: list(pair) for name, pair in found.said.items()},
        "inputs": dict(found.inputs),
        "chunks": dict(found.chunks),
        "layers": [row(change) for change in found.layers],
        "all": row(found.whole),
    }


def _show(found: "Difference") -> None:
    for name, (before, after) in found.said.items():
        console.result(f"{name}: {before} → {after}")
    for kind, rows in (("input", found.inputs), ("chunk", found.chunks)):
        for name, what in rows.items():
            console.result(f"{kind} {what}: {name}")
    if found.same:
        console.result("nothing differs")
        return
    cells = [
        (change.layer, f"{change.norm:.4g}", f"{change.difference:.4g}", _percent(change.relative))
        for change in (*found.layers, found.whole)
    ]
    console.show_table(("layer", "‖ΔW₁‖", "‖ΔW₁ − ΔW₂‖", "change"), cells)


def _percent(relative: float | None) -> str:
    return "new" if relative is None else f"{relative:.2%}"


def _read_numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise typer.BadParameter(f"{text!r}: numbers with commas between are expected") from error


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
