"""Marks → rows of the report: one for each set, length and arm, every mean with its error.

Plain JSON values out. What must be reached (`--fail-under`) is checked here, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2l.errors import ProbeError
from d2l.evaluation.means import take_mean
from d2l.evaluation.recall.arms import SCORES, Gathered, Marks

Row = dict[str, Any]

#: Scores that `--fail-under` takes: those of which more is better.
BOUNDED = ("contained", "em", "f1")


@dataclass(frozen=True)
class Cell:
    """What a row is about: questions of a set on documents of a length, limits in tokens.

    `tokens` is what the documents really have, on average; None where that is not known, and so
    with `length`. `seats` likewise is a mean; None for networks without seats.
    """

    set: str
    length: int | None
    documents: int
    tokens: float | None
    seats: float | None


@dataclass(frozen=True)
class Probe:
    """The outcome: rows, what the adapter does to other answers, and remarks for the user."""

    rows: tuple[Row, ...]
    harm: Row | None = None
    remarks: tuple[str, ...] = ()

    def to_json(self) -> Row:
        """As `d2l probe --json` prints it."""
        return {"rows": list(self.rows)} | ({} if self.harm is None else {"harm": self.harm})


def make_rows(cell: Cell, gathered: Gathered) -> list[Row]:
    """The rows of one cell, without arms that were not asked.

    Of several wordings the best by contained, then by NLL, is the prompt arm; all of them are
    listed in its row.
    """
    rows = [_make_row(cell, "adapter", gathered.adapter)]
    if gathered.prompt:
        made = {name: _make_row(cell, "prompt", marks) for name, marks in gathered.prompt.items()}
        best = max(made, key=lambda name: (made[name]["contained"], -made[name]["nll"]))
        row = made[best] | {"wording": best, "cut": gathered.prompt[best].n_cut}
        if len(made) > 1:
            keys = (*SCORES, "stderr")
            row["wordings"] = {name: {key: made[name][key] for key in keys} for name in made}
        rows.append(row)
    if gathered.base.marks:
        rows.append(_make_row(cell, "base", gathered.base))
    return rows


def _make_row(cell: Cell, arm: str, marks: Marks) -> Row:
    means = {key: take_mean([getattr(mark, key) for mark in marks.marks]) for key in SCORES}
    return {
        "set": cell.set,
        "length": cell.length,
        "arm": arm,
        "n": len(marks.marks),
        **{key: mean.value for key, mean in means.items()},
        "stderr": {key: mean.stderr for key, mean in means.items()},
        "documents": cell.documents,
        "tokens": cell.tokens,
        "seats": cell.seats,
    }


def require_scores(rows: Sequence[Row], least: Mapping[str, float]) -> None:
    """Raise ProbeError where a row of the adapter is under what was asked for."""
    short = [
        f"{name_cell(row)}: {key} is {row[key]:.3f}, under {bound:g}"
        for row in rows
        if row["arm"] == "adapter"
        for key, bound in least.items()
        if row[key] < bound
    ]
    if short:
        raise ProbeError("; ".join(short))


def name_cell(row: Row) -> str:
    """What a row is about, for people."""
    return row["set"] if row["length"] is None else f"{row['set']}, {row['length']:,} tokens"
