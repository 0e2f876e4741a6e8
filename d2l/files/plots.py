"""Pictures as files; matplotlib draws them, an extra."""

from pathlib import Path
from typing import Any

from d2l.errors import RecipeError
from d2l.files.atomic import naming, replace_file

_SUFFIXES = (".pdf", ".png", ".svg")


def check_picture(out: Path) -> None:
    """Refuse what is not the name of a picture; raises RecipeError."""
    if out.suffix not in _SUFFIXES:
        raise RecipeError(
            f"{out}: not the name of a picture", hint=f"end it in {', '.join(_SUFFIXES)}"
        )


def load_figure() -> Any:
    """matplotlib's class of figures; raises RecipeError where it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise RecipeError(
            "drawing needs matplotlib, which is not installed", hint="pip install 'd2l[plot]'"
        ) from error
    return Figure


def save_picture(figure: Any, out: Path) -> Path:
    """Write a figure in the format that the name says, whole or not at all."""
    kind = out.suffix.removeprefix(".")
    with naming(out, RecipeError):
        replace_file(out, lambda target: figure.savefig(target, format=kind, dpi=120))
    return out
