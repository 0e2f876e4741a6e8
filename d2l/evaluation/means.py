"""Means of samples with their standard errors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Mean:
    """The mean of `n` values; `stderr` is None where one value says nothing of the spread."""

    n: int
    value: float
    stderr: float | None

    def __str__(self) -> str:
        error = "" if self.stderr is None else f" ± {self.stderr:.2f}"
        return f"{self.value:.2f}{error}"


def take_mean(values: Sequence[float]) -> Mean:
    """Mean and standard error (sample deviation over the root of n) of at least one value."""
    n = len(values)
    mean = math.fsum(values) / n
    if n == 1:
        return Mean(1, mean, None)
    variance = math.fsum((value - mean) ** 2 for value in values) / (n - 1)
    return Mean(n, mean, math.sqrt(variance / n))
