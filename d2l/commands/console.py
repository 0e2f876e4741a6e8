"""Printing: progress and errors on stderr, the result on stdout.

No color and no spinner if stderr is not a terminal: long work then prints a line now and then. rich
is imported when it draws, so that `--help` and `--version` start at once.
"""

import contextlib
import enum
import logging
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from io import StringIO
from textwrap import wrap
from typing import Any, BinaryIO, TypeVar

from d2l import interrupts
from d2l.commands import streams
from d2l.errors import D2LError
from d2l.files.printable import CONTROLS, one_line, printable, short_line
from d2l.progress import BEGINS, TOLD

T = TypeVar("T")
#: Columns of a table at most: lines are as wide as they are, and no cell is folded.
_WIDEST = 10_000
#: When the command began, on `time.perf_counter`.
STARTED = time.perf_counter()
#: Seconds between two lines of progress where stderr is no terminal; shorter work says nothing.
LOG_SECONDS = 20.0
#: Seconds until a pace is told of an item that is not done, and of work this long, which has a
#: first line then; and seconds left that are worth a hint.
_SETTLED, _LONG, _TOO_LONG = 5.0, 30.0, 300.0
#: Flushes stdout, so that a program behind a pipe gets the result so far.
flush = streams.flush


class Level(enum.IntEnum):
    """Level of messages: warnings and errors; also notes; also what is loaded."""

    QUIET = 0
    USUAL = 1
    VERBOSE = 2


class _Settings:
    level = Level.USUAL
    json = False
    stopping: str | None = None
    logged: logging.Handler | None = None
    in_line = False  # stdout's last line has no end yet
    spinner: "_Spinner | None" = None


