"""Text networks in training: they learn tasks from descriptions, and a run is a checkpoint."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d2l.adapters.peft_folder import read_adapter
from d2l.bases.tokenizers import load_tokenizer
from d2l.errors import RecipeError, TaskError
from d2l.files.cache import cache_dir
from d2l.hypernets.networks import load_hypernet, read_config
from d2l_lab.training import loop as pipeline
from d2l_lab.training.learners.learner import Row
from d2l_lab.training.learners.recipes import DataSource, Length, Recipe, SeatsTable
from d2l_lab.training.learners.tasks import choose_descriptions, gather_tasks
from d2l_lab.training.learners.text_to_lora.data import (
    DrawnTask,
    draw_tasks,
    group_by_length,
    make_lessons,
)
from d2l_lab.training.recipe_files import read_recipe
from examples.training.tests.toy import Lab, change, train
from tests import tiny, tiny_tasks
from tests.command import Command

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def recipe(working_folder: Path) -> Recipe:
    """A recipe of a few steps, in a working folder with all that it names."""
    tiny_tasks.write_place(working_folder)
    return read_recipe(Path("a.toml"))


def test_it_learns_to_answer_by_the_description(recipe: Recipe, command: Command) -> None:
    """Both tasks have the same inputs, so only the description says which answer is right.

    Seen: a loss of 6.2 at first, 0.8 at the end, which is the floor of logits so small."""
    rows = train(replace(recipe, steps=40), "run")
    assert rows[0]["answers"] > 3
    assert rows[0]["tasks"] == 2
    assert rows[0]["examples"] == 4
    assert sum(row["answers"] for row in rows[-5:]) / 5 < 1.2
    assert rows[-1]["answers_right"] == 1
    for name, answer in (("ore", "copper"), ("place", "meadow")):
        made = command.t2l("make", f"The {name}, please.", "-o", name, "--checkpoint", "run")
        assert made.code == 0, made.err
        assert command("ask", name, "harbor").out.strip() == answer


def test_dropout_leaves_the_random_numbers_of_a_card_as_they_were(
    recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    forked: list[object] = []
    fork = torch.random.fork_rng

    def note(devices: object = None) -> object:
        forked.append(devices)
        return fork(devices=[])

    monkeypatch.setattr("torch.random.fork_rng", note)
    monkeypatch.setattr("d2l.bases.devices.is_cuda", lambda _: True)
    train(replace(recipe, steps=1), "run")
    assert [given for given in forked if given] == [[torch.device("cpu")]] * 2  # of two tasks


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_card_trains_it(recipe: Recipe) -> None:
    rows = train(replace(recipe, steps=2, device="cuda"), "run")
    assert [row["loss"] for row in rows] == pytest.approx([6.2, 6.2], abs=2)


def test_new_weights_write_adapters_that_do_nothing(recipe: Recipe, command: Command) -> None:
    train(change(recipe, "text_to_lora", steps=1, learning_rate=1e-30), "run")
    command.t2l("make", "The ore, please.", "-o", "a", "--checkpoint", "run", "--dtype", "fp32")
    factors = read_adapter(Path("a")).factors
    assert len(factors) == 3 * tiny.N_LAYERS
    assert all(float(one.b.abs().max()) < 1e-12 for one in factors.values())
    assert all(float(one.a.abs().min()) > 0 for one in factors.values())


def read_embeddings() -> list[torch.Tensor]:
    """Everything that training keeps in the cache of embedded descriptions."""
    paths = sorted((cache_dir() / "descriptions").iterdir())
    return [load_file(path)["embeddings"] for path in paths]


def test_what_a_checkpoint_reads_is_what_training_read(recipe: Recipe) -> None:
    """The checkpoint takes embeddings as they are; training took them standardized."""
    train(replace(recipe, steps=2), "run")
    (embeddings,) = read_embeddings()
    own = embeddings[:6]  # of two tasks, three each
    standard = (own - own.mean(0)) / own.std(0, correction=0).clamp(min=1e-3)
    folded = load_file("run/model.safetensors")
    state = torch.load("run/state.pt", weights_only=True)["network"]
    layer = "task_encoder.mlp.0"
    for raw, exact in zip(own, standard, strict=True):
        torch.testing.assert_close(
            folded[f"{layer}.weight"] @ raw + folded[f"{layer}.bias"],
            state[f"{layer}.weight"] @ exact + state[f"{layer}.bias"],
            atol=1e-4,  # differences of fp32 sums
            rtol=1e-4,
        )


def test_an_interrupted_run_goes_on_as_if_uninterrupted(recipe: Recipe) -> None:
    """Dropout included, which is why every draw has a seed of its own."""
    longer = replace(recipe, steps=6)
    whole = train(longer, "whole")
    stop = iter([False, False, True])
    rows: list[Row] = []
    pipeline.train(longer, Path("cut"), watch=rows.append, stopping=lambda: next(stop))
    assert len(rows) == 3
    pipeline.train(longer, Path("cut"), watch=rows.append)
    assert [row["loss"] for row in rows] == [row["loss"] for row in whole]
    first, second = (load_file(f"{name}/model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_is_where_another_can_begin(recipe: Recipe) -> None:
    """With a rate of next to nothing, the second run's network is the first one's."""
    train(recipe, "one")
    still = change(
        recipe, "text_to_lora", checkpoint="one", fresh=False, steps=1, learning_rate=1e-30
    )
    train(still, "two")
    first, second = (load_file(f"{name}/model.safetensors") for name in ("one", "two"))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=1e-5, rtol=1e-5)


def test_held_out_and_excluded_tasks_and_those_of_unclear_license_are_not_drawn(
    recipe: Recipe,
) -> None:
    split = gather_tasks(recipe)
    assert [task.name for task in split.held_out] == ["echo"]
    assert {task.name for task, _ in split.training} == {"ore", "place"}
    tokenizer = load_tokenizer(Path("tiny-org/llama-tiny"))
    lessons = make_lessons(split, recipe, tokenizer)
    drawn = [one for step in range(40) for one in draw_tasks(lessons, recipe, step)]
    assert {one.description for one in drawn} == set(range(6))
    answers = {answer for one in drawn for _, answer in one.exercises}
    assert answers == {
        (*tokenizer.encode(word), tiny.encode("<|im_end|>")[0]) for word in ("copper", "meadow")
    }


def test_sources_for_training_only_are_not_needed_to_name_the_held_out_tasks(
    recipe: Recipe,
) -> None:
    more = DataSource("more.jsonl", 1.0, hold_out=False)
    wide = change(
        recipe, "text_to_lora", sources=(*recipe.sources, more), excluded=("lie", "extra")
    )
    assert gather_tasks(wide, only_held_out=True).held_out == gather_tasks(recipe).held_out
    rows = [tiny_tasks.make_row(name) for name in ("extra", "more")]
    tiny_tasks.write_tasks(Path("data/more.jsonl"), rows)
    split = gather_tasks(wide)
    assert split.held_out == gather_tasks(recipe).held_out
    assert {task.name for task, _ in split.training} == {"ore", "place", "more"}


def test_no_prompt_holds_a_description(recipe: Recipe) -> None:
    tokenizer = load_tokenizer(Path("tiny-org/llama-tiny"))
    lessons = make_lessons(gather_tasks(recipe), recipe, tokenizer)
    prompts = {prompt for one in draw_tasks(lessons, recipe, 0) for prompt, _ in one.exercises}
    for prompt in prompts:
        text = tokenizer.decode(prompt)
        assert text.split("<|im_start|>user\n")[1].split("<|im_end|>")[0] in tiny_tasks.WORDS


def test_too_long_examples_are_left_out(recipe: Recipe) -> None:
    tokenizer = load_tokenizer(Path("tiny-org/llama-tiny"))
    split = gather_tasks(recipe)
    (lessons,) = make_lessons(split, recipe, tokenizer).values()
    sizes = [size for one in lessons for size, _ in one.examples]
    short = replace(recipe, lengths=(Length(min(sizes), 1, 2, 2, 1.0),))
    (fewer,) = make_lessons(split, short, tokenizer).values()
    kept = [size for one in fewer for size, _ in one.examples]
    assert set(kept) == {min(sizes)}
    assert len(kept) < len(sizes)
    shorter = replace(recipe, lengths=(Length(min(sizes) - 1, 1, 2, 2, 1.0),))
    with pytest.raises(RecipeError, match="no example of the sources has at most"):
        make_lessons(split, shorter, tokenizer)


def test_tasks_of_like_length_are_asked_together() -> None:
    def draw(*sizes: int) -> DrawnTask:
        return DrawnTask(0, tuple(((1,) * (size - 2), (2, 2)) for size in sizes), 0)

    drawn = [draw(500), draw(300), draw(100, 90), draw(200), draw(2000)]
    groups = list(group_by_length(drawn))
    assert groups == [[drawn[2], drawn[3]], [drawn[1], drawn[0]], [drawn[4]]]  # 3 x 200, 2 x 500
    assert list(group_by_length([])) == []


def test_noise_on_embeddings_is_the_same_for_the_same_step(recipe: Recipe) -> None:
    noisy = change(recipe, "text_to_lora", embedding_noise=0.5)
    first, again, quiet = (
        [row["loss"] for row in train(one, name)]
        for one, name in ((noisy, "a"), (noisy, "b"), (recipe, "c"))
    )
    assert first == again
    assert first[0] == quiet[0]  # the first adapters do nothing
    assert first[2] != quiet[2]


def test_a_description_may_be_embedded_as_a_question(recipe: Recipe, command: Command) -> None:
    """In training and by the run's checkpoint alike."""
    train(recipe, "plain")
    (bare,) = read_embeddings()
    settings = json.loads(Path("start/config.json").read_text("utf-8"))
    Path("start/config.json").write_text(json.dumps(settings | {"embeds_question": True}))
    train(recipe, "asked")
    assert read_config(Path("asked")).to_json()["embeds_question"] is True
    (asked,) = (kept for kept in read_embeddings() if not torch.equal(kept, bare))
    assert not torch.allclose(bare, asked, atol=1e-2)
    made = command.t2l("make", "The ore, please.", "-o", "a", "--checkpoint", "asked", "--json")
    assert made.code == 0, made.err
    most = recipe.text_to_lora.descriptions
    training = [task for task, _ in gather_tasks(recipe).training]
    texts = [text for task in training for text in choose_descriptions(task, most)]
    place = texts.index("The ore, please.")
    weights = load_hypernet(Path("asked"), device="cpu").generate(asked[place])
    for name, factors in read_adapter(Path("a")).factors.items():  # of bf16
        torch.testing.assert_close(factors.a, weights.factors[name].a, atol=1e-3, rtol=1e-2)


