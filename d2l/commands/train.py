"""The command `train` of both command lines: a recipe in, the folder of a run out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import AsJson, Base, Offline


def train(
    paths: Annotated[
        list[Path], typer.Argument(help="A recipe, a TOML file; with --plot, folders of runs.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            help="Folder of the run (default: run), which goes on if it is there; with --plot, "
            "the picture (default: curves.png).",
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check recipe and data; load no weights.")
    ] = False,
    plot: Annotated[bool, typer.Option("--plot", help="Draw the curves of runs.")] = False,
    base: Base = None,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Train a network further; the folder of the run is a checkpoint. Ctrl-C is safe."""
    from d2l.commands import training_view
    from d2l.training import curves, recipes

    if plot:
        written = curves.draw_curves(paths, out or Path("curves.png"))
        console.result_json({"picture": str(written)}) if as_json else console.result(str(written))
        return
    if len(paths) > 1:
        raise typer.BadParameter("one recipe at a time; several paths are for --plot")
    from d2l.training import loop as pipeline

    wanted = recipes.read_recipe(paths[0])
    for warning in pipeline.warn_of_base(wanted, base=base, offline=offline):
        console.warn(warning)
    if check:
        rows = pipeline.check(wanted, base=base, offline=offline)
        if as_json:
            console.result_json({"sources": rows})
        else:
            show_sources(rows)
        return
    run = out or Path("run")
    with training_view.TrainingView(wanted) as view:
        first = pipeline.train(
            wanted, run, base=base, offline=offline, watch=view, stopping=view.stopping
        )
    if view.stopped_by is not None:
        if first:
            console.note(f"stopped, the state is saved: the same command goes on ({run})")
        raise typer.Exit(128 + view.stopped_by)
    if first and as_json:
        console.result_json({"checkpoint": str(run)})
    elif first:
        console.result(str(run))


def show_sources(rows: list[dict[str, Any]]) -> None:
    """Print what each source of a recipe gives for each length."""
    columns = tuple(rows[0])
    console.show_table(
        [column.replace("_", " ") for column in columns],
        [
            [str(row[key]) if key in ("source", "tokens") else f"{row[key]:,}" for key in columns]
            for row in rows
        ],
    )