class _Spinner(logging.Handler):
    """Handler of the rooms' logs: rich's spinner on stderr names the latest work that begins
    (`announce`), until something else is printed."""

    def __init__(self) -> None:
        super().__init__()
        self._live: Any = None

    def emit(self, record: logging.LogRecord) -> None:
        """Show the name of the work."""
        if record.levelno < logging.INFO:
            self.show(record.getMessage())

    def show(self, text: str) -> None:
        """Show a text, unless stdout's last line has no end yet."""
        from rich.console import Console
        from rich.live import Live
        from rich.spinner import Spinner
        from rich.text import Text

        if self._live is None:
            self._live = Live(
                console=Console(file=sys.stderr),
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
        line = Text(short_line(text))
        line.truncate(self._live.console.width - 2, overflow="ellipsis")
        self._live.update(Spinner("line", line))
        if not _Settings.in_line:
            self._live.start()

    def erase(self) -> None:
        """Erase the line, before other output is written."""
        if self._live is not None:
            self._live.stop()


class _Logged(logging.Handler):
    """Handler of the rooms' logs: each line on stderr, behind the seconds since the start."""

    def __init__(self) -> None:
        super().__init__()
        self._start = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Print one record, but for warnings, which are shown at every level."""
        if record.levelno >= logging.WARNING:
            return
        _write_error(one_line(f"{time.monotonic() - self._start:6.1f} s  {record.getMessage()}"))


def set_level(level: Level) -> None:
    """Say as much as `level` from here on."""
    logger = logging.getLogger("d2l")
    if _Settings.logged is not None:
        logger.removeHandler(_Settings.logged)
        logger.setLevel(logging.NOTSET)
    _Settings.level, _Settings.logged = level, None
    if level == Level.QUIET:
        end_spinner()
    if level == Level.VERBOSE:
        _Settings.logged = _Logged()
        logger.addHandler(_Settings.logged)
    if level == Level.VERBOSE or _Settings.spinner is not None:
        logger.setLevel(BEGINS)


def begin_spinner() -> None:
    """Name the work that begins on stderr, if that is a terminal."""
    if _draws():
        _Settings.spinner = _Spinner()
        logging.getLogger("d2l").addHandler(_Settings.spinner)
        logging.getLogger("d2l").setLevel(BEGINS)


def make_way() -> None:
    """Erase the spinner before other output."""
    if _Settings.spinner is not None:
        _Settings.spinner.erase()


def end_spinner() -> None:
    """Erase the spinner for good."""
    if _Settings.spinner is not None:
        _Settings.spinner.erase()
        logging.getLogger("d2l").removeHandler(_Settings.spinner)
        logging.getLogger("d2l").setLevel(BEGINS if _Settings.logged else logging.NOTSET)
        _Settings.spinner = None


def set_stopping(text: str | None) -> None:
    """Set the message for an interruption; None: the files that the command has written."""
    _Settings.stopping = text


def show_stop(kept: Sequence[str]) -> None:
    """Print that the command was interrupted, and the names of the files that it leaves."""
    more = f" and {len(kept) - 3} more" if len(kept) > 3 else ""
    left = f"written before: {', '.join(kept[:3])}{more}" if kept else "nothing was written"
    note(short_line(f"stopped; {_Settings.stopping or left}"))


def set_json(*, wanted: bool) -> None:
    """Print results as JSON from here on, or as text."""
    _Settings.json = wanted


def wants_json() -> bool:
    """True if results are printed as JSON."""
    return _Settings.json


def show_error(error: D2LError) -> None:
    """Print an error in one line, and its hint in another, below a half answer."""
    if _Settings.in_line:
        with contextlib.suppress(D2LError):  # nobody reads stdout
            end_answer()
    _write_error(short_line(f"error: {error.message}"))
    if error.hint:
        _write_error(short_line(f"hint: {error.hint}"))


def warn(*messages: str) -> None:
    """Print warnings on stderr, at every level."""
    for message in messages:
        _write_error(short_line(f"warning: {message}"))


class _Warnings(logging.Handler):
    """Handler that shows the warnings of the rooms below, which print nothing."""

    def emit(self, record: logging.LogRecord) -> None:
        """Show one."""
        warn(record.getMessage())


_WARNINGS = _Warnings(logging.WARNING)


def listen() -> None:
    """Show what the package's modules log as a warning, and the steps that they tell."""
    logging.getLogger("d2l").addHandler(_WARNINGS)  # once: the same handler is not added again
    bar = ProgressBar("")
    TOLD.set(lambda done, total, label=None: bar(done, total, label) if label else None)


def note(message: str, *, dim: bool = False) -> None:
    """Print a remark on stderr, dim on a terminal."""
    if _Settings.level > Level.QUIET:
        _write_error(message, dim=dim and sys.stderr.isatty())


def result(text: str) -> None:
    """Print the result on stdout."""
    _write(printable(text) + "\n")


def result_json(value: Mapping[str, Any]) -> None:
    """Print the result as one JSON object on stdout; NaN and infinity become null."""
    text = streams.spell_json(_finite(value))
    _write(CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def emit(value: Mapping[str, Any], show: str | Callable[[], object]) -> None:
    """Print the result on stdout: `value` with `--json`, else the text, or what `show` prints."""
    if _Settings.json:
        result_json(value)
    elif isinstance(show, str):
        result(show)
    else:
        show()


def _write(text: str) -> None:
    """Write to stdout, without the spinner in its last line."""
    _Settings.in_line = not text.endswith("\n")
    make_way()
    streams.write(text)


def stream(text: str) -> None:
    """Print a piece of an answer on stdout, at once."""
    _write(printable(text))
    streams.flush()


def end_answer(end: str = "", below: str = "") -> None:
    """End a streamed answer. Words behind it, and indented lines below, are dim on a terminal, else
    on stderr: a program that reads stdout gets the answer alone, and with -q everybody does."""
    if _Settings.level == Level.QUIET:
        end = below = ""
    lines = [f"  {printable(line)}" for line in below.splitlines()]
    on_screen = sys.stdout is not None and sys.stdout.isatty()
    if on_screen and end:
        _write(f" \x1b[2m{printable(end)}\x1b[0m")
    _write("\n")
    if on_screen:
        width = max(shutil.get_terminal_size().columns, 20)
        lines = [piece for line in lines for piece in wrap(line, width, subsequent_indent="  ")]
        _write("".join(f"\x1b[2m{line}\x1b[0m\n" for line in lines))
    streams.flush()
    for line in () if on_screen else filter(None, (end, *lines)):
        note(line)


def open_stdin() -> BinaryIO:
    """Open standard input for bytes; raises D2LError if it is closed."""
    if sys.stdin is None:
        raise D2LError("standard input is closed", hint="pipe something in, or name a file")
    return sys.stdin.buffer


def watch(items: Sequence[T], label: str, hint: str = "") -> Iterator[T]:
    """Yield the items, and show the progress, also within an item if a room tells its steps. An
    interruption ends the work before each."""
    progress, before = ProgressBar(label, hint), TOLD.get()
    for done, item in enumerate(items):
        interrupts.check()
        progress(done, len(items))
        TOLD.set(lambda n, of, *_, done=done: progress(done + n / (of + 1), len(items)))
        yield item
    TOLD.set(before)


def _draws() -> bool:
    return sys.stderr.isatty() and _Settings.level > Level.QUIET


class ProgressBar:
    """Progress of work that is called with (done, total), and the time left at the mean pace of a
    phase: on a terminal in the spinner's line, else a line every `LOG_SECONDS`. A phase begins
    where less is done than before, or as much under another label, and its pace behind quick steps,
    such as cached ones. The `hint` is told once, if too much time is left."""

    def __init__(self, label: str, hint: str = "") -> None:
        self._label, self._hint, self._phase, self._logged = label, hint, "", 0.0
        self._start = self._last = (0.0, math.inf)  # a time, and what was done then
        _label_spinner(label)

    def __call__(self, done: float, total: int, label: str | None = None) -> None:
        """Show the progress."""
        now, label = time.monotonic(), label or self._label
        (start, first), (last, before) = self._start, self._last
        quick, slow = (last - start) * (done - before), (now - last) * (before - first)
        if done < before or (done == before and label != self._phase):
            self._start, self._logged = (now, done), now
        elif slow > 10 * quick > 0 and last - start < _SETTLED:
            self._start = self._last
        self._last, self._phase = (now, done), label
        (start, first), rest, left = self._start, 0.0, ""
        if done > first and (done == int(done) or now - start >= _SETTLED):
            rest = (now - start) * (total - done) / (done - first)
            left = f", about {_describe_time(rest)} left"
        text = f"{label}: {int(done):,} of {total:,}{left}"
        _label_spinner(text)
        is_first = self._logged <= start and rest and now - start + rest >= _LONG
        if now - self._logged >= (_SETTLED if is_first else LOG_SECONDS):
            self._logged = now
            if not _draws():
                note(one_line(text))
            if self._hint and rest >= _TOO_LONG:
                note(f"hint: {self._hint}")
                self._hint = ""


def _label_spinner(text: str) -> None:
    if text and _Settings.spinner is not None:
        _Settings.spinner.show(text)


def _describe_time(seconds: float) -> str:
    """Describe seconds: "45 s", "1 m 58 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} m {rest} s" if rest else f"{minutes} m"


def show_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a plain table on stdout, as wide as its content."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*columns, box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))  # brackets in it are no markup
    paper = StringIO()
    Console(file=paper, width=_WIDEST, highlight=False).print(table)
    _write("".join(f"{line.rstrip()}\n" for line in paper.getvalue().splitlines()))


def spell_age(then: float | None) -> str:
    """Spell the age of a time (seconds since 1970), in the largest unit that fits."""
    if then is None:
        return ""
    seconds = max(time.time() - then, 0)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        n = int(seconds // length)
        if n:
            return f"{n} {unit}{'' if n == 1 else 's'} ago"
    return "just now"


def _write_error(text: str, *, dim: bool = False) -> None:
    plain = printable(text)
    make_way()
    sys.stderr.write((f"\x1b[2m{plain}\x1b[0m" if dim else plain) + "\n")
    sys.stderr.flush()


def describe_times(seconds: float, start: float | None) -> str:
    """Describe durations: "3.6 s, and 6.2 s to start"; `start`: seconds until the work began."""
    return f"{seconds:.1f} s" + ("" if start is None else f", and {start:.1f} s to start")


def show_rows(rows: Sequence[tuple[str, Any]]) -> None:
    """Print a fact a line on stdout, names in a column."""
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        result(short_line(f"{name:<{width}}  {value}"))
