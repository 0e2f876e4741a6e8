import statistics

import pytest

from d2l.evaluation.means import take_mean


def test_means_have_the_error_of_a_sample() -> None:
    values = [0.5, 2.0, -1.0, 4.0, 0.25]
    mean = take_mean(values)
    assert mean.n == 5
    assert mean.value == pytest.approx(statistics.mean(values))
    assert mean.stderr == pytest.approx(statistics.stdev(values) / 5**0.5)
    assert str(mean) == "1.15 ± 0.86"


def test_one_value_says_nothing_of_its_error() -> None:
    mean = take_mean([3.25])
    assert (mean.n, mean.value, mean.stderr) == (1, 3.25, None)
    assert str(mean) == "3.25"
