"""Marks → rows of the report: a row for each set, length and arm, every mean with its error."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from d2l.datasets.questions import Question
from d2l.errors import ProbeError
from d2l.evaluation.metrics import Row, list_answer, show_mean, take_mean, take_means
from d2l.evaluation.recall.arms import SCORES, Gathered, Mark
from d2l.files.plots import check_picture, load_figure, save_picture

#: Arms for people, in the order of a report's rows.
ARMS = {
    "adapter": "adapter",
    "prompt": "document in prompt",
    "base": "base alone",
    "rag": "best part in prompt",
    "routed": "chosen parts",
    "right": "right part",
}


@dataclass(frozen=True)
class Cell:
    """Questions of a set on documents of a length, limits in tokens.

    `tokens` is the documents' own mean length; it and `length` are None where the document is not
    at hand. `seats` is a mean, too; None for networks without seats.
    """

    set: str
    length: int | None
    documents: int
    tokens: float | None
    seats: float | None


@dataclass(frozen=True)
class Probe:
    """The outcome: rows, harm to other answers, and remarks for the user.

    `silence` has rows, too: how often an arm answered without a source, or kept an answer back.
    `questions` has every question with all answers, or the reason why it was left out
    (`add_answers`). Of whole documents, `routing` says how often the right part came first.
    """

    rows: tuple[Row, ...]
    harm: Row | None = None
    remarks: tuple[str, ...] = ()
    silence: tuple[Row, ...] = ()
    routing: tuple[Row, ...] = ()
    questions: tuple[Row, ...] = ()

    def to_json(self) -> Row:
        """As `d2l probe --json` prints it."""
        harm = {} if self.harm is None else {"harm": self.harm}
        silence = {"unanswerable": list(self.silence)} if self.silence else {}
        routing = {"routing": list(self.routing)} if self.routing else {}
        questions = {"questions": list(self.questions)} if self.questions else {}
        return {"rows": list(self.rows)} | silence | harm | routing | questions

    def check_share(self, least: float) -> None:
        """Raise ProbeError where the adapter gets less than a share of its questions right, 0 to 1:
        answers that contain the reference."""
        row = next(row for row in self.rows if row["arm"] == "adapter")
        if row["contained"] < least:
            raise ProbeError(
                f"{row['set']}: {describe_share(row)} right, less than {least:g}",
                hint="the wrong answers stand above; --at-least sets the share",
            )


def add_answers(row: Row, arm: str, mark: Mark) -> None:
    """Add an arm's answer to a question's row, which has `question` and `wanted`. `said` and
    `right` are those of the adapter, as `d2l ask` asks it where that was done. Where nothing is
    wanted, silence is right."""
    row.setdefault("answers", {})[arm] = asdict(mark)
    if arm == "routed" or (arm == "adapter" and "routed" not in row["answers"]):
        row["said"] = mark.answer
        row["right"] = bool(mark.contained) if row["wanted"] else mark.silent


def leave_out(question: Question, reason: str) -> Row:
    """The row of a question that was not asked."""
    wanted = list(question.references)
    return {"question": question.text, "wanted": wanted, "left_out": reason}


def make_rows(cell: Cell, gathered: Gathered) -> list[Row]:
    """The rows of one cell, without arms that were not asked."""
    rows = []
    for arm in ARMS:
        marks: list[Mark] = getattr(gathered, arm)
        if marks:
            means = take_means({key: [getattr(mark, key) for mark in marks] for key in SCORES})
            row = {"set": cell.set, "length": cell.length, "arm": arm, "n": len(marks), **means}
            rows.append(
                row | {"documents": cell.documents, "tokens": cell.tokens, "seats": cell.seats}
            )
            if seconds := gathered.first_token.get(arm):
                rows[-1]["first_token"] = {"seconds": median(seconds), "n": len(seconds)}
            if arm == "prompt":
                rows[-1]["cut"] = gathered.n_cut
    return rows


def make_silence_rows(cell: Cell, answered: Gathered, unanswered: Gathered) -> list[Row]:
    """How often each arm of a cell answers where the document does not (false answers), and denies
    an answer that the document gives (false silences; None where no such question was asked)."""
    rows = []
    for arm in ARMS:
        asked, unasked = getattr(answered, arm), getattr(unanswered, arm)
        if unasked:
            silences = [mark.silent and not mark.contained for mark in asked]
            rows.append(
                {
                    "set": cell.set,
                    "length": cell.length,
                    "arm": arm,
                    "false_answers": count_cases([not mark.silent for mark in unasked]),
                    "false_silences": count_cases(silences),
                }
            )
    return rows


def make_routing_row(cell: Cell, records: Sequence[Row]) -> Row:
    """How often the right part, where known, is the router's first, or in its first three."""
    known = [(set(row["right_parts"]), row["parts"]) for row in records if row["right_parts"]]
    return {
        "set": cell.set,
        "length": cell.length,
        "first": count_cases([bool(right & set(parts[:1])) for right, parts in known]),
        "three": count_cases([bool(right & set(parts[:3])) for right, parts in known]),
    }


