"""An interruption by a signal, noted, because what a signal's handler raises can be lost.

Python ignores what is raised in callbacks of its memory management, makes another error of it while
a class is made, and libraries take an import that fails for a part that is not installed. So the
handlers here note the signal as well, and the note is heeded before files take their place, between
pieces of work, and at the end. A program that uses the package has signals of its own: nothing is
noted but in a block that is `listening`.
"""

import _thread
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

_SOON = 0.05  # seconds until what Python ignored is raised again


class _State:
    listening = False
    noted: int | None = None
    kept: tuple[Path, ...] = ()


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """A block in which SIGINT and SIGTERM are noted and raised; where SIGINT is ignored, as in
    background jobs of a shell, it stays so. For the main thread alone."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    _State.listening, _State.noted, _State.kept = True, None, ()
    sys.unraisablehook = _raise_again
    for number, handler in before.items():
        if number == signal.SIGTERM or handler != signal.SIG_IGN:
            signal.signal(number, _handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # one that Python knows
                signal.signal(number, handler)
        sys.unraisablehook = hook
        _State.listening, _State.noted = False, None


def noted() -> int | None:
    """The number of the last signal that asked for an end; None where none did."""
    return _State.noted


def keep(place: Path) -> None:
    """Note a file or folder that is whole, and stays if an interruption follows."""
    if _State.listening:
        _State.kept = (*_State.kept, place)


def kept() -> tuple[Path, ...]:
    """The files and folders that were written since somebody listens."""
    return _State.kept


def forget() -> None:
    """Go on as if nothing had been: for those who answered an interruption themselves."""
    _State.noted = None


def heed() -> None:
    """Raise what was noted, should it have been lost: KeyboardInterrupt or SystemExit."""
    if _State.noted is not None:
        end(_State.noted)


def end(number: int) -> NoReturn:
    """Note a signal, where somebody listens, and raise what ends the program: KeyboardInterrupt for
    SIGINT, otherwise SystemExit with the exit code that a shell gives for it."""
    if _State.listening:
        _State.noted = number
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _handle(number: int, _frame: FrameType | None) -> None:
    end(number)


def _raise_again(lost: "sys.UnraisableHookArgs") -> None:
    """Shortly raise again what Python could only ignore, and say nothing of it."""
    number = _State.noted
    if number is None or not isinstance(lost.exc_value, KeyboardInterrupt | SystemExit):
        sys.__unraisablehook__(lost)
        return
    timer = threading.Timer(_SOON, _thread.interrupt_main, [number])
    timer.daemon = True
    timer.start()
