"""Marks → the report of `t2l eval`: rows by task and arm, means over tasks, paired differences.

Plain JSON values out. Every mean has its count and its standard error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from d2l.evaluation.means import take_mean
from d2l.evaluation.tasks.arms import AskedTask, TaskMark

Row = dict[str, Any]

#: Of the first more is better, of the second less; shares, and nats a token.
SCORES = ("score", "nll")
#: Arms for people.
NAMES = {
    "adapter": "adapter",
    "prompt": "description in prompt",
    "examples": "examples in prompt",
    "base": "base alone",
    "shuffled": "shuffled descriptions",
}
#: What the adapter is compared with.
OTHERS = ("prompt", "examples", "base", "shuffled")


@dataclass(frozen=True)
class Answered:
    """One task's marks by arm, question by question in the same order."""

    task: AskedTask
    marks: Mapping[str, Sequence[TaskMark]]


@dataclass(frozen=True)
class TaskReport:
    """The outcome of `t2l eval`: `rows` by task and arm, `means` over tasks, `differences`
    between the adapter and each other arm, paired; remarks for the user."""

    rows: tuple[Row, ...]
    means: tuple[Row, ...]
    differences: tuple[Row, ...]
    remarks: tuple[str, ...] = ()

    def to_json(self) -> Row:
        """As `t2l eval --json` prints it."""
        return {
            "rows": list(self.rows),
            "means": list(self.means),
            "differences": list(self.differences),
            "remarks": list(self.remarks),
        }


def make_report(answered: Sequence[Answered], remarks: Sequence[str] = ()) -> TaskReport:
    """All of at least one task."""
    rows = [_make_row(task, arm) for task in answered for arm in task.marks]
    arms = list(dict.fromkeys(row["arm"] for row in rows))
    n_left_out = sum(task.task.n_left_out for task in answered)
    if n_left_out:
        remarks = [*remarks, f"left out: {n_left_out:,} examples that are too long"]
    return TaskReport(
        tuple(rows),
        tuple(_take_means(arm, answered) for arm in arms),
        tuple(_compare(other, answered) for other in OTHERS if other in arms),
        tuple(remarks),
    )


def _make_row(task: Answered, arm: str) -> Row:
    marks = task.marks[arm]
    means = {key: take_mean([getattr(mark, key) for mark in marks]) for key in SCORES}
    return {
        "task": task.task.name,
        "arm": arm,
        "metric": task.task.metric,
        "n": len(marks),
        **{key: mean.value for key, mean in means.items()},
        "stderr": {key: mean.stderr for key, mean in means.items()},
    }


def _take_means(arm: str, answered: Sequence[Answered]) -> Row:
    """Means over tasks, each counting once; the errors are those over tasks."""
    having = [task for task in answered if arm in task.marks]
    means = {
        key: take_mean(
            [take_mean([getattr(mark, key) for mark in task.marks[arm]]).value for task in having]
        )
        for key in SCORES
    }
    return {
        "arm": arm,
        "tasks": len(having),
        "n": sum(len(task.marks[arm]) for task in having),
        **{key: mean.value for key, mean in means.items()},
        "stderr": {key: mean.stderr for key, mean in means.items()},
    }


def _compare(other: str, answered: Sequence[Answered]) -> Row:
    """How far the adapter is above another arm: paired by question, means over tasks.

    The errors are those over tasks; over questions where there is one task only.
    """
    having = [task for task in answered if other in task.marks]
    result: Row = {"adapter_minus": other, "tasks": len(having)}
    errors = {}
    for key in SCORES:
        by_task = [
            [
                getattr(mine, key) - getattr(theirs, key)
                for mine, theirs in zip(task.marks["adapter"], task.marks[other], strict=True)
            ]
            for task in having
        ]
        values = by_task[0] if len(having) == 1 else [take_mean(some).value for some in by_task]
        mean = take_mean(values)
        result[key], errors[key] = mean.value, mean.stderr
    return result | {"stderr": errors}
