"""Signals that interrupt: recorded as well as raised, because a raised exception can be lost.

Python ignores exceptions in callbacks of its memory management, and replaces those raised while a
class is made; libraries take a failed import for a missing package. So the handlers here record the
signal as well, and `check` raises it again before files are moved into place, between pieces of
work, and at the end. Only a block of `listening` has these handlers: other signals belong to the
program that uses the package.
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

_SOON = 0.05  # seconds until an exception that Python ignored is raised again


class _State:
    listening = False
    signal: int | None = None
    written: tuple[Path, ...] = ()


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Record and raise SIGINT and SIGTERM in a block; an ignored SIGINT, as in background jobs of a
    shell, stays ignored. For the main thread alone."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    hook = sys.unraisablehook
    _State.listening, _State.signal, _State.written = True, None, ()
    sys.unraisablehook = _raise_again
    for number, handler in before.items():
        if number == signal.SIGTERM or handler != signal.SIG_IGN:
            signal.signal(number, _handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # None: a handler that was not set from Python
                signal.signal(number, handler)
        sys.unraisablehook = hook
        _State.listening, _State.signal = False, None


def last_signal() -> int | None:
    """The number of the last signal that asked for an end, or None."""
    return _State.signal


def record_written(path: Path) -> None:
    """Record a finished file or folder, which stays if an interruption follows."""
    if _State.listening:
        _State.written = (*_State.written, path)


def list_written() -> tuple[Path, ...]:
    """List the files and folders that were written in this block of `listening`."""
    return _State.written


def clear() -> None:
    """Forget the recorded signal: for callers that dealt with the interruption themselves."""
    _State.signal = None


def check() -> None:
    """Raise the recorded signal, should its exception be lost: KeyboardInterrupt or SystemExit."""
    if _State.signal is not None:
        end(_State.signal)


def end(number: int) -> NoReturn:
    """Record a signal, in a block of `listening`, and raise KeyboardInterrupt for SIGINT, otherwise
    SystemExit with the exit code that a shell gives for the signal."""
    if _State.listening:
        _State.signal = number
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _handle(number: int, _frame: FrameType | None) -> None:
    end(number)


def _raise_again(lost: "sys.UnraisableHookArgs") -> None:
    """Raise an exception that Python ignores once more after a moment, without a message."""
    number = _State.signal
    if number is None or not isinstance(lost.exc_value, KeyboardInterrupt | SystemExit):
        sys.__unraisablehook__(lost)
        return
    timer = threading.Timer(_SOON, _thread.interrupt_main, [number])
    timer.daemon = True
    timer.start()
