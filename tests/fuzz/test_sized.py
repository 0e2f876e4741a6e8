"""Twice as large a document takes about twice the time, whatever it is full of."""

import pytest

from tests.sized import assert_linear


def test_what_is_quadratic_is_seen() -> None:
    def make(n: int) -> bytes:
        return bytes(n)

    assert_linear(make, lambda data: sum(range(100 * len(data))))
    with pytest.raises(AssertionError, match="times as long"):
        assert_linear(make, lambda data: sum(range(len(data) ** 2)))