def test_recipe_and_data_are_checked_without_weights(recipe: Recipe, lab: Lab) -> None:
    Path("tiny-org/llama-tiny/model.safetensors").unlink()
    done = lab("train", "a.toml", "--dry-run", "--json")
    assert json.loads(done.out)["sources"] == [
        {"source": "toy.jsonl", "tokens": 64, "tasks": 2, "examples": 12, "held_out": 1}
    ]
    assert "held out" in lab("train", "a.toml", "--dry-run").out
    for changes, message in (
        ({"seats": SeatsTable(dense_seats=3)}, r"\[seats\] is for seats"),
        ({"lengths": (Length(64, 1, 2, 2, 1.0, 2),)}, "tokens_per_seat of a length is 2, and that"),
        ({"lengths": (Length(64, 2, 2, 2, 1.0),)}, "chunks of a length is not 1"),
    ):
        with pytest.raises(RecipeError, match=message):
            pipeline.check(replace(recipe, **changes))
    with pytest.raises(TaskError, match="excluded names 'nobody', which is no task"):
        pipeline.check(change(recipe, "text_to_lora", excluded=("nobody",)))
    with pytest.raises(TaskError, match="3 tasks are to be held out of the 3 that have a clear"):
        pipeline.check(change(recipe, "text_to_lora", held_out=3))


def test_the_compact_form_of_a_run_makes_nearly_the_same_adapters(
    recipe: Recipe, command: Command, lab: Lab
) -> None:
    train(recipe, "run")
    assert lab("export", "run", "-o", "small", "--compact").code == 0
    stored = load_file("small/model.safetensors")
    assert stored["heads.v_proj.weight"].dtype == torch.int8
    assert stored["AB_offset.A.v_proj"].dtype == torch.int8
    assert stored["task_encoder.mlp.0.weight"].dtype == torch.float32
    for name in ("run", "small"):
        words = ("-o", f"{name}.lora", "--checkpoint", name, "--dtype", "fp32")
        assert command.t2l("make", "Name the ore.", *words).code == 0
    whole, small = (read_adapter(Path(f"{name}.lora")).factors for name in ("run", "small"))
    for name, factors in whole.items():
        delta, other = factors.b @ factors.a, small[name].b @ small[name].a
        # Rows of 8 bits are off by 1/254 of their largest value.
        assert float((delta - other).norm() / delta.norm()) < 0.05
        assert not torch.equal(delta, other)
