"""Recipe file → a `Recipe`; an error names the file, the line and the key."""

import difflib
import re
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from d2l.errors import RecipeError, TaskError
from d2l_lab.task_files import Task
from d2l_lab.training.learners.recipes import TABLES, MisfitError, Recipe
from d2l_lab.training.learners.tasks import gather_tasks

_MAX_BYTES = 1 << 18  # a recipe has some hundred lines; a device has no end
_MAX_DOTS = 1_000  # in a line; `tomllib` takes the square of a dotted key's length

#: Keys of every table.
_KEYS = {title: tuple(item.name for item in fields(table)) for title, table in TABLES.items()}
#: Types of values, by the errors of other values; pydantic names the rest.
_WANTED = {"dataclass_type": "a table", "tuple_type": "a list"}
_HEADER = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?\s*(?:#.*)?$")


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; raises RecipeError with the file, and the line if there is one."""
    raw = _read(path)
    with locating(path):
        return TypeAdapter(Recipe).validate_python(raw)


def read_held_out(path: Path) -> list[Task]:
    """Read the tasks that a training recipe holds out; raises D2LError."""
    held_out = gather_tasks(read_recipe(path), only_held_out=True).held_out
    if not held_out:
        raise TaskError(f"{path}: holds no task out", hint="set held_out, or name a file")
    return list(held_out)


@contextmanager
def locating(path: Path) -> Iterator[None]:
    """Raise errors of keys and tables as RecipeError with the file and, if known, the line."""
    try:
        yield
    except (MisfitError, ValidationError) as error:
        misfit = _explain(error) if isinstance(error, ValidationError) else error
        key, table = misfit.location
        line = None
        if key is not None or table is not None:
            text = path.read_bytes().decode("utf-8-sig")
            line = _find_in_toml(text, key, table) or _find_in_toml(text, None, table)
        where = f"{path}" if line is None else f"{path}, line {line}"
        raise RecipeError(f"{where}: {misfit.message}", hint=misfit.hint) from error


def _read(path: Path) -> dict[str, Any]:
    """Read a file's values; raises RecipeError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise RecipeError(f"{path}: is larger than {_MAX_BYTES:,} bytes", hint="name a recipe")
        if max(line.count(b".") for line in data.split(b"\n")) > _MAX_DOTS:
            hint = "write its values on lines of their own"
            raise RecipeError(f"{path}: a line has more than {_MAX_DOTS:,} dots", hint=hint)
        return tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}", hint="name a TOML file") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise RecipeError(
            f"{path}, line {line}: not UTF-8 text", hint="save it as UTF-8"
        ) from error
    except (ValueError, RecursionError) as error:  # tomllib's own, and int's for 5000 digits
        reason = " ".join(str(error).split())[:200]
        raise RecipeError(f"{path}: not TOML: {reason}") from error


def _explain(error: ValidationError) -> MisfitError:
    """Describe the first misfit, unknown keys before all others."""
    unknown = "unexpected_keyword_argument"
    first = min(error.errors(include_url=False), key=lambda each: each["type"] != unknown)
    where, kind = first["loc"], first["type"]
    names = [part for part in where if isinstance(part, str)]
    key, table, title = names[-1], None, ""
    if len(names) > 1:
        title, number = names[0], where[1] if isinstance(where[1], int) else 0
        table = (title, number)
    if kind == unknown:
        message, hint = f"unknown key {_show(key)}", _suggest(key, title)
    elif kind == "missing":
        message, hint = f"missing key {key!r}", None
    else:
        wanted = _WANTED.get(kind, first["msg"].removeprefix("Input should be "))
        message = f"{key} is {_show(first['input'])} and must be {wanted}"
        hint = f"write [[{key}]]" if kind == "tuple_type" and table is None else None
    return MisfitError(f"{title}: {message}" if title else message, hint, key, table)


def _show(value: object) -> str:
    """Show a value on one short line."""
    if isinstance(value, int) and value.bit_length() > 128:
        return "a number of too many digits"  # thousands of them Python refuses to write
    shown = ascii(value) if isinstance(value, str) and not value.isprintable() else repr(value)
    return shown if len(shown) <= 60 else f"{shown[:59]}…"


def _suggest(name: str, title: str) -> str:
    """Suggest the table that an unknown key belongs to, or the nearest known key."""
    owners = [f"[{other}]" for other, keys in _KEYS.items() if name in keys and other]
    if owners:
        return f"it is a key of {' and '.join(owners)}"
    if name in _KEYS[""]:
        return "it stands above the first table"
    if near := difflib.get_close_matches(name, _KEYS[title], n=1):
        return f"did you mean {near[0]!r}?"
    everywhere = {key: other for other, keys in _KEYS.items() for key in keys}
    if near := difflib.get_close_matches(name, everywhere, n=1):
        return f"did you mean {near[0]!r} in [{everywhere[near[0]]}]?"
    return f"known: {', '.join(_KEYS[title])}"


def _find_in_toml(text: str, key: str | None, table: tuple[str, int] | None = None) -> int | None:
    """Find the line, from 1, of `key` in `table`: (name, number among tables of that name).

    Without a table, the key is searched before the first header, then among the headers. Without a
    key, the line is the table's header.
    """
    seen: dict[str, int] = {}
    current: tuple[str, int] | None = None
    key_line = None if key is None else re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*[.=]""")
    for number, line in enumerate(text.split("\n"), start=1):
        header = _HEADER.match(line)
        if header:
            name = header[1].strip().strip("\"'")
            current = (name, seen.get(name, 0))
            seen[name] = current[1] + 1
            if (key is None and current == table) or (table is None and key == name):
                return number
        elif key_line is not None and current == table and key_line.match(line):
            return number
    return None
