"""View of a training run: a live table on stderr, or now and then a line.

Ctrl-C ends the run after the current step, with its state saved.
"""

import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any

from d2l import interrupts
from d2l.commands import console
from d2l.training.learners.recipes import Recipe

_SHOWN = 6  # steps in the table
_AVERAGED = 50  # steps behind its means
_LINE_SECONDS = 60.0  # between lines where there is no terminal
_COLUMNS = ("step", "chunks", "loss", "answers", "right", "general", "gradient", "rate")
_KEYS = ("step", "chunks", "loss", "answers", "answers_right", "general", "gradient", "rate")

Row = dict[str, Any]


class TrainingView:
    """View that follows a run: call it with every row of the log, ask `stopping` after every step.

    The first SIGINT or SIGTERM during steps is kept in `stopped_by`; before the first step, and for
    the second time, it ends the run at once.
    """

    def __init__(self, recipe: Recipe, clock: Callable[[], float] = time.monotonic) -> None:
        self.stopped_by: int | None = None
        self._recipe = recipe
        self._clock = clock
        self._rows: deque[Row] = deque(maxlen=_AVERAGED)
        self._said = clock()
        self._live: Any = None
        self._steps_run = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "TrainingView":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._interrupt)
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            self._live = Live(console=Console(stderr=True), auto_refresh=False)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._live is not None:
            self._live.stop()

    def __call__(self, row: Row) -> None:
        """Show a step."""
        self._rows.append(row)
        if self._live is not None:
            self._live.update(make_table(self._rows, describe(self._rows, self._recipe)))
            self._live.refresh()
        elif self._clock() - self._said >= _LINE_SECONDS:
            self._said = self._clock()
            console.note(f"{describe(self._rows, self._recipe)}, loss {mean(self._rows, 'loss')}")

    def stopping(self) -> bool:
        """True if the run is to end after the last step."""
        self._steps_run = True
        return self.stopped_by is not None

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if self.stopped_by is not None or not self._steps_run:
            interrupts.end(number)
        self.stopped_by = number
        text = "stopping after this step; a second time ends at once, at the state saved last"
        if self._live is not None:
            self._live.console.print(text)
        else:
            console.note(text)


def mean(rows: Sequence[Row] | deque[Row], key: str) -> str:
    """Compute a figure's mean over the rows that have it, for people; "" if none has."""
    values = [row[key] for row in rows if key in row]
    if not values:
        return ""
    value = sum(values) / len(values)
    return f"{value:.0f}" if key == "step" else f"{value:.4g}"


def describe(rows: Sequence[Row] | deque[Row], recipe: Recipe) -> str:
    """Describe the progress: steps, pace, and the time left at that pace."""
    first, last = rows[0], rows[-1]
    step, seconds = last["step"], last["seconds"]
    n_steps = max(step - first["step"], 1)
    pace = (seconds - first["seconds"]) / n_steps if len(rows) > 1 else seconds / step
    left = [recipe.hours * 3600 - seconds] if recipe.hours > 0 else []
    left += [(recipe.steps - step) * pace] if recipe.steps > 0 else []
    of = f" of {recipe.steps:,}" if recipe.steps > 0 else ""
    speed = f"{1 / pace:.2g} steps a second" if pace > 0 else "too fast to time"
    return f"step {step:,}{of}, {speed}, {show_time(min(left))} left"


def show_time(seconds: float) -> str:
    """Spell a duration in the unit that fits it."""
    seconds = max(seconds, 0.0)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def make_table(rows: Sequence[Row] | deque[Row], caption: str) -> Any:
    """Make a table of the last steps and the means over the rows given."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, caption=caption, caption_justify="left")
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    for row in list(rows)[-_SHOWN:]:
        table.add_row(*(mean([row], key) for key in _KEYS))
    means = (mean(rows, key) for key in _KEYS[2:-1])
    table.add_section()
    table.add_row(f"mean of {len(rows)}", "", *means, "")
    return table
