"""The standard streams, whatever they are: closed, full, or of an encoding that lacks letters.

What cannot be spelled on stdout is written in plain letters; what cannot be written is an error.
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
_PLAIN = {"…": "...", "█": "#", "·": ".", "→": "->", "§": "S.", "–": "-", "≤": "<=", "×": "x"}
_HINT = "what was made is there; only what was to be printed is lost"


def prepare() -> None:
    """Make the streams safe to use, once a run: nothing but them has the numbers 0 to 2, and no
    letter is beyond them."""
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
    """Write to stdout; raises D2LError where it is closed or full."""
    if sys.stdout is None:
        raise D2LError("standard output is closed", hint=_HINT)
    try:
        sys.stdout.write(text)
    except OSError as error:
        raise _explain(error) from error


def flush() -> None:
    """Have all that was written to stdout where it goes; raises D2LError where there is no room."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        raise _explain(error) from error


def explain_loss(error: OSError) -> None:
    """Raise what tells of an error that somebody else met on stdout; nothing where stdout is sound,
    and so the error another's."""
    try:
        if sys.stdout is None:
            return
        sys.stdout.write("\n")
        sys.stdout.flush()
    except OSError:
        raise _explain(error) from error


def spell_json(value: Mapping[str, Any]) -> str:
    """A value as JSON that stdout can spell: escapes of its own where letters are missing."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value, allow_nan=False)
    return text


def _explain(error: OSError) -> BaseException:
    """What to raise where stdout refuses: its reader's end is no fault, all else is."""
    sys.stdout = None  # what waits in it cannot be written at the end either
    if error.errno == errno.EPIPE:
        return SystemExit(128 + 13)  # as a program that SIGPIPE ends
    return D2LError(f"standard output cannot be written ({error.strerror or error})", hint=_HINT)


def _spell(error: UnicodeError) -> tuple[str, int]:
    """Plain letters for what an encoding lacks, or escapes."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    odd = error.object[error.start : error.end]
    plain = (_PLAIN.get(c) or c.encode("ascii", "backslashreplace").decode() for c in odd)
    return "".join(plain), error.end
