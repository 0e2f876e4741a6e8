"""Recipe file → a `Recipe`; an error names the file, the line and the key."""

import difflib
import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from d2l.datasets.tasks import Task
from d2l.errors import RecipeError, TaskError
from d2l.training.learners.recipe_table import MisfitError, Table, show
from d2l.training.learners.recipes import (
    KINDS,
    TABLES,
    DataSource,
    Length,
    OptimizerTable,
    Recipe,
    Tasks,
)
from d2l.training.learners.tasks import gather_tasks

Raw = dict[str, Any]
_MAX_BYTES = 1 << 18  # a recipe has some hundred lines; a device has no end
_MAX_DOTS = 1_000  # in a line; `tomllib` takes the square of a dotted key's length

#: Keys of every table.
_KEYS = {title: tuple(item.name for item in fields(table)) for title, table in TABLES.items()}
_HEADER = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?\s*(?:#.*)?$")


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; raises RecipeError with the file, and the line if there is one."""
    raw = _read(path)
    with locating(path):
        return _build_recipe(raw)


def read_held_out(path: Path) -> list[Task]:
    """Read the tasks that a training recipe holds out; raises D2LError."""
    held_out = gather_tasks(read_recipe(path), only_held_out=True).held_out
    if not held_out:
        raise TaskError(f"{path}: holds no task out", hint="set held_out, or name a file")
    return list(held_out)


@contextmanager
def locating(path: Path) -> Iterator[None]:
    """Add the file and, if known, the line to errors of keys and tables."""
    try:
        yield
    except MisfitError as error:
        key, table = error.location
        line = None
        if key is not None or table is not None:
            text = path.read_bytes().decode("utf-8-sig")
            line = _find_in_toml(text, key, table) or _find_in_toml(text, None, table)
        where = f"{path}" if line is None else f"{path}, line {line}"
        raise RecipeError(f"{where}: {error.message}", hint=error.hint) from error


def _read(path: Path) -> Raw:
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


def _build_recipe(raw: Mapping[str, Any]) -> Recipe:
    """Build a recipe from values in tables."""
    _refuse_unknown(Recipe, raw, None)
    values = dict(raw)
    for table in (DataSource, Length):
        items = raw.get(table.NAME, [])
        if not isinstance(items, list):
            raise MisfitError(
                f"{table.NAME} is not a list of tables", f"write [[{table.NAME}]]", table.NAME
            )
        built = (_build(table, item, (table.NAME, n)) for n, item in enumerate(items))
        values[table.NAME] = tuple(built)
    single: dict[str, type[Table]] = {"optimizer": OptimizerTable, **KINDS}
    for name, kind in single.items():
        if name in raw:
            values[name] = _build(kind, raw[name], (name, 0))
    return Recipe(**values)


def _build(table: type[Table], raw: object, location: tuple[str, int]) -> Any:
    """Build one table, checked."""
    if not isinstance(raw, Mapping):
        raise MisfitError(f"{location[0]}: {show(raw)} is not a table", None, location[0])
    _refuse_unknown(table, raw, location)
    values = dict(raw)
    if issubclass(table, Tasks) and isinstance(raw.get("excluded"), list):
        values["excluded"] = tuple(raw["excluded"])
    try:
        return table(**values)
    except MisfitError as error:
        key = error.location[0]
        raise MisfitError(
            error.message, error.hint, key if key in raw else None, location
        ) from error


def _refuse_unknown(
    table: type[Table], raw: Mapping[str, Any], location: tuple[str, int] | None
) -> None:
    """Refuse the first key that a table does not have; raises MisfitError."""
    for name in raw:
        if name not in _KEYS[table.NAME]:
            where = f"{table.NAME}: " if table.NAME else ""
            message = f"{where}unknown key {show(name)}"
            raise MisfitError(message, _suggest(name, table.NAME), name, location)


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
