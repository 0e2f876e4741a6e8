"""Results of an engine → a file of them, and one by one to whoever shows them; knows no engine."""

import contextlib
from collections.abc import Generator, Sequence
from typing import Protocol

from d2l.batch.pool import run_locally
from d2l.batch.ray_engine import run_on_ray
from d2l.batch.results import FAILED, Record, Result
from d2l.batch.rows import Row
from d2l.batch.work import Job
from d2l.errors import CheckpointError

Results = Generator[Result, None, None]


class Engine(Protocol):
    """Does rows and gives a result for each, in any order, as they end."""

    def __call__(self, job: Job, rows: Sequence[Row], *, n_workers: int) -> Results:
        """Results; a generator that may be closed before its end."""
        ...


#: Where rows of documents are done.
ENGINES: dict[str, Engine] = {"local": run_locally, "ray": run_on_ray}


def run_batch(
    results: Results,
    rows: Sequence[Row],
    record: Record | None,
    *,
    max_errors: int | None = None,
) -> Results:
    """Record what comes of `rows`, and pass it on as they end; without a record nothing is written.

    Ends early when `max_errors` rows have failed. Raises CheckpointError where no row can be done,
    since the network cannot be opened.
    """
    n_failed = 0
    with contextlib.closing(results):
        for result in results:
            if result.fatal:
                message = (result.error or {})["message"]
                raise CheckpointError(f"no row can be done: {message}")
            if record is not None:
                record.add(result)
            n_failed += result.status == FAILED
            yield result
            if max_errors is not None and n_failed >= max_errors:
                break
    if record is not None:
        record.settle([row.id for row in rows])
