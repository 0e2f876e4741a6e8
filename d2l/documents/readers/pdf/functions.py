"""Functions of a PDF, as inks use them to say which color they have.

Takes a function of pypdf and numbers, gives numbers; ISO 32000-2, 7.10.
"""

import math
import re
from collections.abc import Callable, Sequence
from itertools import product
from typing import Any

from pypdf.errors import PyPdfError
from pypdf.generic import ArrayObject, DictionaryObject

from d2l.documents.readers.pdf.fonts import look_up, read_numbers

MAX_NESTED = 8  # functions in functions, and braces in a program
MAX_INPUTS = 4  # of a table
MAX_TOKENS = 10_000  # of a program
BAD_FUNCTION = (
    PyPdfError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
)  # fmt: skip


def evaluate(function: Any, inputs: Sequence[float]) -> list[float] | None:
    """Give what a function makes of numbers, or an array of functions; None if it is broken."""
    try:
        found = function.get_object()
        parts = list(found) if isinstance(found, ArrayObject) else [found]
        values = [value for part in parts for value in work_out(part.get_object(), inputs, 0)]
        return values if all(map(math.isfinite, values)) else None
    except BAD_FUNCTION:
        return None


def work_out(function: Any, inputs: Sequence[float], depth: int) -> list[float]:
    """Work out one function. Raises one of `BAD_FUNCTION`."""
    if depth > MAX_NESTED:
        raise ValueError("functions nested too deep")
    inputs = hold_within(inputs, read_numbers(look_up(function, "/Domain")))
    kind = look_up(function, "/FunctionType")
    if kind == 0:
        values = look_into_table(function, inputs)
    elif kind == 2:
        values = interpolate(function, inputs[0])
    elif kind == 3:
        values = work_out_part(function, inputs[0], depth)
    elif kind == 4:
        values = run_program(function.get_data().decode("latin-1"), inputs)
    else:
        raise ValueError("no kind of function")
    return hold_within(values, read_numbers(look_up(function, "/Range")))


def hold_within(values: Sequence[float], limits: Sequence[float]) -> list[float]:
    """Bring numbers within pairs of limits; those without any stay as they are."""
    held = [min(max(v, a), b) for v, a, b in zip(values, limits[::2], limits[1::2], strict=False)]
    return [*held, *values[len(held) :]]


def scale(value: float, old: Sequence[float], new: Sequence[float]) -> float:
    """Where a number between two limits lies between two others."""
    share = (value - old[0]) / (old[1] - old[0]) if old[1] != old[0] else 0.0
    return new[0] + share * (new[1] - new[0])


def interpolate(function: DictionaryObject, value: float) -> list[float]:
    """Type 2: between two ends, by a power."""
    first = read_numbers(look_up(function, "/C0")) or [0.0]
    last = read_numbers(look_up(function, "/C1")) or [1.0]
    share = value ** float(look_up(function, "/N"))
    # A stranger's file may name ends of unlike lengths: what both have is mixed.
    return [a + share * (b - a) for a, b in zip(first, last, strict=False)]


def work_out_part(function: DictionaryObject, value: float, depth: int) -> list[float]:
    """Type 3: another function for each part of the domain."""
    low, high = read_numbers(look_up(function, "/Domain"))[:2]
    bounds = read_numbers(look_up(function, "/Bounds"))
    number = sum(value >= bound for bound in bounds)
    ends = [low, *bounds, high][number : number + 2]
    encode = read_numbers(look_up(function, "/Encode"))[2 * number : 2 * number + 2]
    inner = look_up(function, "/Functions")[number].get_object()
    return work_out(inner, [scale(value, ends, encode)], depth + 1)


def look_into_table(function: Any, inputs: Sequence[float]) -> list[float]:
    """Type 0: between the nearest entries of a table."""
    sizes = [int(size) for size in read_numbers(look_up(function, "/Size"))]
    limits = read_numbers(look_up(function, "/Range"))
    n_bits, n_outputs = int(look_up(function, "/BitsPerSample")), len(limits) // 2
    if len(sizes) != len(inputs) or len(sizes) > MAX_INPUTS or not 1 <= n_bits <= 32:
        raise ValueError("no table")
    domain = read_numbers(look_up(function, "/Domain"))
    encode = read_numbers(look_up(function, "/Encode"))
    encode = encode or [end for size in sizes for end in (0.0, size - 1.0)]
    decode = read_numbers(look_up(function, "/Decode")) or limits
    places = [
        min(max(scale(v, domain[2 * n :], encode[2 * n :]), 0.0), sizes[n] - 1.0)
        for n, v in enumerate(inputs)
    ]
    data = function.get_data()
    values = [0.0] * n_outputs
    for corner in product((0, 1), repeat=len(sizes)):
        weight, entry, stride = 1.0, 0, 1
        for place, size, side in zip(places, sizes, corner, strict=True):
            share = place - math.floor(place)
            weight *= share if side else 1 - share
            entry += stride * min(math.floor(place) + side, size - 1)
            stride *= size
        for n in range(n_outputs if weight else 0):
            sample = read_bits(data, (entry * n_outputs + n) * n_bits, n_bits)
            values[n] += weight * scale(sample, (0, 2**n_bits - 1), decode[2 * n :])
    return values


