"""The report of `t2l eval` as a picture: bars by task and arm; matplotlib draws it, an extra."""

from pathlib import Path

from d2l.evaluation.tasks.report import NAMES, TaskReport
from d2l.files.plots import load_figure, save_picture

_PANELS = (("score", "score (exact match or ROUGE-L)"), ("nll", "NLL (nats a token)"))
_ROW_INCHES = 0.22


def draw_report(report: TaskReport, out: Path) -> Path:
    """Draw scores and likelihoods, with one standard error, into one file; raises D2LError."""
    tasks = list(dict.fromkeys(row["task"] for row in report.rows))
    arms = [row["arm"] for row in report.means]
    height = 1.5 + _ROW_INCHES * len(tasks) * (len(arms) + 1)
    figure = load_figure()(figsize=(12, height), layout="constrained")
    for axes, (key, label) in zip(figure.subplots(1, 2, sharey=True), _PANELS, strict=True):
        for number, arm in enumerate(arms):
            rows = [row for row in report.rows if row["arm"] == arm]
            places = [tasks.index(row["task"]) + number / (len(arms) + 1) for row in rows]
            axes.barh(
                places,
                [row[key] for row in rows],
                height=1 / (len(arms) + 1),
                xerr=[row["stderr"][key] or 0.0 for row in rows],
                label=NAMES[arm],
            )
        axes.set_xlabel(label)
        axes.grid(axis="x", alpha=0.3)
        middle = (len(arms) - 1) / (len(arms) + 1) / 2
        axes.set_yticks([n + middle for n in range(len(tasks))], tasks)
    axes.invert_yaxis()  # of both panels, which share it
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(arms))
    return save_picture(figure, out)
