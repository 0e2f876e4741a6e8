"""The command `d2l diff`: what differs between two adapters."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from d2l.commands import console
from d2l.commands.options import AdapterPath, adapter_argument

if TYPE_CHECKING:
    from d2l.change.diff import Difference, LayerChange


def diff(
    first: AdapterPath, second: Annotated[Path, adapter_argument("Adapter to compare with it.")]
) -> None:
    """Show how two adapters differ.

    With -v also the change of every layer, relative to the first adapter.
    """
    from d2l.change.diff import compare

    found = compare(first, second)
    console.emit(_describe(found), lambda: _show(found))


def _describe(found: "Difference") -> dict[str, Any]:
    def row(change: "LayerChange") -> dict[str, Any]:
        return {**asdict(change), "relative": change.relative}

    return {
        "same": found.same,
        "changed": {name: list(pair) for name, pair in found.facts.items()},
        "inputs": dict(found.inputs),
        "chunks": dict(found.chunks),
        "parts": dict(found.parts),
        "layers": [row(change) for change in found.layers],
        "all": row(found.whole),
    }


def _show(found: "Difference") -> None:
    for name, (before, after) in found.facts.items():
        console.result(f"{name}: {before} → {after}")
    # A part tells all of its chunk but where that begins, which shifts behind every insertion.
    chunks = ("part", found.parts) if found.parts else ("chunk", found.chunks)
    for kind, rows in (("input", found.inputs), chunks):
        for name, what in rows.items():
            console.result(f"{kind} {what}: {name}")
    if found.same:
        console.result("nothing differs")
        return
    if not console.is_verbose():
        console.result(f"weights: change {_percent(found.whole.relative)}; by layer: -v")
        return
    cells = [
        (change.layer, f"{change.norm:.4g}", f"{change.difference:.4g}", _percent(change.relative))
        for change in (*found.layers, found.whole)
    ]
    console.show_table(("layer", "‖ΔW₁‖", "‖ΔW₁ − ΔW₂‖", "change"), cells)


def _percent(relative: float | None) -> str:
    return "new" if relative is None else f"{relative:.0%}"
