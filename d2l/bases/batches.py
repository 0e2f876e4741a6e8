"""Items → groups of a size, for models that read several at a time."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def batched(items: Sequence[T], size: int) -> list[Sequence[T]]:
    """The items in order, `size` at a time; the last group may be smaller."""
    return [items[start : start + size] for start in range(0, len(items), size)]
