"""Solved examples of a task."""

from collections.abc import Sequence
from typing import NamedTuple


class Example(NamedTuple):
    """An input and its right outputs; training uses the first."""

    input: str
    outputs: tuple[str, ...]


def list_labels(examples: Sequence[Example]) -> list[str]:
    """List the outputs that a classifier chooses from, in their order; none if answers are free.

    Labels are few and repeat: at most ten different first outputs, each twice on average.
    """
    labels = list(dict.fromkeys(example.outputs[0] for example in examples))
    return labels if 1 < len(labels) <= min(10, len(examples) // 2) else []
