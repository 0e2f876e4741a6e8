"""The command `train` of both command lines: a recipe in, the folder of a run out."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import NETWORK, OUTPUT, Base, DryRun, Offline, in_panel

if TYPE_CHECKING:
    from d2l.training.learners.recipes import Recipe


def train(
    paths: Annotated[
        list[Path], typer.Argument(help="A recipe, a TOML file; with --curves, folders of runs.")
    ],
    out: Annotated[
        Path | None,
        in_panel(
            OUTPUT,
            "-o",
            "--out",
            help="Folder of the run, which goes on if it is there; with --curves, the picture; "
            "default: run, or curves.png.",
        ),
    ] = None,
    base: Base = None,
    device: Annotated[
        str | None, in_panel(NETWORK, help="auto, cpu, cuda, cuda:N or mps; default: the recipe's.")
    ] = None,
    dry_run: DryRun = False,
    curves: Annotated[bool, typer.Option("--curves", help="Draw the curves of runs.")] = False,
    offline: Offline = False,
) -> None:
    """Train a network by a recipe.

    The folder of the run is a checkpoint. Ctrl-C saves the state; the same command goes on.
    """
    if curves:
        if dry_run:
            raise typer.BadParameter("--dry-run is for a recipe, --curves for runs")
        _draw(paths, out or Path("curves.png"))
        return
    if len(paths) > 1:
        raise typer.BadParameter("one recipe at a time; several paths are for --curves")
    from d2l.training.recipe_files import locating, read_recipe

    recipe = read_recipe(paths[0])
    recipe = replace(
        recipe,
        base=recipe.base if base is None else base,
        device=recipe.device if device is None else device,
        offline=recipe.offline or offline,
    )
    with locating(paths[0]):
        if dry_run:
            _plan(recipe)
        else:
            _run(recipe, out or Path("run"))


def _draw(runs: list[Path], picture: Path) -> None:
    """Draw the curves of runs into one picture."""
    from d2l.training.curves import draw_curves

    written = str(draw_curves(runs, picture))
    console.emit({"picture": written}, written)


def _plan(recipe: "Recipe") -> None:
    """Read recipe and data, and print what there is to train on."""
    from d2l.training.loop import check

    rows = check(recipe, console.warn)
    console.emit({"sources": rows}, lambda: show_sources(rows))


def _run(recipe: "Recipe", run: Path) -> None:
    """Train until the recipe's end, or until somebody stops it."""
    from d2l.commands.training_view import TrainingView
    from d2l.training import loop

    with TrainingView(recipe) as view:
        stopping = view.stopping
        first = loop.train(recipe, run, watch=view, stopping=stopping, warn=console.warn)
    if view.stopped_by is not None:
        if first:
            console.note(f"stopped, the state is saved: the same command goes on ({run})")
        raise typer.Exit(128 + view.stopped_by)
    if first:
        console.emit({"checkpoint": str(run)}, str(run))


def show_sources(rows: list[dict[str, Any]]) -> None:
    """Print what each source of a recipe gives for each length."""
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    texts = ("source", "tokens")
    console.show_table(
        [column.replace("_", " ") for column in columns],
        [
            [str(row.get(key, "")) if key in texts else _count(row, key) for key in columns]
            for row in rows
        ],
    )


def _count(row: dict[str, Any], key: str) -> str:
    """Spell a number for people; "" if a source has none: documents have no tasks."""
    return f"{row[key]:,}" if key in row else ""
