"""Pictures as files; matplotlib draws them, an extra."""

from pathlib import Path
from typing import Any

from d2l.errors import D2LError, MissingExtraError, OptionError
from d2l.files.atomic import naming, replace_file

_SUFFIXES = (".pdf", ".png", ".svg")


def check_picture(out: Path) -> None:
    """Refuse what is not the name of a picture; raises OptionError."""
    if out.suffix not in _SUFFIXES:
        raise OptionError(
            f"{out}: not the name of a picture", hint=f"end it in {', '.join(_SUFFIXES)}"
        )


def load_figure() -> Any:
    """matplotlib's class of figures; raises MissingExtraError where it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "drawing needs matplotlib, which is not installed", hint="pip install 'd2l[plot]'"
        ) from error
    return Figure


def save_picture(figure: Any, out: Path) -> Path:
    """Write a figure in the format that the name says, whole or not at all; raises D2LError."""
    kind = out.suffix.removeprefix(".")
    with naming(out, D2LError):
        replace_file(out, lambda target: figure.savefig(target, format=kind, dpi=120))
    return out
