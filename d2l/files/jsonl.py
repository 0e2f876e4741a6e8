"""JSON lines, plain or gzip: a file in, what its rows are made into out.

What is wrong with a row is said with the file and the line. Knows nothing of what rows mean.
"""

import gzip
import json
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from d2l.errors import D2LError

T = TypeVar("T")
#: No row has more; what does (a bomb of zeros, a device) is not read to its end.
MAX_LINE_BYTES = 16 << 20


class RowFormat(NamedTuple):
    """What the rows of a file are called ("a row of tasks"), what a right one looks like, and the
    error of wrong ones. `strict`: an empty line is wrong, too, and a key that stands twice."""

    name: str
    hint: str
    error: type[D2LError]
    strict: bool = False


def read_rows(path: Path, rows: RowFormat, make: Callable[[dict[str, Any]], T]) -> list[T]:
    """What `make` gives of each row; empty lines are passed over, unless the
    format is strict.

    `make` raises KeyError for a key that is missing, and ValueError or TypeError for a wrong value.
    Raises the format's error.
    """
    number, made, limit = 0, [], MAX_LINE_BYTES + 1
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as lines:
            for number, line in enumerate(iter(lambda: lines.readline(limit), b""), start=1):
                if len(line) == limit:
                    raise rows.error(
                        f"{path}, line {number}: longer than {MAX_LINE_BYTES:,} bytes",
                        hint="write one JSON object a line",
                    )
                if line.strip() or rows.strict:
                    made.append(_make_row(line.strip(), f"{path}, line {number}", rows, make))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        where = f"{path}, after line {number}" if number else str(path)
        raise rows.error(f"{where}: cannot be read ({reason})", hint="check the path") from error
    if not number:
        raise rows.error(f"{path}: the file is empty", hint="write one JSON object a line")
    return made


def check_text(value: Any) -> str:
    """A value that is text, and not empty; raises TypeError or ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"expected text, got {value!r:.40}")
    value.encode("utf-8")  # JSON can spell halves of characters
    return value


def _make_row(line: bytes, where: str, rows: RowFormat, make: Callable[[dict[str, Any]], T]) -> T:
    hook = _refuse_twice if rows.strict else None
    try:
        row = json.loads(line.decode("utf-8-sig"), object_pairs_hook=hook)
        if not isinstance(row, dict):
            raise TypeError(f"expected an object, got {type(row).__name__}")
        return make(row)
    except KeyError as error:
        reason = f"{error} is missing"
        raise rows.error(f"{where}: not {rows.name} ({reason})", hint=rows.hint) from error
    except (ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise rows.error(f"{where}: not {rows.name} ({reason})", hint=rows.hint) from error


def _refuse_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object's pairs as a dictionary; a name that stands there twice is an error."""
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = next(name for name, n in counts.items() if n > 1)
        raise ValueError(f"{twice!r:.40} stands there twice")
    return values
