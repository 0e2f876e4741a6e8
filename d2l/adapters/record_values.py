"""Checked types of the values in d2l.json: text, counts, numbers and spans."""

from typing import Annotated, TypeVar

from pydantic import FailFast, PlainValidator, WithJsonSchema

T = TypeVar("T")
#: Largest count or position: larger integers are not exact in every JSON reader.
_MOST = 2**53
#: Longest text of a line: of paths.
_MOST_LINE = 4096


def _check_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("expected text")
    return value


def _check_line(value: object) -> str:
    text = _check_text(value)
    if len(text) > _MOST_LINE:
        raise ValueError(f"{len(text):,} characters, expected at most {_MOST_LINE:,}")
    return text


def _check_count(value: object) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:  # not isinstance: true is an int to it
        raise ValueError("expected a whole number that is not negative")
    return value


def _check_flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("expected true or false")
    return value


def _check_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number")
    # Values that are read are finite. An int stays an int, so that writing gives the same text.
    return value


def _check_span(value: object) -> tuple[int, int]:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError("expected two numbers, a start and a stop")
    start, stop = map(_check_count, value)
    if start > stop:
        raise ValueError("expected a start that is not behind its stop")
    return start, stop


# pydantic's own checks refuse half characters, from a file name of another encoding.
Text = Annotated[str, PlainValidator(_check_text), WithJsonSchema({"type": "string"})]
Line = Annotated[
    str, PlainValidator(_check_line), WithJsonSchema({"type": "string", "maxLength": _MOST_LINE})
]
#: Values of one type. The first fault ends the check: a million faults take gigabytes.
Rows = Annotated[tuple[T, ...], FailFast()]
Count = Annotated[
    int,
    PlainValidator(_check_count),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": _MOST}),
]
Number = Annotated[float, PlainValidator(_check_number), WithJsonSchema({"type": "number"})]
Flag = Annotated[bool, PlainValidator(_check_flag), WithJsonSchema({"type": "boolean"})]
#: [start, stop) of ranks, seats or characters.
Span = Annotated[
    tuple[int, int],
    PlainValidator(_check_span),
    WithJsonSchema(
        {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": _MOST},
            "minItems": 2,
            "maxItems": 2,
        }
    ),
]
