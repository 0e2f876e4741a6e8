"""The command `d2l batch`: many documents or descriptions in, an adapter and a result each out."""

import math
import time
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from d2l.commands import console
from d2l.commands.options import OUTPUT, Force, Strict, in_panel, taking
from d2l.errors import BaseModelError, CheckpointError, D2LError

if TYPE_CHECKING:
    from d2l.batch.results import Result
    from d2l.batch.rows import BatchRow
    from d2l.batch.work import Job
    from d2l.documents.intake import ReadOptions
    from d2l.hypernets.options import CompileOptions

Engine = Literal["local", "ray"]
_WRONG_USE = 2


@taking("d2l.hypernets.options:CompileOptions", command="batch")
@taking("d2l.documents.intake:ReadOptions", command="batch", into="reading")
def batch(
    sources: Annotated[
        list[str],
        typer.Argument(help="A manifest (.jsonl), or folders, files, patterns, s3://bucket/docs/."),
    ],
    out_dir: Annotated[
        str, in_panel(OUTPUT, "-o", "--out-dir", help="Folder, or s3://bucket/adapters/.")
    ],
    options: "CompileOptions",
    reading: "ReadOptions",
    results: Annotated[
        Path | None, in_panel(OUTPUT, help="JSON lines; default: results.jsonl in --out-dir.")
    ] = None,
    engine: Annotated[Engine, typer.Option(help="Processes here, or Ray.")] = ("local"),
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
    shard: Annotated[str | None, typer.Option(help="i/n: every n-th row from the i-th on.")] = None,
    max_errors: Annotated[
        int | None, typer.Option(min=1, help="Stop after so many failed rows.")
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Only rows that failed last time.")
    ] = False,
    strict: Strict = False,
    dry_run: Annotated[
        bool, in_panel(OUTPUT, "--dry-run", help="Read the documents; print the plan.")
    ] = False,
    force: Force = False,
) -> None:
    """Make an adapter of each of many documents or descriptions.

    A second run skips rows that are done. --json prints JSON lines. Exit code 0: all rows done,
    1: some failed, 2: the run did not begin.
    """
    from d2l.batch.rows import list_rows, take_shard
    from d2l.batch.work import Job

    job = Job(out_dir, options, reading, force=force, strict=strict)
    order = _Order(job, engine, workers, max_errors)
    try:
        rows = take_shard(list_rows(sources, follow_links=reading.follow_links), shard)
        path = results or _place_results(out_dir, shard)
        if dry_run:
            _show_plan(rows, order)
            return
        console.set_stopping("rows that are done are kept, and the same command goes on")
        tally = order.run(rows, path, retry_failed=retry_failed)
    except D2LError as error:  # not a row's: those are results
        console.show_error(error)
        was_begun = type(error) is D2LError  # and what it made could not be written
        raise typer.Exit(1 if was_begun else _WRONG_USE) from error
    tally.show(path)
    if tally.failed or tally.left:
        raise typer.Exit(1)


def _place_results(out_dir: str, shard: str | None) -> Path:
    """Name the file of results: beside the adapters, or in the working directory for those of a
    store. Each shard has its own."""
    from d2l.batch.stores import is_remote

    of_shard = "" if shard is None else f"-{shard.replace('/', '-of-')}"
    name = f"results{of_shard}.jsonl"
    return Path(name) if is_remote(out_dir) else Path(out_dir, name)


@dataclass(frozen=True)
class _Order:
    """Settings of a run: job, engine, processes, and the most errors."""

    job: "Job"
    engine: Engine
    n_workers: int
    max_errors: int | None

    def run(self, rows: "Sequence[BatchRow]", path: Path, *, retry_failed: bool) -> "_Tally":
        """Do the rows, and count their results."""
        from d2l.batch.results import FAILED, ResultsFile
        from d2l.batch.run import ENGINES, move_renamed, run_batch
        from d2l.batch.stores import is_remote

        with ResultsFile(path) as record:
            if retry_failed:
                known = record.rows
                rows = [r for r in rows if known.get(r.id, {}).get("status") == FAILED]
            if not is_remote(self.job.out_dir):
                for old, new in move_renamed(rows, record.rows, Path(self.job.out_dir)):
                    console.note(f"{old} is called {new} now, as its document has new neighbors")
            tally = _Tally(len(rows), time.perf_counter())
            if console.wants_json():
                console.result_json({"event": "start", "rows": len(rows)})
            made = ENGINES[self.engine](self.job, rows, self.n_workers)
            results = run_batch(made, rows, record, max_errors=self.max_errors)
            with closing(results):
                self._follow(results, tally, console.ProgressBar("compiling"))
        return tally

    def _follow(
        self, results: "Iterable[Result]", tally: "_Tally", steps: console.ProgressBar
    ) -> None:
        steps(0, tally.rows)
        for result in results:
            tally.count(result)
            if console.wants_json():
                event = {"event": "row", **result.to_json(), "unchanged": result.unchanged}
                console.result_json(event)
                console.flush()
            else:
                name = f"{result.id}: "
                for message in result.remarks:
                    console.note(f"{name}{message.removeprefix(name)}")
                for message in result.warnings:
                    console.note(f"warning: {name}{message.removeprefix(name)}")
                if result.error is not None:
                    console.note(f"failed: {name}{result.error['message'].replace(name, '', 1)}")
            steps(tally.ended, tally.rows, f"compiling, {tally.rate:.2f} a second")


