"""The keys of recipes as rows for people: what the table in examples/recipes/README.md says.

The tables of `recipes` in, texts out.
"""

from collections.abc import Iterator
from dataclasses import fields

from d2l.learners.recipe_table import Table, name_type, span_of
from d2l.learners.recipes import TABLES


def describe_keys() -> Iterator[tuple[str, str, str, str, str, str]]:
    """A row for every key: table, name, type, range or choices, default, and what it says."""
    for title, table in TABLES.items():
        for item in fields(table):
            info = table.__pydantic_fields__[item.name]  # type: ignore[attr-defined]
            if item.name in TABLES:
                continue
            default = "required" if info.is_required() else _spell(info.default)
            about = _find_description(table, item.name)
            yield (
                title,
                item.name,
                name_type(info.annotation),
                span_of(table, item.name),
                default,
                about,
            )


def _find_description(table: type[Table], name: str) -> str:
    """What stands below a key, in the class that brought it."""
    for owner in table.__mro__:
        info = getattr(owner, "__pydantic_fields__", {}).get(name)
        if info is not None and info.description:
            return str(info.description)
    raise LookupError(f"{table.NAME}.{name} is not described")


def _spell(value: object) -> str:
    """A default as TOML writes it."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    return "[]" if value == () else str(value)
