"""How work says how far it is: what shows it is handed in, and by default shows nothing."""

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Progress(Protocol):
    """Takes items and a label, gives the items, each when the work on the one before is done."""

    def __call__(self, items: Sequence[T], label: str) -> Iterable[T]:
        """The same items in order."""
        ...


class Steps(Protocol):
    """Is told how many steps are done, of how many, and maybe what is done next."""

    def __call__(self, done: int, total: int, label: str | None = None, /) -> None:
        """Show it."""
        ...


@contextlib.contextmanager
def log_time(logger: logging.Logger, what: str, *values: object) -> Iterator[None]:
    """Log at INFO, when the work inside is done, what was done and in how many seconds."""
    start = time.perf_counter()
    yield
    logger.info(f"{what} (%.2f s)", *values, time.perf_counter() - start)


def silent(items: Sequence[T], label: str) -> Iterable[T]:  # noqa: ARG001 - a Progress
    """Show nothing of the items."""
    return items


def ignore_steps(done: int, total: int, label: str | None = None) -> None:
    """Show nothing of (done, total, label)."""
