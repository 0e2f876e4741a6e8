"""Everything printed: progress and errors on stderr, the result on stdout.

No color and no progress when stderr is not a terminal. rich is imported when something is drawn,
so that `--help` and `--version` start at once.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from d2l.errors import D2LError

if TYPE_CHECKING:
    from rich.table import Table

T = TypeVar("T")


def show_error(error: D2LError) -> None:
    """One line that says what is wrong, one that says what to do."""
    _write_error(f"error: {error.message}")
    if error.hint:
        _write_error(f"hint: {error.hint}")


def warn(message: str) -> None:
    """Something the user should know, on stderr."""
    _write_error(f"warning: {message}")


def note(message: str) -> None:
    """A remark on stderr."""
    _write_error(message)


def result(text: str) -> None:
    """The result, on stdout."""
    sys.stdout.write(text + "\n")


def result_json(value: Mapping[str, Any]) -> None:
    """The result as one JSON object on stdout."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")


def stream(text: str) -> None:
    """A piece of an answer on stdout, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def watch(items: Sequence[T], label: str) -> Iterator[T]:
    """Yield the items behind a progress bar on stderr, if that is a terminal."""
    if not sys.stderr.isatty():
        yield from items
        return
    from rich.console import Console
    from rich.progress import track

    yield from track(items, label, console=Console(stderr=True), transient=True)


class Steps:
    """A progress bar for work that reports how far it is: call it with (done, total)."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "Steps":
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import Progress

            self._bar = Progress(console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task(self._label, total=None)
        return self

    def __call__(self, done: int, total: int, label: str | None = None) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(
                self._task, completed=done, total=total, description=label or self._label
            )

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table on stdout, as wide as its content."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*row)
    _print_table(table)


def show_bars(title: str, bars: Sequence[tuple[str, float]], width: int = 40) -> None:
    """Horizontal bars on stdout, scaled to the longest."""
    longest = max((value for _, value in bars), default=0.0)
    margin = max((len(name) for name, _ in bars), default=0)
    result(title)
    for name, value in bars:
        filled = round(width * value / longest) if longest > 0 else 0
        result(f"  {name:<{margin}}  {'█' * filled}{'·' * (width - filled)}  {value:.4g}")


def _print_table(table: "Table") -> None:
    from rich.console import Console

    wide = sys.stdout.isatty()
    console = Console(file=sys.stdout, width=None if wide else 160, highlight=False)
    with console.capture() as captured:
        console.print(table)
    sys.stdout.write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")


def _write_error(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def show_rows(rows: Sequence[tuple[str, Any]]) -> None:
    """A fact a line on stdout, names in a column."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        result(f"{name:<{width}}  {value}")
