"""Rows of a benchmark → its report: scores by set, length and arm, with seconds and memory."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from d2l.errors import D2LError
from d2l.evaluation.answers import Share
from d2l.evaluation.metrics import take_mean
from d2l.files.atomic import write_file
from d2l_lab.bench.answers import Arm, BenchScores
from d2l_lab.bench.rows import DocumentRow, RunFacts
from d2l_lab.questions import KINDS

#: The name of all manuals together.
_ALL = "all"
#: The first bytes of a report as JSON.
_HEAD = b'{\n "bench": '


@dataclass(frozen=True)
class SummaryRow:
    """Scores and costs of one arm on all documents of a set and length, by kind of questions.

    `tokens`, `chunks` and `seats` are means, `compile_seconds` of a document and `seconds` of a
    question of any kind medians, and peaks the most. `first_seconds` and `first_median`: mean and
    median to the first token, of any kind.
    """

    set: str
    length: int | None
    kind: str
    documents: int
    tokens: float
    chunks: float
    seats: float
    scores: BenchScores
    compile_seconds: float
    seconds: float
    first_seconds: float | None
    first_median: float | None
    compile_peak_bytes: int | None
    compile_extra_bytes: int | None
    peak_bytes: int | None
    extra_bytes: int | None

    def to_json(self) -> dict[str, Any]:
        """The values of `--json`: the scores stand beside the others."""
        others = {key: value for key, value in vars(self).items() if key != "scores"}
        return others | asdict(self.scores)


@dataclass(frozen=True)
class RoutingRow:
    """The choice of parts, of questions whose right part is known.

    `first`, `four`: the router put the right part first, or in the first four. `answering`: the
    right part answered, after the base had read the first parts.
    """

    set: str
    length: int | None
    first: Share
    four: Share
    answering: Share


@dataclass(frozen=True)
class BenchReport:
    """The outcome of a benchmark."""

    run: RunFacts
    rows: tuple[SummaryRow, ...]
    routing: tuple[RoutingRow, ...]

    def to_json(self) -> dict[str, Any]:
        """The values of `--json`."""
        rows = [row.to_json() for row in self.rows]
        routing = {"routing": [asdict(row) for row in self.routing]} if self.routing else {}
        return asdict(self.run) | {"rows": rows} | routing


def make_report(rows: Sequence[DocumentRow]) -> BenchReport:
    """Sum the rows of a run up; several manuals also have a row of all."""
    groups: dict[tuple[str, int | None], list[DocumentRow]] = {}
    for row in rows:
        groups.setdefault((row.set, row.length), []).append(row)
    if rows[0].run.bench == "manuals" and len(groups) > 1:
        groups[_ALL, None] = list(rows)
    summed = [row for group, own in groups.items() for row in _sum_up(*group, own)]
    routing = [_count_routed(*group, own) for group, own in groups.items()]
    return BenchReport(rows[0].run, tuple(summed), tuple(row for row in routing if row))


def refuse_report(out: Path) -> None:
    """Raise D2LError if another file than a report of a benchmark stands there."""
    if out.exists() and not (out.is_file() and out.read_bytes().startswith(_HEAD)):
        raise D2LError(f"{out} exists and is no report of a bench", hint="choose another name")


def write_report(report: BenchReport, out: Path) -> None:
    """Write a report as JSON, over an earlier one; raises D2LError."""
    text = json.dumps(report.to_json(), indent=1) + "\n"
    write_file(out, lambda path: path.write_text(text, "utf-8"), partial(refuse_report, out))


def _sum_up(name: str, length: int | None, rows: Sequence[DocumentRow]) -> list[SummaryRow]:
    summed = []
    asked = [question for row in rows for question in row.questions]
    by_kind = [
        (kind, scores)
        for kind in KINDS
        for scores in BenchScores.list_arms([q for q in asked if q.kind == kind], Arm)
    ]
    for kind, scores in by_kind:
        own = [row for row in rows if scores.arm in row.costs]
        said = [q.answers[scores.arm].first_seconds for q in asked if scores.arm in q.answers]
        waits = [seconds for seconds in said if seconds is not None]
        costs, compiling = (
            [row.costs[Arm(scores.arm)] for row in own],
            [row.compiling for row in own],
        )
        summed.append(
            SummaryRow(
                name,
                length,
                kind,
                documents=len(own),
                tokens=take_mean([row.tokens for row in own])[0],
                chunks=take_mean([row.chunks for row in own])[0],
                seats=take_mean([row.seats for row in own])[0],
                scores=scores,
                compile_seconds=median(cost.seconds for cost in compiling),
                seconds=median(cost.seconds for cost in costs),
                first_seconds=take_mean(waits)[0] if waits else None,
                first_median=median(waits) if waits else None,
                compile_peak_bytes=_most(cost.peak_bytes for cost in compiling),
                compile_extra_bytes=_most(cost.extra_bytes for cost in compiling),
                peak_bytes=_most(cost.peak_bytes for cost in costs),
                extra_bytes=_most(cost.extra_bytes for cost in costs),
            )
        )
    return summed


def _most(values: Iterable[int | None]) -> int | None:
    return max((value for value in values if value is not None), default=None)


def _count_routed(name: str, length: int | None, rows: Sequence[DocumentRow]) -> RoutingRow | None:
    """Count how often the right part was chosen; None if no right part is known."""
    known = [question for row in rows for question in row.questions if question.right]
    if not known:
        return None
    return RoutingRow(
        name,
        length,
        first=Share.of([question.routed[0] in question.right for question in known]),
        four=Share.of([not {*question.right}.isdisjoint(question.routed) for question in known]),
        answering=Share.of([q.answers[Arm.PARTS].part in q.right for q in known]),
    )
