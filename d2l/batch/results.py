"""Results of a batch as JSON lines: a run appends, and the next run continues behind the last whole
line."""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from d2l.batch.rows import BatchRow
from d2l.errors import D2LError, OptionError
from d2l.files.atomic import naming, write_file
from d2l.files.leftovers import take_lock

DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class Result:
    """Result of a row, done or failed.

    `digest` is the SHA-256 of the adapter's lock, which has those of all its files. `warnings` are
    for users of the adapter: findings in the document, and limits of the network. `remarks` are
    notes on the reading. `unchanged`: the adapter was there already. `fatal`: every other row would
    end as this one did.
    """

    id: str
    status: str
    out: str = ""
    digest: str | None = None
    tokens: int = 0
    chunks: int = 0
    cached: int = 0
    seconds: float = 0.0
    error: Mapping[str, str] | None = None
    warnings: Sequence[str] = ()
    remarks: Sequence[str] = ()
    unchanged: bool = False
    fatal: bool = False

    def to_json(self) -> dict[str, Any]:
        """Describe the result as a line of the file."""
        values: dict[str, Any] = {"id": self.id, "status": self.status, "out": self.out}
        if self.status == DONE:
            values |= {
                "digest": self.digest,
                "tokens": self.tokens,
                "chunks": self.chunks,
                "cached": self.cached,
                "seconds": round(self.seconds, 3),
            }
            values |= {"warnings": list(self.warnings)} if self.warnings else {}
            values |= {"remarks": list(self.remarks)} if self.remarks else {}
        return values | ({"error": dict(self.error)} if self.error else {})


def fail(row: BatchRow, kind: str, message: str, *, fatal: bool = False) -> Result:
    """Make the result of a row that failed: the kind of error, and one line."""
    error = {"kind": kind, "message": " ".join(message.split())}
    return Result(row.id, FAILED, row.out, error=error, fatal=fatal)


class ResultsFile:
    """File of results, open for one run: `rows` are the last lines by id."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: dict[str, dict[str, Any]] = {}
        self._file: BinaryIO

    def __enter__(self) -> "ResultsFile":
        with naming(self.path, OptionError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self.path.open("a+b")
        if take_lock(self._file.fileno()) is False:
            self._file.close()
            raise OptionError(
                f"{self.path}: another run writes its results there",
                hint="wait for it, or name another file with --results",
            )
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        self._file.truncate(whole)  # a line that was being written when the process was killed
        for line in data[:whole].split(b"\n"):
            with contextlib.suppress(ValueError, KeyError, TypeError):
                values = json.loads(line)
                self.rows[str(values["id"])] = values
        return self

    def add(self, result: Result) -> None:
        """Write a row's line, unless that line is there already."""
        known = self.rows.get(result.id, {})
        earlier = (known.get("status"), known.get("digest"), known.get("out"))
        if result.unchanged and earlier == (DONE, result.digest, result.out):
            return
        values = self.rows[result.id] = result.to_json()
        with naming(self.path, D2LError):
            self._file.write(_to_line(values))
            self._file.flush()
            os.fsync(self._file.fileno())

    def settle(self, ids: Sequence[str]) -> None:
        """Write the file again with one line for each row, in this order; rows of other runs that
        share the file come last."""
        order = [*ids, *(name for name in self.rows if name not in set(ids))]
        data = b"".join(_to_line(self.rows[name]) for name in order if name in self.rows)
        write_file(self.path, lambda target: target.write_bytes(data))

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):  # of a full disk, which `add` has told
            self._file.close()


def _to_line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, ensure_ascii=True) + "\n").encode()
