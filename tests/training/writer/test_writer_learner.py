"""A question writer in training: what it is asked for, its loss, and the adapter it becomes."""

import json
from pathlib import Path

import pytest
import torch

from d2l.adapters.peft_folder import read_adapter
from d2l.bases.models import find_base, load_causal
from d2l.errors import RecipeError
from d2l.learners.document_data import Exercise, Passage
from d2l.learners.forward import predict
from d2l.learners.recipe_table import MisfitError
from d2l.training import loop as pipeline
from d2l.training.recipe_files import read_recipe
from d2l.training.writer.learner import MODULES, place_answers, predict_behind
from tests import tiny
from tests.recipes import write_data

pytestmark = pytest.mark.usefixtures("one_thread")
RECIPE = """
checkpoint = "seats"
data = "data"
steps = {steps}
seed = 1
save_minutes = 60.0
precision = "float32"

[optimizer]
learning_rate = {rate}
warmup_steps = 2

[writer]
rank = 3

[[sources]]
path = "toy.jsonl"
weight = 1.0

[[lengths]]
tokens = 64
chunks = {chunks}
memories = 2
questions = 2
weight = 1.0
"""


@pytest.fixture
def place(working_folder: Path) -> Path:
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(working_folder / "seats")
    write_data(working_folder / "data")
    return working_folder


def write(place: Path, *, steps: int = 2, rate: float = 0.03, chunks: int = 1) -> Path:
    path = place / "writer.toml"
    path.write_text(RECIPE.format(steps=steps, rate=rate, chunks=chunks), "utf-8")
    return path


def read_losses(run: Path) -> list[float]:
    lines = (run / "log.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["answers"] for line in lines]


def test_it_learns_and_is_an_adapter_of_the_base(place: Path) -> None:
    assert pipeline.train(read_recipe(write(place, steps=60)), place / "run")
    losses = read_losses(place / "run")
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])
    weights = read_adapter(place / "run")
    assert (weights.rank, weights.base) == (3, "tiny-org/llama-tiny")
    names = {f"model.layers.{n}.self_attn.{m}" for n in range(tiny.N_LAYERS) for m in MODULES}
    assert set(weights.factors) == names
    assert all(bool(f.b.any()) for f in weights.factors.values())


def test_a_run_goes_on_where_it_was(place: Path) -> None:
    pipeline.train(read_recipe(write(place, steps=4)), place / "whole")
    pipeline.train(read_recipe(write(place, steps=4)), place / "halves", stopping=lambda: True)
    pipeline.train(read_recipe(write(place, steps=4)), place / "halves")
    files = [
        (place / run / "adapter_model.safetensors").read_bytes() for run in ("whole", "halves")
    ]
    assert files[0] == files[1]


def test_an_adapter_is_trained_further(place: Path) -> None:
    pipeline.train(read_recipe(write(place, steps=8)), place / "first")
    path = write(place, steps=1, rate=1e-9)
    text = path.read_text("utf-8")
    path.write_text(text.replace("rank = 3", 'rank = 3\nadapter = "first"'), "utf-8")
    pipeline.train(read_recipe(path), place / "further")
    before, after = (read_adapter(place / run).factors for run in ("first", "further"))
    for name, factors in before.items():
        torch.testing.assert_close(after[name].a, factors.a)
        torch.testing.assert_close(after[name].b, factors.b)
    path.write_text(text.replace("rank = 3", 'rank = 2\nadapter = "first"'), "utf-8")
    with pytest.raises(RecipeError, match="other modules, layers or another rank"):
        pipeline.train(read_recipe(path), place / "narrow")


def test_data_are_counted_without_weights(place: Path) -> None:
    rows = pipeline.check(read_recipe(write(place)))
    assert rows == [{"source": "toy.jsonl", "tokens": 64, "passages": 2, "questions": 4}]


def test_one_passage_at_a_time(place: Path) -> None:
    with pytest.raises(RecipeError, match="one passage at a time"):
        pipeline.check(read_recipe(write(place, chunks=2)))


def test_a_recipe_is_for_a_writer_or_for_a_network(place: Path) -> None:
    path = write(place)
    path.write_text(path.read_text("utf-8") + "\n[seats]\ngeneral_share = 0.1\n", "utf-8")
    with pytest.raises((MisfitError, RecipeError), match="a network is of one kind"):
        read_recipe(path)


def test_answers_have_their_only_place() -> None:
    passage = Passage(
        "It has 96 steps. The bell rings at 7 and at 7 again.",
        (),
        (("How many?", "96 steps"), ("When?", "7"), ("Who?", "nobody")),
    )
    ((span, question),) = place_answers(passage)
    assert (span.of(passage.text), question) == ("96 steps", "How many?")


@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_exercises_behind_one_passage_do_not_see_one_another(family: str, tmp_path: Path) -> None:
    tiny.write_base(tmp_path / f"{family}-tiny", family)
    base = find_base(str(tmp_path / f"{family}-tiny"), offline=True)
    causal = load_causal(base, device="cpu", dtype=torch.float32)
    before = (5, 9, 30, 31, 32)
    exercises = [Exercise((40, 41), (42, 43)), Exercise((50, 51, 52), (53,))]
    with torch.no_grad():
        found = predict_behind(causal, before, exercises)
        alone = predict(
            causal, [(*before, *e.prompt) for e in exercises], [e.answer for e in exercises]
        )
    assert torch.allclose(found, torch.cat(alone), atol=1e-4)
