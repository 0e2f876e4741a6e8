"""JSON lines, plain or gzip: a file in, a value for each row out.

Errors name the file and the line. Callers know the meaning of rows.
"""

import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from d2l.errors import D2LError
from d2l.files.regular import refuse_irregular

T = TypeVar("T")
#: The longest row; a longer one (a bomb of zeros, a device) is not read to its end.
MAX_LINE_BYTES = 16 << 20


class RowFormat(NamedTuple):
    """Format of a file's rows: `name` ("a row of tasks"), `hint` says how a right row looks,
    `error` is raised for wrong ones. `exact`: empty lines and repeated keys are wrong, too."""

    name: str
    hint: str
    error: type[D2LError]
    exact: bool = False


def read_rows(
    path: Path, rows: RowFormat, make: Callable[[dict[str, Any]], T], data: bytes | None = None
) -> list[T]:
    """Read the rows of a file, or its `data`, and `make` a value of each; empty lines are skipped.

    `make` raises KeyError for a missing key, and ValueError or TypeError for a wrong value. Raises
    the format's error.
    """
    number, values, limit = 0, [], MAX_LINE_BYTES + 1
    refuse_irregular(path, rows.error)
    try:
        file = path.open("rb") if data is None else io.BytesIO(data)
        with file, gzip.open(file) if path.suffix == ".gz" else file as lines:
            for number, line in enumerate(iter(lambda: lines.readline(limit), b""), start=1):
                if len(line) == limit:
                    raise rows.error(
                        f"{path}, line {number}: longer than {MAX_LINE_BYTES:,} bytes",
                        hint="write one JSON object a line",
                    )
                if line.strip() or rows.exact:
                    values.append(_make_row(line.strip(), f"{path}, line {number}", rows, make))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        where = f"{path}, after line {number}" if number else str(path)
        raise rows.error(f"{where}: cannot be read ({reason})", hint="check the path") from error
    if not number:
        raise rows.error(f"{path}: the file is empty", hint="write one JSON object a line")
    return values


def check_text(value: Any) -> str:
    """Return a value that is text, and not empty; raises TypeError or ValueError."""
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"expected text, got {value!r:.40}")
    value.encode("utf-8")  # JSON can spell halves of characters
    return value


def _make_row(line: bytes, where: str, rows: RowFormat, make: Callable[[dict[str, Any]], T]) -> T:
    hook = _refuse_repeated if rows.exact else None
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


def _refuse_repeated(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make a dictionary of an object's pairs; raises ValueError for a repeated name."""
    values = dict(pairs)
    if len(values) < len(pairs):
        counts = Counter(name for name, _ in pairs)
        repeated = next(name for name, n in counts.items() if n > 1)
        raise ValueError(f"{repeated!r:.40} stands there twice")
    return values
