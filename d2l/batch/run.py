"""Results of an engine → a file of them, and one by one to the caller; knows no engine."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2l.adapters.info import LOCK
from d2l.batch.pool import run_locally
from d2l.batch.ray_engine import run_on_ray
from d2l.batch.results import FAILED, Result, ResultsFile
from d2l.batch.rows import BatchRow
from d2l.batch.work import Job
from d2l.compiler.names import SUFFIX, spell
from d2l.errors import BaseModelError, CheckpointError, D2LError

Results = Generator[Result, None, None]


#: Engines for rows of documents, called with a job, rows and the number of workers. They give a
#: result for each row, in any order, by a generator that may be closed before its end.
ENGINES: dict[str, Callable[[Job, Sequence[BatchRow], int], Results]] = {
    "local": run_locally,
    "ray": run_on_ray,
}


def move_renamed(
    rows: Sequence[BatchRow], known: Mapping[str, Mapping[str, Any]], folder: Path
) -> list[tuple[str, str]]:
    """Move adapters below a folder whose names have changed with their neighbors; return old and
    new names. `known`: results of earlier runs by id; no other adapters are moved."""
    moved = []
    taken = {row.out for row in rows}
    for row in rows:
        result = known.get(row.id, {})
        old, new = folder / Path(str(result.get("out"))).name, folder / row.out
        names = {name + SUFFIX for given in row.inputs for name in spell(given)}
        if old.name not in names - taken or os.path.lexists(new):
            continue
        with contextlib.suppress(OSError):  # gone, or not to be moved: the row is made at its place
            if hashlib.sha256((old / LOCK).read_bytes()).hexdigest() == result.get("digest"):
                old.rename(new)
                moved.append((old.name, new.name))
    return moved


def run_batch(
    results: Results,
    rows: Sequence[BatchRow],
    record: ResultsFile,
    *,
    max_errors: int | None = None,
) -> Results:
    """Record the results of `rows`, and yield them as they end.

    Ends early when `max_errors` rows have failed. Raises CheckpointError if no row can be done,
    since the network cannot be opened, and D2LError if the disk is full.
    """
    n_failed = 0
    with contextlib.closing(results):
        for result in results:
            if result.fatal:
                error = result.error or {}
                if error["kind"] in (BaseModelError.__name__, CheckpointError.__name__):
                    raise CheckpointError(f"no row can be done: {error['message']}")
                raise D2LError(
                    f"no more rows can be done: {error['message']}",
                    hint="rows that are done are kept, and the same command goes on",
                )
            if result.unchanged:  # its warnings are those of the run that made it
                known = record.rows.get(result.id, {}).get("warnings", ())
                result = replace(result, warnings=known)
            record.add(result)
            n_failed += result.status == FAILED
            yield result
            if max_errors is not None and n_failed >= max_errors:
                break
    record.settle([row.id for row in rows])
