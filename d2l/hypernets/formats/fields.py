"""Checked reading of a network's configuration: JSON, types of fields, ranges, and messages.

A file in, plain values or keyword arguments of a dataclass out. Needs no torch.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Self, get_args, get_origin

from d2l.errors import CheckpointError

# A configuration has a few kilobytes; much larger files are refused.
MAX_CONFIG_BYTES = 1 << 20
FETCH_AGAIN = "the file is damaged or its download was cut short: fetch it again"


class EveryLayer:
    """Mixin of configurations whose networks adapt the same modules in all layers of the base."""

    kind: ClassVar[str]
    n_layers: int
    d_in: tuple[int, ...]
    d_out: tuple[int, ...]

    @classmethod
    def from_json(cls, values: Mapping[str, object]) -> Self:
        """Check names and types of JSON values, and make the configuration."""
        return cls(**read_typed(cls, values, kind=cls.kind))

    @property
    def n_base_layers(self) -> int:
        """Number of decoder layers of the base."""
        return self.n_layers

    @property
    def n_adapted_layers(self) -> int:
        """Number of layers that an adapter changes: all of them."""
        return self.n_layers

    def find_rank(self, rank: int) -> int:
        """Highest rank of the written weights: every module has the adapter's rank."""
        return rank

    def count_values(self, rank: int) -> int:
        """Count the numbers in the written weights."""
        return rank * self.values_a_rank

    def count_part_bytes(self, rank: int) -> int:
        """Size of a part beside the weights: parts are ranks of the adapter itself."""
        del rank
        return 0

    @property
    def part_bits(self) -> int:
        """Bits of a number in a part's memory: parts are ranks."""
        return 0

    @property
    def values_a_rank(self) -> int:
        """Numbers in an adapter for each of its ranks."""
        return self.n_layers * (sum(self.d_in) + sum(self.d_out))

    def to_json(self) -> dict[str, object]:
        """Write the fields as JSON values."""
        values = asdict(self)  # type: ignore[call-overload]
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def pair_sizes(self, modules: Sequence[str]) -> dict[str, tuple[int, int]]:
        """(d_in, d_out) of each module."""
        return dict(zip(modules, zip(self.d_in, self.d_out, strict=True), strict=True))

    def check_sizes(self, modules: Sequence[str]) -> None:
        """Raise CheckpointError unless there is a positive pair of sizes for each module."""
        if not len(modules) == len(self.d_in) == len(self.d_out):
            raise CheckpointError("d_in and d_out do not have one size per target module")
        for size in (*self.d_in, *self.d_out):
            check_range("size of a target module", size, 1, 1 << 20)


def read_typed(cls: type, values: Mapping[str, object], *, kind: str) -> dict[str, Any]:
    """Check names and types of JSON values against a dataclass; lists become tuples.

    Raises CheckpointError, which names the first field that is unknown, missing or of another type.
    """
    known = {field.name: field for field in fields(cls)}
    unknown = sorted(values.keys() - known.keys())
    needed = {name for name, field in known.items() if field.default is MISSING}
    missing = sorted(needed - values.keys())
    if unknown or missing:
        word, name = ("unknown", unknown[0]) if unknown else ("missing", missing[0])
        raise CheckpointError(f"{word} field {show(name)} of {kind}")
    typed: dict[str, Any] = {}
    for name, value in values.items():
        wanted = known[name].type
        if not _fits(value, wanted):
            shown = getattr(wanted, "__name__", str(wanted))
            raise CheckpointError(f"field {name} is not of type {shown}")
        typed[name] = tuple(value) if isinstance(value, list) else value
    return typed


def to_float(value: float) -> float:
    """Turn a number into a float; a whole number that is too large becomes infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def check_range(name: str, value: int, low: int, high: int) -> None:
    """Raise CheckpointError for a number outside `low` to `high`, both included."""
    if not low <= value <= high:
        raise CheckpointError(f"{name} is out of range, expected {low} to {high}")


def _fits(value: object, wanted: Any) -> bool:
    """True if a JSON value has a field's type; a bool is no number, an int is a float."""
    if isinstance(wanted, UnionType):
        return any(_fits(value, option) for option in get_args(wanted))
    if get_origin(wanted) is tuple:
        item = get_args(wanted)[0]
        return isinstance(value, list) and all(_fits(v, item) for v in value)
    return type(value) is wanted or (wanted is float and type(value) is int)


def show(value: object) -> str:
    """Show a value from a file in a message: short, on one line, and safe for a terminal."""
    if value is None:
        return "missing"
    if isinstance(value, bool | float) or (isinstance(value, int) and value.bit_length() < 64):
        return str(value)
    if isinstance(value, str):
        text = value if value.isprintable() else ascii(value)[1:-1]
        return f'"{text[:80]}…"' if len(text) > 80 else f'"{text}"'
    return f"a value of type {type(value).__name__}"


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Put the file's name before the messages of checkpoint errors inside."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.message}", hint=error.hint) from error
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_json(path: Path) -> dict[str, object]:
    """Read a JSON object; every error names the file and the expected content."""
    with naming(path):
        if not path.is_file():
            raise CheckpointError("no such file", hint="is this the folder of a checkpoint?")
        size_bytes = path.stat().st_size
        if size_bytes > MAX_CONFIG_BYTES:
            raise CheckpointError(
                f"{size_bytes} bytes, expected at most {MAX_CONFIG_BYTES} of a configuration"
            )
        try:
            text = path.read_bytes().decode("utf-8")
            values = json.loads(text, parse_constant=_refuse_constant, parse_int=_read_int)
        except RecursionError as error:
            raise CheckpointError("is nested too deeply for a configuration") from error
        except ValueError as error:  # covers broken JSON and broken UTF-8
            raise CheckpointError(f"is not valid JSON ({error})", hint=FETCH_AGAIN) from error
        if not isinstance(values, dict):
            raise CheckpointError(f"expected a JSON object, got {type(values).__name__}")
        return values


def _read_int(digits: str) -> int:
    if len(digits) > 20:  # more than any count has, and maybe too large for a float
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")
