"""Pictures as files, drawn by matplotlib, which is an extra."""

from pathlib import Path
from typing import Any

from d2l.errors import D2LError, MissingExtraError, OptionError
from d2l.files.atomic import naming, replace_file

_SUFFIXES = (".pdf", ".png", ".svg")


def check_picture(out: Path) -> None:
    """Raise OptionError unless a path is that of a picture."""
    if out.suffix not in _SUFFIXES:
        raise OptionError(
            f"{out}: not the name of a picture", hint=f"end it in {', '.join(_SUFFIXES)}"
        )


def load_figure() -> Any:
    """Import matplotlib's class of figures; raises MissingExtraError if it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "drawing needs matplotlib, which is not installed", hint="pip install 'd2l[plot]'"
        ) from error
    return Figure


def save_picture(figure: Any, out: Path) -> Path:
    """Write a figure in the format of the suffix, whole or not at all; raises D2LError."""
    kind = out.suffix.removeprefix(".")
    with naming(out, D2LError):
        replace_file(out, lambda target: figure.savefig(target, format=kind, dpi=120))
    return out
