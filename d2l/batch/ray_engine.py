"""Rows → results, on a Ray cluster: Ray Data's `map_batches` over a pool of actors, a GPU each.

Each actor loads the network once. Errors are results, so no block is ever dropped; an actor that
dies is started anew by Ray, its block is done again, and rows of it that were done are skipped.
"""

import json
import logging
import os
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from d2l.batch.results import Result
from d2l.batch.rows import BatchRow
from d2l.batch.work import Job, Worker
from d2l.errors import MissingExtraError

#: Blocks at most: each is done anew as a whole, and has its cost in Ray.
MAX_BLOCKS = 4096


def run_on_ray(job: Job, rows: Sequence[BatchRow], n_workers: int) -> Generator[Result, None, None]:
    """Do rows on a pool of `n_workers` actors of the cluster that RAY_ADDRESS names, or of one on
    this machine. Raises MissingExtraError."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(
            f"Ray is not installed ({error})", hint="pip install 'd2l[ray]'"
        ) from error
    if not rows:
        return
    _keep_quiet()
    started = not ray.is_initialized()
    if started:
        ray.init(log_to_driver=False, logging_level=logging.ERROR)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        gpus = float(ray.cluster_resources().get("GPU", 0))
        has_gpus = job.options.device in ("auto", "cuda") and gpus > 0
        items = [{"row": json.dumps(asdict(row))} for row in rows]
        data = ray.data.from_items(items, override_num_blocks=min(len(items), MAX_BLOCKS))
        done = data.map_batches(
            RowActor,
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=min(n_workers, len(rows))),
            num_cpus=1,
            num_gpus=1 if has_gpus else 0,
            fn_constructor_args=(replace(job, folder=job.folder or os.getcwd()),),
        )
        for line in done.iter_rows():
            yield Result(**json.loads(line["result"]))
    finally:
        if started:
            ray.shutdown()


def _keep_quiet() -> None:
    """Keep standard output for results. Ray prints of dead actors there, whatever `log_to_driver`
    says, and no public option turns that off."""
    import ray._private.worker

    ray._private.worker._worker_logs_enabled = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


class RowActor:
    """Actor of the pool: a worker, whose rows and results are JSON text."""

    def __init__(self, job: Job) -> None:
        if job.folder is not None and os.path.isdir(job.folder):
            os.chdir(job.folder)  # relative paths are the driver's, where its files are shared
        self._worker = Worker(job)

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[str]]:
        """Do the rows of a block; return as many results."""
        values = [json.loads(str(text)) for text in batch["row"]]
        rows = [BatchRow(**row | {"inputs": tuple(row["inputs"])}) for row in values]
        return {"result": [json.dumps(asdict(self._worker.do(row))) for row in rows]}
