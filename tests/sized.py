"""Inputs of any size: does twice as large a one take about twice the time?"""

import gc
import time
from collections.abc import Callable
from statistics import median

MOST = 2.5  # times as long; what is quadratic takes four times
_LARGEST = 1 << 20
_RUNS = 15


def assert_linear(
    make: Callable[[int], bytes], parse: Callable[[bytes], object], *, seconds: float = 0.03
) -> None:
    """Fail if an input of size 2n takes more than 2.5 times as long as one of size n.

    `n` is the first of 50, 100, 200, … that takes `seconds` of the processor's time, which is to
    be long beside what the smallest input takes.
    """
    n = 50
    while measure(parse, make(n)) < seconds:
        n *= 2
        assert n < _LARGEST, "its size does not matter"
    data, twice = make(n), make(2 * n)
    small, large = list[float](), list[float]()
    for run in range(_RUNS):
        small.append(measure(parse, data))
        large.append(measure(parse, twice))
        # Neighbors on a busy machine slow some runs by half: long ones more surely than short ones,
        # but two in a row alike.
        in_a_row = median(more / less for less, more in zip(small, large, strict=True))
        grown = min(min(large) / min(small), in_a_row)
        if run and grown <= MOST:
            return
    raise AssertionError(f"{grown:.1f} times as long at {2 * n:,} as at {n:,}")


def assert_four_times(take: Callable[[int], float], n: int) -> None:
    """Fail if 4n of something take more than eight times the seconds of n: 16 is a square law.

    The least of three runs counts; what else the machine does doubles a time at worst.
    """
    few, many = (min(take(size) for _ in range(3)) for size in (n, 4 * n))
    assert many < 8 * few, f"{many / few:.1f} times as long at {4 * n:,} as at {n:,}"


def measure(parse: Callable[[bytes], object], data: bytes) -> float:
    """Seconds of this process, without what Python spends on collecting garbage."""
    gc.disable()
    try:
        began = time.process_time()
        parse(data)
        return time.process_time() - began
    finally:
        gc.enable()
