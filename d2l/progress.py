"""How work says how far it is: what shows it is handed in, and by default shows nothing."""

from collections.abc import Iterable, Sequence
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


def silent(items: Sequence[T], label: str) -> Iterable[T]:  # noqa: ARG001 - a Progress
    """Show nothing of the items."""
    return items


def ignore_steps(done: int, total: int, label: str | None = None) -> None:
    """Show nothing of (done, total, label)."""