def read_bits(data: bytes, start: int, n_bits: int) -> int:
    """A number of so many bits; raises LookupError past the end."""
    end = start + n_bits
    if end > 8 * len(data):
        raise LookupError("the table is cut short")
    whole = int.from_bytes(data[start // 8 : (end + 7) // 8], "big")
    return int(whole >> (-end % 8) & (2**n_bits - 1))


Program = list[Any]  # numbers, names, and programs in braces


def run_program(source: str, inputs: Sequence[float]) -> list[float]:
    """Type 4: a program for a stack."""
    tokens = re.findall(r"[{}]|[^\s{}]+", re.sub(r"%[^\r\n]*", " ", source))
    if len(tokens) > MAX_TOKENS:
        raise ValueError("the program is too long")
    stack: list[Any] = list(inputs)
    levels: list[Program] = [[]]
    for token in tokens:
        if token == "{":
            levels.append([])
        elif token == "}":
            done = levels.pop()
            levels[-1].append(done)
        else:
            levels[-1].append(token if token in STEPS or token in WORDS else float(token))
        if len(levels) > MAX_NESTED:
            raise ValueError("braces nested too deep")
    run(levels[0][0], stack)
    return [float(value) for value in stack]


def run(program: Program, stack: list[Any]) -> None:
    """Run a program on a stack; there are no loops, so each step runs once at most."""
    for step in program:
        if not isinstance(step, str):
            stack.append(step)
        elif step in STEPS:
            n_taken, function = STEPS[step]
            taken = [stack.pop() for _ in range(n_taken)][::-1]
            stack.append(function(*taken))
        elif step in ("if", "ifelse"):
            other = stack.pop() if step == "ifelse" else []
            chosen, condition = stack.pop(), stack.pop()
            run(chosen if condition else other, stack)
        else:
            move_about(step, stack)


def move_about(step: str, stack: list[Any]) -> None:
    """Do one of the steps that only move what is on the stack."""
    if step in ("pop", "exch", "dup"):
        top = stack.pop()
        below = [stack.pop()] if step == "exch" else []
        stack += {"pop": [], "exch": [top, *below], "dup": [top, top]}[step]
    elif step == "index":
        stack.append(stack[-1 - int(stack.pop())])
    elif step == "copy":
        n = int(stack.pop())
        if not 0 <= n <= len(stack) <= MAX_TOKENS:
            raise ValueError("more is copied than there is")
        stack += stack[len(stack) - n :]
    else:  # roll
        by, n = int(stack.pop()), int(stack.pop())
        if not 0 < n <= len(stack):
            raise ValueError("more is rolled than there is")
        rolled = stack[-n:]
        stack[-n:] = [rolled[(place - by) % n] for place in range(n)]


WORDS = ("pop", "exch", "dup", "copy", "index", "roll", "if", "ifelse")
STEPS: dict[str, tuple[int, Callable[..., Any]]] = {
    "abs": (1, abs), "neg": (1, lambda a: -a), "ceiling": (1, math.ceil), "floor": (1, math.floor),
    "round": (1, lambda a: math.floor(a + 0.5)), "truncate": (1, math.trunc),
    "sqrt": (1, math.sqrt), "sin": (1, lambda a: math.sin(math.radians(a))),
    "cos": (1, lambda a: math.cos(math.radians(a))), "ln": (1, math.log), "log": (1, math.log10),
    "cvi": (1, int), "cvr": (1, float), "add": (2, lambda a, b: a + b),
    "sub": (2, lambda a, b: a - b),
    "mul": (2, lambda a, b: float(a) * b),
    "div": (2, lambda a, b: a / b), "idiv": (2, lambda a, b: math.trunc(a / b)),
    "mod": (2, math.fmod), "exp": (2, lambda a, b: float(a) ** b),
    "atan": (2, lambda a, b: math.degrees(math.atan2(a, b)) % 360),
    "eq": (2, lambda a, b: a == b), "ne": (2, lambda a, b: a != b), "gt": (2, lambda a, b: a > b),
    "ge": (2, lambda a, b: a >= b), "lt": (2, lambda a, b: a < b), "le": (2, lambda a, b: a <= b),
    "true": (0, lambda: True), "false": (0, lambda: False),
    "not": (1, lambda a: not a if isinstance(a, bool) else ~int(a)),
    "and": (2, lambda a, b: a & b if isinstance(a, bool) else int(a) & int(b)),
    "or": (2, lambda a, b: a | b if isinstance(a, bool) else int(a) | int(b)),
    "xor": (2, lambda a, b: a ^ b if isinstance(a, bool) else int(a) ^ int(b)),
    "bitshift": (2, lambda a, b: int(a) << min(64, int(b)) if b >= 0 else int(a) >> -int(b)),
}  # fmt: skip
