"""A toy training task for the tiny networks: a recipe, its data, and a run of it."""

import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from d2l_lab.training import loop
from d2l_lab.training.learners.recipes import TABLES, Recipe
from d2l_lab.training.loop import Row
from tests import tiny
from tests.command import Outcome

#: The command line of d2l-lab, called in this process.
Lab = Callable[..., Outcome]

_RECIPE: dict[str, Any] = {
    "checkpoint": "seats",
    "data": "data",
    "steps": 3,
    "seed": 1,
    "save_minutes": 60.0,
    "precision": "float32",
    "learning_rate": 0.01,
    "warmup_steps": 2,
    "clip": 0.5,
}
_OF_KINDS: dict[str, dict[str, Any]] = {
    "seats": {"recitation_share": 0.0, "general_share": 0.0},
    "text_to_lora": {},
}
LISTS = """\
[[sources]]
path = "toy.jsonl"
weight = 1.0

[[lengths]]
tokens = 24
chunks = 1
memories = 2
questions = 2
weight = 1.0
"""

ROWS = [
    {
        "doc": "The filter is rinsed every 14 days. The pump stands in the harbor.",
        "question": question,
        "answers": [answer],
    }
    for question, answer in (("Where is the pump?", "harbor"), ("How often?", "14 days"))
] + [
    {
        "doc": "The lantern in the meadow is lit. Open the copper valve.",
        "question": question,
        "answers": [answer],
    }
    for question, answer in (("Which valve?", "copper"), ("Where is the lantern?", "meadow"))
]


def find_table(name: str, kind: str) -> str:
    """The table that a key stands in, in a recipe of this kind; "" for those above all tables."""
    for title in ("", "optimizer", kind):
        if name in (item.name for item in fields(TABLES[title])):
            return title
    raise KeyError(f"{name} is no key of a {kind} recipe")


def write_recipe(path: Path, kind: str = "seats", **changes: Any) -> Path:
    """A recipe of a few steps on the toy data; `changes` are keys of any of its tables."""
    values = _RECIPE | _OF_KINDS[kind] | changes
    lines: dict[str, list[str]] = {}
    for name, value in values.items():
        lines.setdefault(find_table(name, kind), []).append(f"{name} = {json.dumps(value)}")
    parts = [lines.pop(""), *([f"[{title}]", *keys] for title, keys in lines.items())]
    text = "\n\n".join(["\n".join(part) for part in parts] + [LISTS])
    path.write_text(text, "utf-8")
    return path


def change(recipe: Recipe, kind: str = "seats", **changes: Any) -> Recipe:
    """The recipe with other values for keys of any of its tables."""
    for name, value in changes.items():
        title = find_table(name, kind)
        if title:
            table = replace(getattr(recipe, title), **{name: value})
            recipe = replace(recipe, **{title: table})
    shared = {name: value for name, value in changes.items() if not find_table(name, kind)}
    return replace(recipe, **shared)


def write_data(folder: Path) -> Path:
    """The toy data file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "toy.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return path


def write_place(folder: Path, **network: Any) -> Path:
    """A folder with the tiny base, a seat network and the toy data."""
    tiny.write_base(folder / tiny.base_name("llama"), "llama")
    tiny.write_seats(folder / "seats", **network)
    write_data(folder / "data")
    return folder


def train(recipe: Recipe, out: str) -> list[Row]:
    """The rows of a run's log."""
    rows: list[Row] = []
    loop.train(recipe, Path(out), watch=rows.append)
    return rows


def read_log(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]
