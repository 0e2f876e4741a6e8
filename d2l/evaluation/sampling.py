"""Which of many items are asked."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def pick_evenly(items: Sequence[T], n: int) -> list[T]:
    """`n` of the items (all if there are fewer), each from the middle of its n-th part."""
    count = min(n, len(items))
    return [items[(2 * k + 1) * len(items) // (2 * count)] for k in range(count)]
