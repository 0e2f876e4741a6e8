"""Records turned from one notation into another: JSON, YAML, CSV, XML and so on."""

import json
from collections.abc import Callable, Iterator

from banks import ADJECTIVES, NOUNS, PEOPLE, TOWNS
from drafts import Chance, Draft

Record = dict[str, str]

_N_PAIRS = 44
_QUOTED = "'{1}'"
_KEYS = ("name", "city", "age", "item", "price", "status")


def _join(record: Record, between: str, form: str) -> str:
    """All fields, each written in a form."""
    return between.join(form.format(key, value) for key, value in record.items())


_WRITERS: dict[str, tuple[str, Callable[[Record], str]]] = {
    "json": ("JSON", lambda r: json.dumps(r)),
    "yaml": ("YAML", lambda r: "\n".join(f"{k}: {v}" for k, v in r.items())),
    "toml": ("TOML", lambda r: "\n".join(f'{k} = "{v}"' for k, v in r.items())),
    "csv": ("CSV with a header", lambda r: f"{','.join(r)}\n{','.join(r.values())}"),
    "xml": (
        "XML",
        lambda r: f"<record>{_join(r, '', '<{0}>{1}</{0}>')}</record>",
    ),
    "query": ("a query string", lambda r: "&".join(f"{k}={v}" for k, v in r.items())),
    "markdown": (
        "a Markdown table",
        lambda r: f"| {' | '.join(r)} |\n|{'---|' * len(r)}\n| {' | '.join(r.values())} |",
    ),
    "dict": ("a Python dictionary", repr),
    "html": (
        "an HTML list",
        lambda r: f"<ul>{_join(r, '', '<li>{}: {}</li>')}</ul>",
    ),
    "sql": (
        "an INSERT statement into the table records",
        lambda r: f"INSERT INTO records ({', '.join(r)}) VALUES ({_join(r, ', ', _QUOTED)});",
    ),
    "env": ("shell variables", lambda r: "\n".join(f"{k.upper()}={v}" for k, v in r.items())),
    "sentence": (
        "an English sentence",
        lambda r: f"The {_join(r, ', the ', '{} is {}')}.",
    ),
    "lisp": ("an S-expression", lambda r: f"({_join(r, ' ', '(:{} {})')})"),
}


def draft_all() -> Iterator[Draft]:
    """All families of this kind."""
    pairs = [(one, other) for one in _WRITERS for other in _WRITERS if one != other]
    for one, other in sorted(Chance("notations").sample(pairs, _N_PAIRS)):
        (source, read), (target, write) = _WRITERS[one], _WRITERS[other]
        yield Draft(
            f"notation_{one}_{other}",
            (
                f"convert {source} to {target}",
                f"rewrite the record as {target}",
                f"{source} in, {target} out",
                f"translate {source} into {target}",
            ),
            f"a record as {source}",
            lambda chance, read=read, write=write: _turn(chance, read, write),
        )
    for name, (target, write) in _WRITERS.items():
        yield Draft(
            f"notation_keys_{name}",
            (f"list the keys of the record, separated by commas ({target})",),
            f"a record as {target}",
            lambda chance, write=write: _turn(chance, write, lambda r: ", ".join(r)),
        )
        yield Draft(
            f"notation_value_{name}",
            (f"give the value of the last key; the record is written as {target}",),
            f"a record as {target}",
            lambda chance, write=write: _turn(chance, write, lambda r: list(r.values())[-1]),
        )


def _turn(
    chance: Chance, read: Callable[[Record], str], write: Callable[[Record], str]
) -> tuple[str, str]:
    values = {
        "name": chance.choice(PEOPLE),
        "city": chance.choice(TOWNS),
        "age": str(chance.randint(18, 90)),
        "item": chance.choice(NOUNS),
        "price": str(chance.randint(2, 400)),
        "status": chance.choice(ADJECTIVES),
    }
    record = {key: values[key] for key in chance.sample(_KEYS, chance.randint(2, 4))}
    return read(record), write(record)
