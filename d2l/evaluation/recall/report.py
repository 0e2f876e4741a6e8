"""Marks → rows of the report: one for each set, length and arm, every mean with its error.

Plain JSON values out. What must be reached (`--fail-under`) is checked here, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2l.adapters.provenance import Refinement
from d2l.errors import ProbeError
from d2l.evaluation.means import Mean, take_mean
from d2l.evaluation.recall.arms import SCORES, Gathered, Mark, Marks

Row = dict[str, Any]

#: The arm of the adapter before it is refined, where it is.
PREDICTED = "predicted"
#: Scores that `--fail-under` takes: those of which more is better.
BOUNDED = ("contained", "em", "f1")


@dataclass(frozen=True)
class Cell:
    """What a row is about: questions of a set on documents of a length, limits in tokens.

    `tokens` is what the documents really have, on average; None where that is not known, and so
    with `length`. `seats` likewise is a mean; None for networks without seats. `refined` says of
    every document how its adapter was refined, where they were.
    """

    set: str
    length: int | None
    documents: int
    tokens: float | None
    seats: float | None
    refined: tuple[Refinement, ...] = ()


@dataclass(frozen=True)
class Probe:
    """The outcome: rows, what the adapter does to other answers, and remarks for the user.

    `silence` are rows, too: how often an answer was made up, and one kept back.
    """

    rows: tuple[Row, ...]
    harm: Row | None = None
    remarks: tuple[str, ...] = ()
    silence: tuple[Row, ...] = ()

    def to_json(self) -> Row:
        """As `d2l probe --json` prints it."""
        harm = {} if self.harm is None else {"harm": self.harm}
        silence = {"unanswerable": list(self.silence)} if self.silence else {}
        return {"rows": list(self.rows)} | silence | harm


def make_rows(cell: Cell, gathered: Gathered) -> list[Row]:
    """The rows of one cell, without arms that were not asked.

    Of several wordings the best by contained, then by NLL, is the prompt arm; all of them are
    listed in its row.
    """
    rows = [_make_row(cell, "adapter", gathered.adapter)]
    if gathered.predicted.marks:
        rows[0]["refined"] = _describe_refined(cell.refined)
        rows[0]["gain"] = _measure_gain(gathered)
        rows.append(_make_row(cell, PREDICTED, gathered.predicted))
    if gathered.prompt:
        made = {name: _make_row(cell, "prompt", marks) for name, marks in gathered.prompt.items()}
        best = _find_best(gathered)
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


def _describe_refined(refined: Sequence[Refinement]) -> Row:
    """How many documents' adapters came out other than predicted, and means over all: steps, those
    kept, and the KL of general prompts before and after where it was measured."""
    harm = [done.harm for done in refined if done.harm is not None]
    return {
        "changed": sum(done.kept > 0 for done in refined),
        "steps": take_mean([done.steps for done in refined]).value,
        "kept": take_mean([done.kept for done in refined]).value,
        "harm": [take_mean(values).value for values in zip(*harm, strict=True)] or None,
    }


def _measure_gain(gathered: Gathered) -> Row:
    """What refining adds to each score, question by question, with its standard error."""
    pairs = list(zip(gathered.adapter.marks, gathered.predicted.marks, strict=True))
    gains = {
        key: take_mean([getattr(after, key) - getattr(before, key) for after, before in pairs])
        for key in SCORES
    }
    return {key: {"mean": gain.value, "stderr": gain.stderr} for key, gain in gains.items()}


def _find_best(gathered: Gathered, *, by: tuple[str, ...] = ("contained", "nll")) -> str:
    """The wording of the prompt with the best scores, of which the second decides between equals;
    of NLL less is better."""
    signs = {"nll": -1.0}

    def score(name: str) -> tuple[float, ...]:
        marks = gathered.prompt[name].marks
        return tuple(signs.get(key, 1.0) * _mean(marks, key) for key in by)

    return max(gathered.prompt, key=score)


def _mean(marks: Sequence[Mark], key: str) -> float:
    return take_mean([float(getattr(mark, key)) for mark in marks]).value


def make_silence_rows(cell: Cell, answered: Gathered, unanswered: Gathered) -> list[Row]:
    """How often each arm of a cell answers what the document does not say (false answers), and
    denies what it does say (false silences; None where nothing that it says was asked).

    The prompt arm has the wording that is best at answering; without answers to compare, the one
    that is silent most often where it should be.
    """
    arms = {"adapter": (answered.adapter, unanswered.adapter)}
    best = None
    if unanswered.prompt:
        best = _find_best(answered) if answered.prompt else _find_best(unanswered, by=("silent",))
        arms["prompt"] = (answered.prompt.get(best, Marks()), unanswered.prompt[best])
    if unanswered.base.marks:
        arms["base"] = (answered.base, unanswered.base)
    return [
        {"set": cell.set, "length": cell.length, "arm": arm}
        | ({"wording": best} if arm == "prompt" else {})
        | {
            "false_answers": _count([not mark.silent for mark in unasked.marks]),
            "false_silences": _count([mark.silent and not mark.contained for mark in asked.marks]),
        }
        for arm, (asked, unasked) in arms.items()
    ]


def _count(cases: Sequence[bool]) -> Row | None:
    """How many of the cases are so, and which share that is, with its standard error."""
    if not cases:
        return None
    share = take_mean([float(case) for case in cases])
    return {"n": share.n, "count": sum(cases), "share": share.value, "stderr": share.stderr}


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


def name_arm(row: Row) -> str:
    """The arm of a row for people; the prompt's with the name of its wording."""
    names = {"adapter": "adapter", PREDICTED: "not refined", "base": "base alone"}
    return names.get(row["arm"]) or f"prompt ({row['wording']})"


def describe_gain(row: Row) -> str:
    """What refining did to an adapter's row, for people."""
    refined, gain = row["refined"], row["gain"]

    def show(key: str) -> str:
        error = gain[key]["stderr"]
        return f"{gain[key]['mean']:+.2f}" + ("" if error is None else f" ± {error:.2f}")

    told = (
        f"{name_cell(row)}: refining changed {refined['changed']} of {row['documents']} adapters, "
        f"{refined['steps']:.0f} steps each; contained {show('contained')}, NLL {show('nll')}"
    )
    if refined["harm"] is None:
        return told
    return told + ", general prompts {:.2f} → {:.2f}".format(*refined["harm"])


def describe_count(counted: Row | None) -> str:
    """A count for people: "31 of 40 (0.78 ± 0.07)"."""
    if counted is None:
        return "–"
    share = Mean(counted["n"], counted["share"], counted["stderr"])
    return f"{counted['count']:,} of {counted['n']:,} ({share})"
