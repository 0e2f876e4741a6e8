"""Standard streams that may be closed, full, or of an encoding that lacks letters.

Letters that stdout lacks are written in plain ones; a write that fails is an error.
"""

import codecs
import errno
import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from d2l.errors import D2LError

#: Plain letters for what the commands print and old encodings lack.
_PLAIN = dict(zip("…─→§–≤×", ["...", "-", "->", "S.", "-", "<=", "x"], strict=True))
_HINT = "what was made is there; only what was to be printed is lost"


def prepare() -> None:
    """Make the streams safe to use, once a run: the numbers 0 to 2 are theirs alone, and they spell
    every letter."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass  # was closed: a file opened next would be taken for a stream
    os.close(number)
    codecs.register_error("d2l.plain", _spell)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="d2l.plain")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115


def write(text: str) -> None:
    """Write to stdout; raises D2LError if it is closed or full."""
    if sys.stdout is None:
        raise D2LError("standard output is closed", hint=_HINT)
    try:
        sys.stdout.write(text)
    except OSError as error:
        raise _explain(error) from error


def flush() -> None:
    """Flush stdout; raises D2LError if it is full."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        raise _explain(error) from error


def explain_loss(error: OSError) -> None:
    """Raise the error of stdout that another library met; nothing if stdout is sound."""
    try:
        if sys.stdout is None:
            return
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        raise _explain(error) from error


def spell_json(value: Mapping[str, Any]) -> str:
    """Spell a value as JSON for stdout, with escapes for letters that it lacks."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


def _explain(error: OSError) -> BaseException:
    """Make the exception for a failed write to stdout: a reader that is gone is no fault, others
    are."""
    sys.stdout = None  # what waits in it cannot be written at the end either
    if error.errno == errno.EPIPE:
        return SystemExit(128 + 13)  # as a program that SIGPIPE ends
    return D2LError(f"standard output cannot be written ({error.strerror or error})", hint=_HINT)


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Spell letters that an encoding lacks in plain ones, or as escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    odd = error.object[error.start : error.end]
    plain = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in odd)
    return "".join(plain), error.end
