"""Tables of training recipes: checked keys, and errors for keys that do not fit.

Every table names its keys with type and range; values in, a table or one clear line out. The
tables are in `recipes`.
"""

from dataclasses import fields
from typing import Annotated, Any, ClassVar, Literal, Self, get_args, get_origin

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import ErrorDetails

from d2l.errors import RecipeError

_MOST = 10**9  # steps, documents, tokens: more is a slip of the pen
#: Checks of every table: strict, without unknown keys.
CHECKS = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True)


def _check_text(value: str) -> str:
    if not (value.strip() and value.isprintable() and len(value) < 1000):
        raise ValueError("expected text")
    return value


Text = Annotated[str, AfterValidator(_check_text)]
Count = Annotated[int, Field(ge=0, le=_MOST)]
Number = Annotated[int, Field(ge=1, le=_MOST)]
Share = Annotated[float, Field(ge=0, le=1)]
Strength = Annotated[float, Field(ge=0, le=_MOST)]
Weight = Annotated[float, Field(gt=0, le=_MOST)]
Decay = Annotated[float, Field(ge=0, le=1 - 1e-9)]
Hours = Annotated[float, Field(ge=0, le=1e6)]


class MisfitError(RecipeError):
    """Error of a key or a table; `location`, a key and a table with its number from 0, finds its
    line in the file."""

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        key: str | None = None,
        table: tuple[str, int] | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.location = (key, table)


@dataclass(frozen=True, config=CHECKS)
class Table:
    """Table of checked keys; raises MisfitError for the first that does not fit."""

    NAME: ClassVar[str] = ""

    @model_validator(mode="wrap")
    @classmethod
    def _explain_misfit(cls, values: Any, check: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return check(values)
        except ValidationError as error:
            name, message, hint = _explain(cls, error.errors(include_url=False)[0])
        where = f"{cls.NAME}: " if cls.NAME else ""
        raise MisfitError(f"{where}{message}", hint, name)


def name_type(annotation: Any) -> str:
    """Name a key's type."""
    if get_origin(annotation) is tuple:
        return "list of names" if get_args(annotation)[0] is str else "list of tables"
    return "str" if get_args(annotation) else str(annotation.__name__)


def span_of(table: type[Table], name: str) -> str:
    """Show the range of a number, or the choices of a word; "" if neither bounds it."""
    info = table.__pydantic_fields__[name]  # type: ignore[attr-defined]
    if get_origin(info.annotation) is Literal:
        return ", ".join(get_args(info.annotation))
    bounds = {
        key: getattr(part, key)
        for part in info.metadata
        for key in ("ge", "gt", "le")
        if hasattr(part, key)
    }
    if not bounds:
        return ""
    if "gt" in bounds:
        return f"above {bounds['gt']:g}, at most {bounds['le']:g}"
    return f"{bounds['ge']:g} to {bounds['le']:g}"


def _explain(table: type[Table], error: ErrorDetails) -> tuple[str | None, str, str | None]:
    """Explain an error: the field's name, a message, and a hint."""
    if not error["loc"]:
        return None, f"{show(error['input'])} is not a table", None
    at = error["loc"][0]
    name = at if isinstance(at, str) else fields(table)[at].name
    given = f"{name} is {show(error['input'])}"
    if error["type"] == "missing":
        return name, f"missing key {name!r}", None
    if error["type"] == "unexpected_keyword_argument":
        return name, f"unknown key {name!r}", None
    span = span_of(table, name)
    if error["type"] == "literal_error":
        return name, given, f"choose one of {span}"
    if error["type"] == "value_error":
        return name, f"{given}, expected text", None
    if error["type"] in ("finite_number", "greater_than", "greater_than_equal", "less_than_equal"):
        return name, f"{given}, expected {span}", None
    wanted = name_type(table.__pydantic_fields__[name].annotation)  # type: ignore[attr-defined]
    return name, f"{given}, expected {'a ' if ' ' in wanted else ''}{wanted}", None


def show(value: object) -> str:
    """Show a value on one short line."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of too many digits"  # thousands of them Python refuses to write
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"
