"""Toy tasks for a tiny text network: their data, a recipe, and the network to begin with."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from d2l.hypernets.formats import native
from d2l.hypernets.text_to_lora.network import TextToLoraConfig
from tests import tiny
from tests.hypernets import text_networks

RECIPE = """\
checkpoint = "start"
data = "data"
fresh = true
steps = 3
seed = 1
save_minutes = 60.0
precision = "float32"

[optimizer]
learning_rate = 0.005
warmup_steps = 2

[text_to_lora]
excluded = ["lie"]
held_out = 1
descriptions = 3

[[sources]]
path = "toy.jsonl"
weight = 1.0

[[lengths]]
tokens = 64
chunks = 1
memories = 2
questions = 2
weight = 1.0
"""

WORDS = ("pump", "valve", "filter", "harbor", "lantern", "copper")
#: Answers by a task's name. The SHA-256 of "echo" is the smallest.
ANSWERS = {"ore": "copper", "place": "meadow", "echo": None, "lie": "pressure", "secret": "pump"}


def make_row(name: str, **changes: Any) -> dict[str, Any]:
    """One task: what to say to every word."""
    answer = ANSWERS.get(name)
    return {
        "task": name,
        "definition": f"Say the {name} of the word.",
        "descriptions": [f"The {name}, please.", f"Name a {name}.", f"Which {name} is it?"],
        "positive_examples": [{"input": "meadow", "output": answer or "meadow"}],
        "license_clear": name != "secret",
        "examples": [{"input": word, "output": answer or word} for word in WORDS],
    } | changes


def write_tasks(path: Path, rows: Sequence[Mapping[str, Any]] = ()) -> Path:
    """The toy tasks, or other rows, as a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = rows or [make_row(name) for name in ANSWERS]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


def make_config(**changes: Any) -> TextToLoraConfig:
    """A network for the tiny Llama that embeds by its base."""
    config = text_networks.make_config(
        base=tiny.base_name("llama"),
        embedding_size=tiny.HIDDEN,
        n_layers=tiny.N_LAYERS,
        module_order=("v_proj", "down_proj", "o_proj"),
        d_in=(tiny.HIDDEN, tiny.INNER, tiny.HIDDEN),
        d_out=(16, tiny.HIDDEN, tiny.HIDDEN),
        rank=4,
        rank_stabilized=False,
        head_bias=False,
        latent_size=32,
        head_size=24,
    )
    return replace(config, **changes)


def write_place(folder: Path) -> Path:
    """A folder with the base, the data, the network's configuration and a recipe, `a.toml`."""
    tiny.write_base(folder / "tiny-org" / "llama-tiny", "llama")
    write_tasks(folder / "data" / "toy.jsonl")
    config = make_config()
    (folder / "start").mkdir()
    header = {"format": native.FORMAT, "version": native.VERSION, "kind": config.kind}
    text = json.dumps(header | config.to_json())
    (folder / "start" / native.CONFIG_FILE).write_text(text, "utf-8")
    (folder / "a.toml").write_text(RECIPE, "utf-8")
    return folder
