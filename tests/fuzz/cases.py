"""One case: bytes into a reader, and what it did that it must not do."""

import resource
import signal
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

from d2l.errors import D2LError
from tests.fuzz.readers import Reader

#: torch and transformers reserve some 3 GB of addresses; a case has the rest.
_MEMORY_BYTES = 8 << 30
_PATIENCE = 6  # seconds of the clock for one of the processor, which others use, too


def bound_memory() -> None:
    """Let a case that takes all memory fail by itself, and not the machine."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))


class TooSlow(BaseException):
    """The time of a case is up; not an Exception, so that nothing takes it for its own."""


@dataclass(frozen=True)
class Outcome:
    """`refused`: it raised D2LError; `fault`: what it must not do, "" where it did nothing such;
    `why`: what a refusal says and where it comes from; `seconds`: of the processor."""

    refused: bool
    fault: str
    why: str = field(default="", compare=False)
    seconds: float = field(default=0.0, compare=False)


def try_case(reader: Reader, number: int) -> Outcome:
    """Case `number` of a reader, the same one each time."""
    return try_bytes(reader, reader.change(number, reader.seeds))


def try_bytes(reader: Reader, data: bytes) -> Outcome:
    """A value, or D2LError of one line, in time; all else is a fault."""
    began = time.process_time()
    outcome = _read_bytes(reader, data)
    seconds = time.process_time() - began
    slow = f"takes {seconds:.0f} s" if seconds > reader.limit_s else ""
    return replace(outcome, fault=outcome.fault or slow, seconds=seconds)


def _read_bytes(reader: Reader, data: bytes) -> Outcome:
    began = time.monotonic()
    try:
        with time_limit(_PATIENCE * reader.limit_s):
            reader.read(data)
    except D2LError as error:
        lines = "\n" in error.message
        cause = f" < {describe_fault(error.__cause__)}" if error.__cause__ else ""
        fault = f"a message of several lines: {error.message!r}" if lines else ""
        return Outcome(True, fault, error.message + cause)
    except KeyboardInterrupt:
        raise
    except TooSlow:
        return Outcome(False, f"takes {time.monotonic() - began:.0f} s")
    except BaseException as error:  # noqa: BLE001 - a panic of a library is none that could be named
        return Outcome(False, describe_fault(error))
    return Outcome(False, "")


def describe_fault(error: BaseException) -> str:
    """The error, and the last line of d2l that it went through."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "/d2l/" in frame.filename] or list(frames)
    where = f"{Path(own[-1].filename).name}:{own[-1].lineno}"
    return f"{type(error).__name__} in {where}: {error}"[:200]


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raise TooSlow inside once the time is up, by the clock."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
