"""The command `d2l-lab eval`: ask an adapter, or a network's adapters, a file of tasks."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2l.commands import console
from d2l.commands.options import INPUT, LIMITS, NETWORK, Base, Device, Offline, in_panel

if TYPE_CHECKING:
    from d2l_lab.tasks.report import TaskReport

_METRICS = {"em": "exact match", "choice": "likeliest label", "rouge_l": "ROUGE-L"}


def evaluate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="An adapter and a file of tasks; with --checkpoint the file alone."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        in_panel(NETWORK, help="Make an adapter from every task's descriptions, and ask it."),
    ] = None,
    held_out: Annotated[
        Path | None,
        in_panel(INPUT, help="With --checkpoint: a recipe, whose held-out tasks are the file's."),
    ] = None,
    examples: Annotated[
        Path | None,
        in_panel(INPUT, help="The adapter's own examples, to put them into the prompt, too."),
    ] = None,
    limit: Annotated[int, in_panel(LIMITS, min=1, help="Most examples of a task.")] = 20,
    base: Base = None,
    embedder: Annotated[
        str | None, in_panel(NETWORK, help="With --checkpoint: where the embedder lies.")
    ] = None,
    device: Device = "auto",
    offline: Offline = False,
) -> None:
    """Measure an adapter on examples of its task.

    Compares it with the base alone, and with the task in the base's prompt.
    """
    named = list(paths or ())
    _check_usage(named, checkpoint, held_out, embedder)
    if examples is not None and checkpoint is not None:
        raise typer.BadParameter("--examples goes with an adapter")
    from d2l.answer.options import AskOptions
    from d2l.hypernets.options import TaskCompileOptions
    from d2l_lab.task_files import read_cases
    from d2l_lab.tasks.evaluate import eval_adapter, eval_network
    from d2l_lab.training.recipe_files import read_held_out

    asking = AskOptions(base=base, device=device, offline=offline)
    if checkpoint is None:
        adapter, tasks = named
        report = eval_adapter(
            adapter, tasks, asking=asking, examples=examples, limit=limit, watch=console.watch
        )
    else:
        making = TaskCompileOptions(checkpoint, base, device, offline, embedder=embedder)
        report = eval_network(
            read_cases(named[0]) if held_out is None else read_held_out(held_out),
            making=making,
            asking=asking,
            limit=limit,
            watch=console.watch,
        )
    for remark in report.remarks:
        console.note(remark)
    console.emit(report.to_json(), lambda: _show_report(report))


def _check_usage(
    paths: Sequence[Path], checkpoint: str | None, held_out: Path | None, embedder: str | None
) -> None:
    """Refuse options and paths that do not go together: wrong usage."""
    if checkpoint is None and (held_out is not None or embedder is not None):
        raise typer.BadParameter("--held-out and --embedder go with --checkpoint")
    if checkpoint is None and len(paths) != 2:
        raise typer.BadParameter("name an adapter and a file of tasks, or a --checkpoint")
    if checkpoint is not None and len(paths) != (held_out is None):
        raise typer.BadParameter("with --checkpoint, name one file of tasks, or --held-out RECIPE")


def _show_report(report: "TaskReport") -> None:
    """Print a row for every task and arm, the means over tasks and the paired differences."""
    from d2l_lab.metrics import show_score
    from d2l_lab.tasks.report import NAMES, pair_of

    console.show_table(
        ("task", "arm", "n", "metric", "score", "NLL"),
        [
            (
                row["task"],
                NAMES[row["arm"]],
                f"{row['n']:,}",
                _METRICS[row["metric"]],
                show_score(row, "score"),
                show_score(row, "nll"),
            )
            for row in report.rows
        ],
    )
    console.result("")
    means = [
        (NAMES[row["arm"]], f"{row['tasks']:,}", show_score(row, "score"), show_score(row, "nll"))
        for row in report.means
    ]
    means += [
        (
            " minus ".join(NAMES[arm] for arm in pair_of(row)),
            f"{row['tasks']:,}",
            show_score(row, "score", "+.3f"),
            show_score(row, "nll", "+.3f"),
        )
        for row in report.differences
    ]
    console.show_table(("mean over tasks", "tasks", "score", "NLL"), means)
