"""Rows → results, on the processes of this machine. A dead process is replaced, and its row tried
again.

Each worker process loads the network once. Processes end with their parent, however that ends.
"""

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from multiprocessing.connection import Connection, wait

from d2l.batch.results import Result, fail
from d2l.batch.rows import BatchRow
from d2l.batch.work import Job, Worker

#: How often a row may end its process before it is given up.
TRIES = 3


def run_locally(
    job: Job, rows: Sequence[BatchRow], n_workers: int
) -> Generator[Result, None, None]:
    """Do rows on `n_workers` processes; results come as rows end. Closing it ends the processes."""
    waiting = deque((row, 1) for row in rows)
    n_processes = min(n_workers, len(rows))
    processes = [_Process(job, index) for index in range(n_processes)]
    try:
        while waiting or any(process.work for process in processes):
            for process in processes:
                if waiting and process.work is None:
                    process.give(*waiting.popleft())
            busy = {process.pipe: process for process in processes if process.work}
            for pipe in wait(list(busy)):
                process = busy[pipe]  # type: ignore[index]
                row, tries = process.work or (BatchRow(""), 0)
                result = process.take()
                if result is None:
                    processes[process.index] = _Process(job, process.index)
                    if tries < TRIES:
                        waiting.appendleft((row, tries + 1))
                        continue
                    result = fail(row, "Crash", f"ended its process {TRIES} times, {process.end}")
                yield result
    finally:
        for process in processes:
            process.stop()


class _Process:
    """Worker process, with its row and the number of tries of that row."""

    def __init__(self, job: Job, index: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.index = index
        self.work: tuple[BatchRow, int] | None = None
        self.pipe, far_end = context.Pipe()
        self._process = context.Process(target=_serve, args=(far_end, job, index), daemon=True)
        self._process.start()
        far_end.close()

    def give(self, row: BatchRow, tries: int) -> None:
        """Send a row to be done. A dead process shows when its result is taken."""
        self.work = (row, tries)
        try:
            self.pipe.send(row)
        except OSError:
            self._process.join()

    def take(self) -> Result | None:
        """Receive the result; None if the process ended without one."""
        self.work = None
        try:
            result: Result = self.pipe.recv()
        except (EOFError, OSError):
            self.stop()
            return None
        return result

    @property
    def end(self) -> str:
        """Say by which signal or exit code the process ended."""
        code = self._process.exitcode or 0
        return f"the last time by signal {-code}" if code < 0 else f"the last time with code {code}"

    def stop(self) -> None:
        """End the process; a row in work leaves nothing half written."""
        self.pipe.close()
        if self._process.exitcode is None:
            self._process.join(0.1)
        if self._process.exitcode is None:
            self._process.kill()
        self._process.join()


def _serve(pipe: "Connection[Result, BatchRow]", job: Job, index: int) -> None:
    """Do rows until the parent sends no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent gets it, too, and ends its children
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_follow_parent, daemon=True).start()
    worker = Worker(job, index)
    try:
        while True:
            pipe.send(worker.do(pipe.recv()))
    except (EOFError, OSError):  # the parent is done
        return


def _follow_parent() -> None:
    """End this process when its parent is gone, killed or not."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
