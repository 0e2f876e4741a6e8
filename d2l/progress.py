"""Progress of work: callers pass in what shows it; the defaults show nothing."""

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextvars import ContextVar
from typing import Protocol, TypeVar

T = TypeVar("T")
#: Level of the logs that name the work that begins.
BEGINS = logging.INFO - 5
_log = logging.getLogger(__name__)


class Progress(Protocol):
    """Iterates over items under a label: asked for the next item, the work on the last is done."""

    def __call__(self, items: Sequence[T], label: str) -> Iterable[T]:
        """Return the same items in order."""
        ...


class Steps(Protocol):
    """Shows how many steps are done, of how many, and maybe the next step."""

    def __call__(self, done: int, total: int, label: str | None = None, /) -> None:
        """Show the count."""
        ...


def announce(work: str) -> None:
    """Log the work that begins: "loading the base smollm2-135m"."""
    _log.log(BEGINS, "%s", work)


@contextlib.contextmanager
def log_time(logger: logging.Logger, work: str, *values: object) -> Iterator[None]:
    """Log the work inside at INFO when it is done, with its seconds."""
    start = time.perf_counter()
    yield
    logger.info(f"{work} (%.2f s)", *values, time.perf_counter() - start)


def silent(items: Sequence[T], label: str) -> Iterable[T]:  # noqa: ARG001 - a Progress
    """Show nothing of the items."""
    return items


def ignore_steps(done: int, total: int, label: str | None = None) -> None:
    """Show nothing of (done, total, label)."""


#: What shows steps that no caller counts: of work with a label, or of the item in progress.
TOLD: ContextVar[Steps] = ContextVar("TOLD", default=ignore_steps)
