"""Curves of training runs as a picture, by matplotlib, an extra.

Folders of runs in, one file out. Draws each step's figure thin and, over it, its mean over a
twentieth of the run, since classes of steps differ more than neighbors in time do.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2l.errors import D2LError, MissingExtraError, OptionError, RecipeError
from d2l.files.atomic import naming, replace_file
from d2l.training.run_folder import Row, RunFolder

_SUFFIXES = (".pdf", ".png", ".svg")
_PANELS = (
    ("answers", "loss of answers (nats a token)"),
    ("general", "divergence on general prompts (nats a token)"),
)
_SMOOTHED_SHARE = 20  # the window has a run's steps divided by this number


def draw_curves(folders: Sequence[Path], out: Path) -> Path:
    """Draw the runs' losses by step into one picture; raises RecipeError and OptionError."""
    if out.suffix not in _SUFFIXES:
        hint = f"end it in {', '.join(_SUFFIXES)}"
        raise OptionError(f"{out}: not the name of a picture", hint=hint)
    runs = [(str(folder), RunFolder(folder).read_log()) for folder in folders]
    for name, rows in runs:
        if not rows:
            raise RecipeError(f"{name}: has made no step yet", hint="leave it out")
    panels = [
        panel for panel in _PANELS if any(panel[0] in row for _, rows in runs for row in rows)
    ]
    figure = _load_figure()(figsize=(9, 4 * len(panels)), layout="constrained")
    for axes, (key, label) in zip(
        figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True
    ):
        for number, (name, rows) in enumerate(runs):
            draw_run(axes, rows, key=key, name=name, color=f"C{number}")
        axes.set_xlabel("step")
        axes.set_ylabel(label)
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend()
    with naming(out, D2LError):
        kind = out.suffix.removeprefix(".")
        replace_file(out, lambda target: figure.savefig(target, format=kind, dpi=120))
    return out


def _load_figure() -> Any:
    """Import matplotlib's class of figures; raises MissingExtraError if it is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            "drawing needs matplotlib, which is not installed", hint="pip install 'd2l[plot]'"
        ) from error
    return Figure


def draw_run(axes: Any, rows: Sequence[Row], *, key: str, name: str, color: str) -> None:
    """Draw one run's figure by step; nothing if no row has it."""
    points = [(row["step"], row[key]) for row in rows if key in row]
    if not points:
        return
    steps, values = zip(*points, strict=True)
    window = max(len(values) // _SMOOTHED_SHARE, 1)
    axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.7)
    label = name if window == 1 else f"{name} (mean of {window} steps)"
    axes.plot(steps, smooth(values, window), color=color, label=label)


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Average each value with those before it, `window` in all; fewer at the beginning."""
    return [
        sum(values[max(end - window, 0) : end]) / min(window, end)
        for end in range(1, len(values) + 1)
    ]