def draw_recall(
    rows: Sequence[Row],
    out: Path,
    *,
    across: tuple[str, str] = ("tokens", "tokens of the document"),
    up: tuple[str, str] = ("contained", "answers that contain the reference"),
) -> Path:
    """Draw a score by the documents' tokens, a line an arm; raises D2LError.

    `across` and `up` are keys of the rows, with their names for people. Rows without one of them
    are left out.
    """
    check_picture(out)
    figure = load_figure()(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    (x, x_name), (y, y_name) = across, up
    drawn = [row for row in rows if row.get(x) is not None and row.get(y) is not None]
    for arm, name in ARMS.items():
        own = sorted(
            (row[x], row[y], row["stderr"].get(y) or 0.0) for row in drawn if row["arm"] == arm
        )
        if own:
            along, values, errors = zip(*own, strict=True)
            axes.errorbar(along, values, errors, marker="o", capsize=3, label=name)
    axes.set_xscale("log")
    ticks = sorted({row[x] for row in drawn})
    axes.set_xticks(ticks, [f"{tick:,.0f}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel(x_name)
    axes.set_ylabel(y_name)
    axes.set_ylim(0, max([1.0, *(row[y] for row in drawn)]) * 1.02)
    axes.grid(alpha=0.3)
    axes.legend()
    return save_picture(figure, out)


def count_cases(cases: Sequence[bool]) -> Row | None:
    """How many of the cases are true, and their share with its standard error."""
    if not cases:
        return None
    share, error = take_mean([float(case) for case in cases])
    return {"n": len(cases), "count": sum(cases), "share": share, "stderr": error}


def describe_count(counted: Row | None) -> str:
    """A count for people: "31 of 40 (0.78 ± 0.07)"."""
    if counted is None:
        return "–"
    share = show_mean(counted["share"], counted["stderr"])
    return f"{counted['count']:,} of {counted['n']:,} ({share})"


def describe_share(row: Row) -> str:
    """The answers of an arm that contain the reference, for people, as `describe_count` does."""
    n, share = row["n"], row["contained"]
    counted = {"n": n, "count": round(share * n), "share": share}
    return describe_count(counted | {"stderr": row["stderr"]["contained"]})


def describe_questions(rows: Sequence[Row]) -> list[str]:
    """How many questions were answered rightly, each wrong answer, and what was left out."""
    asked = [row for row in rows if "said" in row and row["wanted"]]
    right = sum(row["right"] for row in asked)
    lines = [f"{right:,} of {len(asked):,} right"] if asked else []
    for row in asked:
        if not row["right"]:
            wanted = " / ".join(row["wanted"])
            lines += list_answer(f"? {row['question']}", wanted, row["said"])
    return lines + [
        f"left out: {row['question']} ({row['left_out']}: {' / '.join(row['wanted'])})"
        for row in rows
        if row.get("left_out")
    ]
