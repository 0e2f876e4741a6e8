"""A toy training task for the tiny seat network: a recipe and its data."""

import json
from pathlib import Path
from typing import Any

_RECIPE = """\
checkpoint = "seats"
data = "data"
steps = 3
seed = 1
learning_rate = 0.01
warmup_steps = 2
clip = 0.5
recitation_share = 0.0
general_share = 0.0
save_minutes = 60.0
precision = "float32"

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


def write_recipe(path: Path, **changes: Any) -> Path:
    """A recipe of a few steps on the toy data; `changes` are keys of its first part."""
    lines = _RECIPE.splitlines()
    for name, value in changes.items():
        spelled = f"{name} = {json.dumps(value)}"
        found = [n for n, line in enumerate(lines) if line.startswith(f"{name} = ")]
        if found:
            lines[found[0]] = spelled
        else:
            lines.insert(0, spelled)
    path.write_text("\n".join(lines) + "\n", "utf-8")
    return path


def write_data(folder: Path) -> Path:
    """The toy data file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "toy.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")
    return path
