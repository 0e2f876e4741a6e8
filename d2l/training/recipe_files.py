"""A recipe's file → a `Recipe`; what is wrong is one line with the file, the line and the key.

Also reads the flat form that recipes had before they had tables, and says what to move where.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from d2l.datasets.tasks import Task
from d2l.errors import RecipeError, TaskError
from d2l.learners.recipe_table import MisfitError, Table, show
from d2l.learners.recipes import (
    FOR_SEATS,
    KINDS,
    TABLES,
    Length,
    OptimizerTable,
    Recipe,
    Source,
    Tasks,
)
from d2l.learners.task_data import gather_tasks
from d2l.training.toml_lines import find_line

Raw = dict[str, Any]
_MAX_BYTES = 10 << 20  # a recipe has some hundred lines; a device has no end

#: Keys of every table.
_KEYS = {title: tuple(item.name for item in fields(table)) for title, table in TABLES.items()}
#: The same for the flat form, in which seat networks were not trained on tasks yet.
_FLAT = _KEYS | {
    "seats": tuple(set(_KEYS["seats"]) - {item.name for item in fields(Tasks)}),
}


def read_recipe(path: Path) -> Recipe:
    """Read and check a recipe; raises RecipeError with the file, and the line if there is one."""
    return open_recipe(path)[0]


def read_held_out(path: Path) -> list[Task]:
    """The tasks that a training recipe holds out; raises D2LError."""
    held_out = gather_tasks(read_recipe(path), only_held_out=True).held_out
    if not held_out:
        raise TaskError(f"{path}: holds no task out", hint="set held_out, or name a file")
    return list(held_out)


def open_recipe(path: Path) -> tuple[Recipe, str | None]:
    """The recipe of a file, and a warning where it has the form that goes away."""
    raw = _read(path)
    with locating(path):
        warning = _give_tables(raw)
        if warning is None:
            _refuse_two_kinds(raw)
            _refuse_keys_of_seats(raw)
        recipe = _build_recipe(raw)
    return recipe, None if warning is None else f"{path}: {warning}"


@contextmanager
def locating(path: Path) -> Iterator[None]:
    """Give errors of keys and tables the file and, if it is found, the line."""
    try:
        yield
    except MisfitError as error:
        line = _find_line(path, *error.place)
        where = f"{path}" if line is None else f"{path}, line {line}"
        raise RecipeError(f"{where}: {error.message}", hint=error.hint) from error


def _find_line(path: Path, key: str | None, table: tuple[str, int] | None) -> int | None:
    """The line of a key, which the flat form has outside of its table; else of its table."""
    if key is None and table is None:
        return None
    text = path.read_bytes().decode("utf-8-sig")
    tries = [(key, table), (key, None), (None, table)]
    if table is not None:
        tries.append((table[0], None))
    for name, place in tries:
        if (name, place) != (None, None) and (line := find_line(text, name, place)) is not None:
            return line
    return None


def _read(path: Path) -> Raw:
    """A file's values; raises RecipeError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise RecipeError(f"{path}: is larger than {_MAX_BYTES:,} bytes", hint="name a recipe")
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
    """A recipe from values in tables."""
    _refuse_unknown(Recipe, raw, None)
    values = dict(raw)
    for table in (Source, Length):
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


def _build(table: type[Table], raw: object, place: tuple[str, int]) -> Any:
    """The checked values of one table."""
    if not isinstance(raw, Mapping):
        raise MisfitError(f"{place[0]}: {show(raw)} is not a table", None, place[0])
    _refuse_unknown(table, raw, place)
    values = dict(raw)
    if issubclass(table, Tasks) and isinstance(raw.get("excluded"), list):
        values["excluded"] = tuple(raw["excluded"])
    try:
        return table(**values)
    except MisfitError as error:
        key = error.place[0]
        raise MisfitError(error.message, error.hint, key if key in raw else None, place) from error


def _refuse_unknown(
    table: type[Table], raw: Mapping[str, Any], place: tuple[str, int] | None
) -> None:
    """Refuse the first key that a table has not; raises MisfitError."""
    for name in raw:
        if name not in _KEYS[table.NAME]:
            where = f"{table.NAME}: " if table.NAME else ""
            message = f"{where}unknown key {show(name)}"
            raise MisfitError(message, _suggest(name, table.NAME), name, place)


def _suggest(name: str, title: str) -> str:
    """Where a key that a table has not belongs, or the nearest that it or another table has."""
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


def _refuse_two_kinds(raw: Mapping[str, Any]) -> None:
    """A recipe is for one kind of network; raises MisfitError."""
    named = [name for name in raw if name in KINDS]
    if len(named) > 1:
        raise MisfitError(
            f"[{named[1]}] beside [{named[0]}]: a network is of one kind",
            f"leave [{named[1]}] out",
            None,
            (named[1], 0),
        )


def _refuse_keys_of_seats(raw: Mapping[str, Any]) -> None:
    """Refuse keys of seat networks in lists of a recipe of another kind; raises MisfitError."""
    other = next((name for name in raw if name in KINDS and name != "seats"), None)
    for title, names in FOR_SEATS.items() if other else ():
        rows = raw.get(title)
        for index, row in enumerate(rows if isinstance(rows, list) else ()):
            found = [name for name in names if isinstance(row, Mapping) and name in row]
            if found:
                raise MisfitError(
                    f"{title}: {found[0]} is for seat networks, and the recipe has [{other}]",
                    "leave it out",
                    found[0],
                    (title, index),
                )


def _give_tables(raw: Raw) -> str | None:
    """Move the keys of the flat form into their tables, in place; what to say of it, or None for a
    recipe that has tables."""
    if any(isinstance(raw.get(name), Mapping) for name in ("optimizer", *KINDS)):
        return None
    moved: dict[str, list[str]] = {}
    if "optimizer" in raw:
        raw["optimizer"] = {"name": raw["optimizer"]}
        moved["[optimizer]"] = ["optimizer (as name)"]
    kind = _guess_kind(raw)
    for name in [name for name in raw if name not in _KEYS[""]]:
        owners = [title for title in ("optimizer", *KINDS) if name in _FLAT[title]]
        if not owners:
            continue
        value = raw.pop(name)
        wanted = [title for title in owners if kind is None or title in ("optimizer", kind)]
        for title in wanted:
            raw.setdefault(title, {})[name] = value
        # Of another kind: it had to be 0, or was of no effect.
        moved.setdefault(" or ".join(f"[{title}]" for title in wanted), []).append(name)
    return _tell(moved) if moved else None


def _guess_kind(raw: Mapping[str, Any]) -> str | None:
    """The kind of network that a flat recipe is for: the one of whose own keys it makes use."""
    for kind in ("seats", "text_to_lora", "doc_to_lora"):
        others = {name for other in KINDS if other != kind for name in _FLAT[other]}
        if any(raw.get(name) for name in _FLAT[kind] if name not in others):
            return kind
    return None


def _tell(moved: Mapping[str, list[str]]) -> str:
    """One line that says which keys belong into which table."""
    parts = [f"{', '.join(names)} into {title}" for title, names in moved.items() if title]
    if "" in moved:
        parts.append(f"{', '.join(moved[''])} away")
    return f"the flat form of recipes will not be read by the next version: move {'; '.join(parts)}"
