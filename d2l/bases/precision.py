"""Speed of bf16 on this processor, measured once a machine and kept in the cache folder."""

import math
import platform
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from d2l.files.cache import read_memory, write_memory

_FILE = "precision.json"
_PROCESSORS = Path("/proc/cpuinfo")
#: Fields of Linux's list of processors that distinguish models, of x86 and of ARM.
_FIELDS = ("model name", "cpu family", "model", "stepping", "CPU implementer", "CPU part")
#: Size of a layer's matrix: larger than a processor's own caches, as the weights of a base are.
_WIDTH, _INNER = 1536, 8960
_CHUNK = 64  # rows of a chunk's tokens
_TRIES = 5
#: Speeds from which on bf16 is used. On a processor with AVX512-BF16 we measured 4.2 to 5.6 for
#: chunks and 1.1 to 1.8 for single tokens; without such instructions bf16 loses both clearly.
LEAST_FOR_CHUNKS, LEAST_FOR_TOKENS = 1.3, 0.8


@dataclass(frozen=True)
class Speedup:
    """Speed of bf16 in units of that of fp32, for a chunk's tokens and for a single token."""

    chunks: float
    tokens: float

    @property
    def pays(self) -> bool:
        """True if a base is faster in bf16."""
        return self.chunks >= LEAST_FOR_CHUNKS and self.tokens >= LEAST_FOR_TOKENS


def find_speedup() -> Speedup:
    """Find the speed of bf16 on this machine; the first call measures it in some 0.2 s."""
    key = f"{_name_processor()}, torch {torch.__version__}"
    kept = read_memory(_FILE)
    try:
        chunks, tokens = map(float, kept.get(key, "").split())
    except ValueError:
        found = measure_speedup()
        values = kept | {key: f"{found.chunks:.2f} {found.tokens:.2f}"}
        write_memory(_FILE, values, most=20)
        return found
    return Speedup(chunks, tokens)


@cache  # for a cache folder that cannot be written
def measure_speedup() -> Speedup:
    """Measure the speed of bf16 with products of a layer's size, on one thread: several wait for
    each other where other programs run."""
    exact, n_threads = torch.ones(_INNER, _WIDTH), torch.get_num_threads()
    rounded = exact.to(torch.bfloat16)
    torch.set_num_threads(1)
    try:
        return Speedup(_compare(_CHUNK, exact, rounded), _compare(1, exact, rounded))
    finally:
        torch.set_num_threads(n_threads)


def _compare(n_rows: int, exact: Tensor, rounded: Tensor) -> float:
    """Divide the shortest time with exact weights by that with rounded ones."""
    x = torch.ones(n_rows, _WIDTH)
    pairs = [(x, exact), (x.to(torch.bfloat16), rounded)]
    best = [math.inf, math.inf]
    for n in range(1 + _TRIES):
        seconds = [_time(*pair) for pair in pairs]
        if n:  # the first product also prepares the library
            best = [min(pair) for pair in zip(best, seconds, strict=True)]
            if best[1] > 3 * best[0]:
                break  # clear, and slow
    return best[0] / best[1]


def _time(x: Tensor, weight: Tensor) -> float:
    start = time.perf_counter()
    functional.linear(x, weight)
    return time.perf_counter() - start


def _name_processor() -> str:
    """Name the processor's model, and the instructions that torch uses."""
    try:
        first = _PROCESSORS.read_text("utf-8").split("\n\n")[0]
    except (OSError, ValueError):
        first = ""
    rows = (line.partition(":") for line in first.splitlines())
    found = [value.strip() for name, _, value in rows if name.strip() in _FIELDS]
    model = " ".join(found) or platform.processor() or platform.machine()
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"
