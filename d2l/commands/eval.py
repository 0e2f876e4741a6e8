"""The command `t2l eval`: what it was asked to do, which pipeline does it, what is printed.

An adapter is asked a file of tasks; with `--checkpoint`, adapters are made from the descriptions
of every task, and asked.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import AsJson, Base, Device, Dtype, Offline

if TYPE_CHECKING:
    from d2l.evaluation.tasks.report import TaskReport


def evaluate(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="An adapter and a file of tasks; with --checkpoint the file alone."),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Make an adapter from every task's descriptions, and ask it.")
    ] = None,
    held_out: Annotated[
        Path | None,
        typer.Option(help="With --checkpoint: a recipe, whose held-out tasks are the file's."),
    ] = None,
    shuffled: Annotated[
        bool, typer.Option("--shuffled", help="Ask adapters of other tasks' descriptions, too.")
    ] = False,
    adapter_only: Annotated[
        bool, typer.Option("--adapter-only", help="Do not ask the base.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, help="Most examples of a task.")] = 20,
    shots: Annotated[int, typer.Option(min=1, help="Solved examples in the prompt.")] = 3,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    max_input: Annotated[int, typer.Option(min=1, help="Longest example, in tokens.")] = 512,
    batch: Annotated[int, typer.Option(min=1, help="Inputs read at a time.")] = 8,
    plot: Annotated[Path | None, typer.Option(help="Draw the report, too: a .png.")] = None,
    base: Base = None,
    embedder: Annotated[
        str | None, typer.Option(help="With --checkpoint: where the embedder lies.")
    ] = None,
    device: Device = "auto",
    dtype: Annotated[
        Dtype | None,
        typer.Option(help="Precision of the base that is asked; default: as the device needs."),
    ] = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Measure an adapter on tasks: beside the base alone, and with the task in its prompt."""
    named = list(paths or ())
    _check_usage(named, checkpoint, held_out, only_networks=shuffled or embedder is not None)
    from d2l.compiler.make import MakeOptions
    from d2l.datasets.tasks import read_tasks
    from d2l.evaluation.tasks import evaluate as task_eval
    from d2l.evaluation.tasks.arms import TaskOptions
    from d2l.files.plots import check_picture
    from d2l.inference.adapted_model import AskOptions
    from d2l.training.recipe_files import read_held_out

    if plot is not None:
        check_picture(plot)  # before the work, not after it
    asking = AskOptions(
        base=base, device=device, max_tokens=max_tokens, offline=offline, dtype=dtype
    )
    options = TaskOptions(limit, max_tokens, max_input, batch, shots, compare=not adapter_only)
    if checkpoint is None:
        report = task_eval.eval_adapter(
            named[0], named[1], asking=asking, options=options, watch=console.watch
        )
    else:
        making = MakeOptions(
            checkpoint, base=base, embedder=embedder, device=device, offline=offline
        )
        report = task_eval.eval_network(
            read_tasks(named[0]) if held_out is None else read_held_out(held_out),
            making=making,
            asking=asking,
            options=options,
            shuffled=shuffled,
            watch=console.watch,
        )
    _show(report, plot, as_json=as_json)


def _check_usage(
    paths: Sequence[Path], checkpoint: str | None, held_out: Path | None, *, only_networks: bool
) -> None:
    """Say what does not go together: wrong usage."""
    if checkpoint is None and (held_out is not None or only_networks):
        raise typer.BadParameter("--held-out, --shuffled and --embedder go with --checkpoint")
    if checkpoint is None and len(paths) != 2:
        raise typer.BadParameter("name an adapter and a file of tasks, or a --checkpoint")
    if checkpoint is not None and len(paths) != (held_out is None):
        raise typer.BadParameter("with --checkpoint, name one file of tasks, or --held-out RECIPE")


def _show(report: "TaskReport", plot: Path | None, *, as_json: bool) -> None:
    from d2l.evaluation.tasks.plot import draw_report

    for remark in report.remarks:
        console.note(remark)
    if plot is not None:
        console.note(f"drawn: {draw_report(report, plot)}")
    console.emit(report.to_json(), lambda: show_report(report), as_json=as_json)


_METRICS = {"em": "exact match", "rouge_l": "ROUGE-L"}


def show_report(report: "TaskReport") -> None:
    """Print a row for every task and arm, the means over tasks and the paired differences."""
    from d2l.evaluation.tasks.report import NAMES

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
