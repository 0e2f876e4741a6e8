"""What `t2l eval` prints: a report in, tables on stdout out."""

from collections.abc import Mapping
from typing import Any

from d2l.commands import console
from d2l.evaluation.tasks.report import NAMES, TaskReport

_METRICS = {"em": "exact match", "rouge_l": "ROUGE-L"}


def show_report(report: TaskReport) -> None:
    """Print a row for every task and arm, the means over tasks and the paired differences."""
    console.show_table(
        ("task", "arm", "n", "metric", "score", "NLL"),
        [
            (
                row["task"],
                NAMES[row["arm"]],
                f"{row['n']:,}",
                _METRICS[row["metric"]],
                with_error(row, "score"),
                with_error(row, "nll"),
            )
            for row in report.rows
        ],
    )
    console.result("")
    console.show_table(
        ("mean over tasks", "tasks", "n", "score", "NLL"),
        [
            (
                NAMES[row["arm"]],
                f"{row['tasks']:,}",
                f"{row['n']:,}",
                with_error(row, "score"),
                with_error(row, "nll"),
            )
            for row in report.means
        ],
    )
    if not report.differences:
        return
    console.result("")
    console.show_table(
        ("adapter minus", "tasks", "score", "NLL"),
        [
            (
                NAMES[row["adapter_minus"]],
                f"{row['tasks']:,}",
                with_error(row, "score", sign="+"),
                with_error(row, "nll", sign="+"),
            )
            for row in report.differences
        ],
    )


def with_error(row: Mapping[str, Any], key: str, *, sign: str = "") -> str:
    """A mean and its standard error, where there is one."""
    error = row["stderr"][key]
    return f"{row[key]:{sign}.3f}" + ("" if error is None else f" ± {error:.3f}")
