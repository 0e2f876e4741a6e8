"""Marks → the report of `d2l-lab eval`: rows by task and arm, means over tasks, paired differences.

Every mean has its count and its standard error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from d2l.evaluation.metrics import Row, take_mean
from d2l_lab.metrics import take_means
from d2l_lab.tasks.arms import AskedTask, TaskMark

#: More is better of the first, less of the second; shares, and nats a token.
SCORES = ("score", "nll")
#: Arms for people.
NAMES = {
    "adapter": "adapter",
    "both": "adapter with examples",
    "examples": "description and examples in prompt",
    "prompt": "description in prompt",
    "base": "base alone",
}

#: Arms of adapters, each compared with those behind it and with the base.
_COMPARED = ("both", "adapter")
#: A task with its marks by arm, question by question in the same order.
AnsweredTask = tuple[AskedTask, Mapping[str, Sequence[TaskMark]]]


@dataclass(frozen=True)
class TaskReport:
    """The outcome of `d2l-lab eval`: `rows` by task and arm, `means` over tasks, `differences`
    between adapters and each other arm, paired; remarks for the user."""

    rows: tuple[Row, ...]
    means: tuple[Row, ...]
    differences: tuple[Row, ...]
    remarks: tuple[str, ...] = ()

    def to_json(self) -> Row:
        """Return the report as `d2l-lab eval --json` prints it."""
        return {key: list(value) for key, value in vars(self).items()}


def make_report(answered: Sequence[AnsweredTask], remarks: Sequence[str] = ()) -> TaskReport:
    """Make the report on at least one task."""
    rows = list[Row]()
    for task, by_arm in answered:
        for arm, marks in by_arm.items():
            row = {"task": task.name, "arm": arm, "metric": task.metric, "n": len(marks)}
            scores = {key: [getattr(mark, key) for mark in marks] for key in SCORES}
            rows.append(row | take_means(scores))
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    if n_left_out := sum(task.n_left_out for task, _ in answered):
        remarks = [*remarks, f"left out: {n_left_out:,} examples that are too long"]
    return TaskReport(
        tuple(rows),
        tuple(_take_means(arm, answered) for arm in arms),
        tuple(
            _compare(own, other, answered)
            for number, own in enumerate(_COMPARED)
            for other in (*_COMPARED[number + 1 :], "examples", "prompt", "base")
            if own in arms and other in arms
        ),
        tuple(remarks),
    )


def _take_means(arm: str, answered: Sequence[AnsweredTask]) -> Row:
    """Take an arm's means over tasks, each counting once; the errors are those over tasks."""
    own = [by_arm[arm] for _, by_arm in answered if arm in by_arm]
    means = {
        key: [take_mean([getattr(mark, key) for mark in marks])[0] for marks in own]
        for key in SCORES
    }
    return {"arm": arm, "tasks": len(own), "n": sum(map(len, own)), **take_means(means)}


def _compare(own: str, other: str, answered: Sequence[AnsweredTask]) -> Row:
    """Compare an adapter with another arm: differences paired by question, means over tasks.

    The errors are those over tasks, or over questions if there is a single task.
    """
    pairs = [
        list(zip(by_arm[own], by_arm[other], strict=True))
        for _, by_arm in answered
        if own in by_arm and other in by_arm
    ]
    samples = {}
    for key in SCORES:
        by_task = [[getattr(a, key) - getattr(b, key) for a, b in some] for some in pairs]
        samples[key] = by_task[0] if len(pairs) == 1 else [take_mean(d)[0] for d in by_task]
    return {f"{own}_minus": other, "tasks": len(pairs), **take_means(samples)}


def pair_of(row: Row) -> tuple[str, str]:
    """Name the two arms of a difference."""
    ((key, other),) = ((key, value) for key, value in row.items() if key.endswith("_minus"))
    return key.removesuffix("_minus"), str(other)
