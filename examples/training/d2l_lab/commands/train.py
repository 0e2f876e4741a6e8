"""The commands `train` and `export`: a recipe in, the folder of a run out, and its network."""

import math
import signal
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import NETWORK, OUTPUT, Base, DryRun, Force, Offline, Out, in_panel

if TYPE_CHECKING:
    from d2l_lab.training.learners.recipes import Recipe

_AVERAGED = 50  # steps behind the loss that is shown


def train(
    path: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, a TOML file.")],
    out: Annotated[
        Path,
        in_panel(OUTPUT, "-o", "--out", help="Folder of the run, which goes on if it is there."),
    ] = Path("run"),
    base: Base = None,
    device: Annotated[
        str | None, in_panel(NETWORK, help="auto, cpu, cuda, cuda:N or mps; default: the recipe's.")
    ] = None,
    dry_run: DryRun = False,
    offline: Offline = False,
) -> None:
    """Train a network by a recipe.

    The folder of the run is a checkpoint. Ctrl-C saves the state; the same command goes on.
    """
    from d2l_lab.training.recipe_files import locating, read_recipe

    recipe = read_recipe(path)
    with locating(path):
        recipe = replace(
            recipe,
            base=recipe.base if base is None else base,
            device=recipe.device if device is None else device,
            offline=recipe.offline or offline,
        )
        if dry_run:
            from d2l_lab.training.loop import check

            rows = check(recipe, console.warn)
            console.emit({"sources": rows}, lambda: show_sources(rows))
        else:
            _run(recipe, out)


def _run(recipe: "Recipe", run: Path) -> None:
    """Train until the recipe's end, or until somebody stops it."""
    from d2l_lab.training import loop

    view = TrainingView(recipe, console.ProgressBar("training"))
    with view.listening():
        loop.train(recipe, run, watch=view, stopping=view.stopping, warn=console.warn)
    if view.stopped_by is not None:
        console.note(f"stopped, the state is saved: the same command goes on ({run})")
        raise typer.Exit(128 + view.stopped_by)
    console.emit({"checkpoint": str(run)}, str(run))


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    out: Out,
    compact: Annotated[
        bool, typer.Option("--compact", help="8-bit rows, a quarter of the size.")
    ] = False,
    force: Force = False,
) -> None:
    """Write a run's network as a checkpoint folder."""
    from d2l_lab.training.run_export import export_run

    written = export_run(run, out, compact=compact, force=force)
    console.emit({"checkpoint": str(written)}, str(written))


class TrainingView:
    """View that follows a run: call it with every row of the log, ask `stopping` after every step.

    The first SIGINT or SIGTERM during steps is kept in `stopped_by`; before the first step, and for
    the second time, it ends the run at once.
    """

    def __init__(self, recipe: "Recipe", bar: console.ProgressBar) -> None:
        self.stopped_by: int | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._recipe, self._bar = recipe, bar
        self._losses: deque[float] = deque(maxlen=_AVERAGED)
        self._steps_run = False

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Keep the signals of a block."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._interrupt)
        try:
            yield
        finally:
            for number, handler in self._before.items():
                signal.signal(number, handler)

    def __call__(self, row: dict[str, Any]) -> None:
        """Show a step: its number, the mean of the last losses, and the limit that ends the run."""
        self._losses.append(row["loss"])
        loss = sum(self._losses) / len(self._losses)
        limits = (
            (row["step"], self._recipe.steps, "steps"),
            (int(row["seconds"]), math.ceil(self._recipe.hours * 3600), "seconds"),
        )
        done, total, unit = max(
            (limit for limit in limits if limit[1]), key=lambda limit: limit[0] / limit[1]
        )
        self._bar(done, total, f"step {row['step']:,}, loss {loss:.4g}, {unit}")

    def stopping(self) -> bool:
        """True if the run is to end after the last step."""
        self._steps_run = True
        return self.stopped_by is not None

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if self.stopped_by is not None or not self._steps_run:
            signal.signal(number, self._before[signal.Signals(number)])
            signal.raise_signal(number)
        self.stopped_by = number
        console.note(
            "stopping after this step; a second time ends at once, at the state saved last"
        )


def show_sources(rows: list[dict[str, Any]]) -> None:
    """Print what each source of a recipe gives for each length."""
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    texts = ("source", "tokens")
    console.show_table(
        [column.replace("_", " ") for column in columns],
        [
            [
                # Documents have no tasks.
                str(row.get(key, "")) if key in texts or key not in row else f"{row[key]:,}"
                for key in columns
            ]
            for row in rows
        ],
    )
