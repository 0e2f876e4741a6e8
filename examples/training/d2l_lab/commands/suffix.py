"""The command `suffix`: a recipe in, the base's KV cache with a trained suffix out."""

from pathlib import Path
from typing import Annotated

import typer

from d2l.commands import console
from d2l.commands.options import Force, Out


def suffix(
    path: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, a TOML file.")],
    out: Out,
    force: Force = False,
) -> None:
    """Train the suffix of a base's KV cache."""
    from d2l_lab.suffix.recipe import read_suffix_recipe
    from d2l_lab.suffix.train import train_suffix

    recipe = read_suffix_recipe(path)
    train_suffix(recipe, out, force=force, watch=console.ProgressBar("training"))
    console.emit({"checkpoint": str(out)}, str(out))
