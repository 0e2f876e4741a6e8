"""Parameters of tests that are slow but for the first of them."""

from typing import Any

import pytest


def slow_after(fast: int, *values: Any) -> list[Any]:
    """The first values for every day; the others, which show the same of more kinds or of longer
    texts, for `make test-all`."""
    rest = [pytest.param(value, marks=pytest.mark.slow) for value in values[fast:]]
    return [*values[:fast], *rest]