@dataclass
class _Tally:
    """Counts of a run's results."""

    rows: int
    start: float
    done: int = 0
    unchanged: int = 0
    failed: int = 0
    warned: int = 0  # of `done`
    warned_before: int = 0  # of `unchanged`

    def count(self, result: "Result") -> None:
        """Count one result."""
        self.failed += result.error is not None
        self.unchanged += result.unchanged
        self.done += result.error is None and not result.unchanged
        self.warned += bool(result.warnings) and not result.unchanged
        self.warned_before += bool(result.warnings) and result.unchanged

    @property
    def ended(self) -> int:
        """Count the rows that have a result."""
        return self.done + self.unchanged + self.failed

    @property
    def left(self) -> int:
        """Count the rows that were not begun, since too many failed."""
        return self.rows - self.ended

    @property
    def rate(self) -> float:
        """Compute the rows a second until now."""
        return self.ended / max(time.perf_counter() - self.start, 1e-9)

    def show(self, path: Path) -> None:
        """Print the last line."""
        seconds = time.perf_counter() - self.start
        values: dict[str, Any] = {
            "event": "end",
            "rows": self.rows,
            "done": self.done,
            "warned": self.warned + self.warned_before,
            "unchanged": self.unchanged,
            "failed": self.failed,
            "left": self.left,
            "results": str(path),
            "seconds": round(seconds, 3),
        }
        parts = [
            f"{self.done:,} made{_describe_warned(self.warned)}",
            f"{self.unchanged:,} unchanged{_describe_warned(self.warned_before)}",
            f"{self.failed:,} failed",
        ]
        if self.left:
            parts.append(f"{self.left:,} not begun")
        text = f"{self.rows:,} rows: {', '.join(parts)} in {seconds:.1f} s; see {path}"
        console.emit(values, text)


def _describe_warned(n: int) -> str:
    return f" ({n:,} with warnings)" if n else ""


def _show_plan(rows: "Sequence[BatchRow]", order: _Order) -> None:
    """Print the plan of all rows; no weights are loaded for it."""
    from d2l.batch.work import Worker
    from d2l.compiler.timing import describe_estimate, estimate_seconds

    worker = Worker(order.job)
    values: dict[str, Any] = {"rows": len(rows), "done": 0, "failed": 0}
    tokens, adapter_bytes, low, high = 0, 0, 0.0, 0.0
    for row in console.watch(rows, "reading"):
        try:
            plan = worker.plan(row)
        except (BaseModelError, CheckpointError):  # which all rows share
            raise
        except D2LError as error:
            values["failed"] += 1
            console.note(f"cannot be done: {row.id}: {error.message}")
            continue
        if plan is None:
            values["done"] += 1
            continue
        tokens += plan.n_text_tokens
        adapter_bytes += plan.adapter_bytes
        least, most = estimate_seconds(plan, plan.device) or (math.nan, math.nan)
        low, high = low + least / order.n_workers, high + most / order.n_workers
    seconds = None if math.isnan(high) else (low, high)
    values |= {
        "tokens": tokens,
        "adapter_bytes": adapter_bytes,
        "estimated_seconds": None if seconds is None else [round(value, 2) for value in seconds],
    }
    lines = [
        f"rows        {len(rows):,}: {values['done']:,} done, {values['failed']:,} cannot be done",
        f"tokens      {tokens:,}",
        f"weights     {adapter_bytes / 1e6:,.1f} MB",
        f"time        {describe_estimate(seconds)}",
    ]
    console.emit(values, "\n".join(lines))
