"""A seat network trained on tasks: descriptions read as documents, examples asked behind them."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.tasks import Example
from d2l.errors import RecipeError
from d2l.hypernets.seats.config import read_config
from d2l_lab.task_files import Task, TaskSplit
from d2l_lab.training import loop
from d2l_lab.training.learners.document_data import Exercise, Mixture
from d2l_lab.training.learners.recipes import Recipe
from d2l_lab.training.learners.seats.learner import plan_memories
from d2l_lab.training.learners.seats.lessons import make_example, make_lessons
from d2l_lab.training.learners.seats.start import change_config
from d2l_lab.training.learners.tasks import gather_tasks
from d2l_lab.training.recipe_files import read_recipe
from examples.training.tests.toy import LISTS, Lab, write_place
from tests import tiny, tiny_tasks
from tests.command import Command
from tests.tiny_seats import make_causal

pytestmark = pytest.mark.usefixtures("one_thread")
CONFIG = tiny.make_seats_config()

RECIPE = """\
checkpoint = "seats"
data = "data"
steps = 6
seed = 1
save_minutes = 60.0
precision = "float32"

[optimizer]
learning_rate = 0.01

[seats]
recitation_share = 0.0
general_share = 0.0
excluded = ["lie"]
held_out = 1
descriptions = 3
"""
DOCUMENTS = f"\n{LISTS}"
TASKS = """
[[sources]]
path = "tasks.jsonl"
tasks = true
weight = 1.0

[[lengths]]
tasks = true
tokens = 64
chunks = 1
memories = 2
questions = 3
weight = 1.0
"""


@pytest.fixture(autouse=True)
def place(working_folder: Path) -> Path:
    """A working folder with the tiny network, its base, documents and tasks."""
    write_place(working_folder, repeats=3)
    tiny_tasks.write_tasks(working_folder / "data" / "tasks.jsonl")
    return working_folder


def read(*parts: str) -> Recipe:
    path = Path("a.toml")
    path.write_text("".join((RECIPE, *parts)), "utf-8")
    return read_recipe(path)


def refuse(*parts: str) -> str:
    with pytest.raises(RecipeError) as refused:
        read(*parts)
    return refused.value.message


def draw_all(lessons: Any, recipe: Recipe, n_steps: int = 40, **changes: Any) -> Iterator[Any]:
    mixture = Mixture({}, recipe, recipe.seats, tasks=lessons, **changes)
    for step in range(n_steps):
        yield mixture.draw(step)


def test_steps_draw_descriptions_and_their_own_examples(tokenizer: BaseTokenizer) -> None:
    recipe = read(TASKS)
    lessons = make_lessons(gather_tasks(recipe), recipe, CONFIG, tokenizer)
    rows = {name: tiny_tasks.make_row(name) for name in ("ore", "place")}
    seen = set()
    for drawn in draw_all(lessons, recipe):
        assert {memory.passages[0].group for memory in drawn} == {"ore", "place"}  # none twice
        for memory in drawn:
            (passage,) = memory.passages
            row = rows[passage.group]
            assert passage.text in [row["definition"], *row["descriptions"]]
            assert passage.token_ids == tuple(tokenizer.encode(passage.text))
            examples = [Example(one["input"], (one["output"],)) for one in row["examples"]]
            own = [make_example(example, CONFIG, tokenizer) for example in examples]
            assert len(set(memory.asked)) == 3
            assert set(memory.asked) <= set(own)
            seen.add(passage.text)
    assert len(seen) == 6  # three descriptions of either, by chance
    again = make_lessons(gather_tasks(recipe), recipe, CONFIG, tokenizer)
    assert list(draw_all(again, recipe)) == list(draw_all(lessons, recipe))


def test_an_example_stands_in_the_template_that_adapters_answer_to(
    tokenizer: BaseTokenizer,
) -> None:
    made = make_example(Example("pump", ("copper", "tin")), CONFIG, tokenizer)
    question = tokenizer.encode("pump")
    assert made.prompt == (*CONFIG.after_opening, *question, *CONFIG.before_answer)
    assert made.answer == (*tokenizer.encode("copper"), CONFIG.end_token)


def test_general_prompts_take_the_places_of_examples(tokenizer: BaseTokenizer) -> None:
    recipe = read(TASKS)
    lessons = make_lessons(gather_tasks(recipe), recipe, CONFIG, tokenizer)
    general = Exercise((1,), (2,), general=True)
    for share, low, high in ((1.0, 1.0, 1.0), (0.3, 0.2, 0.4)):
        seats = replace(recipe.seats, general_share=share)
        drawn = draw_all(lessons, replace(recipe, seats=seats), 60, general=(general,))
        asked = [one for step in drawn for memory in step for one in memory.asked]
        assert low <= sum(one is general for one in asked) / len(asked) <= high


def test_what_is_too_long_for_a_class_of_steps_is_not_drawn(tokenizer: BaseTokenizer) -> None:
    long = "The pump stands in the harbor. The lantern is lit. " * 3
    example = Example("pump", ("copper",))
    far = Example("pump " * 90, ("copper",))
    tasks = tuple(
        (Task(name, descriptions, examples), 1.0)
        for name, descriptions, examples in (
            ("wordy", (long,), (example,)),
            ("far", ("Say it.",), (far,)),
            ("fit", (long, "Say it."), (far, example)),
        )
    )
    recipe = read(TASKS)
    (length,) = recipe.lengths
    lessons = make_lessons(TaskSplit(tasks, ()), recipe, CONFIG, tokenizer)
    (fit,) = lessons[length]
    assert [passage.text for (passage,) in fit.descriptions] == ["Say it."]
    assert [exercise for _, exercise in fit.examples] == [make_example(example, CONFIG, tokenizer)]
    wide = replace(recipe, lengths=(replace(length, chunks=4),))
    lessons = make_lessons(TaskSplit(tasks, ()), wide, CONFIG, tokenizer)
    assert [len(one.descriptions) for one in lessons[wide.lengths[0]]] == [1, 2]
    short = replace(recipe, lengths=(replace(length, tokens=1),))
    with pytest.raises(RecipeError, match="an example of at most 1 tokens"):
        make_lessons(TaskSplit(tasks, ()), short, CONFIG, tokenizer)


def test_descriptions_get_seats_by_the_networks_rule_as_t2l_make_gives_them(
    tokenizer: BaseTokenizer,
) -> None:
    recipe = read(TASKS)
    config = replace(CONFIG, version=1, dense_seats=CONFIG.max_seats)
    lessons = make_lessons(gather_tasks(recipe), recipe, config, tokenizer)
    for drawn in draw_all(lessons, recipe, 10):
        memories = plan_memories(drawn, config=config, tokenizer=tokenizer)
        longest = max(len(memory.passages[0].token_ids) for memory in drawn)
        expected = min(max(longest, config.min_seats), config.max_seats)
        assert [memory.seats for memory in memories] == [(expected,)] * 2
        assert all(memory.task for memory in memories)


@pytest.mark.parametrize(
    ("parts", "reads"),
    [((DOCUMENTS,), "documents"), ((TASKS,), "descriptions"), ((DOCUMENTS, TASKS), "both")],
)
def test_the_network_says_what_its_recipe_trains_it_to_read(
    parts: tuple[str, ...], reads: str
) -> None:
    trained = change_config(CONFIG, read(*parts), make_causal().config)
    assert trained.reads == reads
    assert trained.document_tokens == (24 if "documents" in reads or reads == "both" else 0)


def test_one_network_learns_to_read_both(place: Path, command: Command, lab: Lab) -> None:
    read(DOCUMENTS, TASKS)
    checked = lab("train", "a.toml", "--dry-run", "--json")
    assert checked.code == 0
    of_documents, of_tasks = json.loads(checked.out)["sources"]
    assert (of_documents["source"], of_documents["passages"]) == ("toy.jsonl", 2)
    assert (of_tasks["source"], of_tasks["tasks"], of_tasks["held_out"]) == ("tasks.jsonl", 2, 1)
    assert "tasks.jsonl" in lab("train", "a.toml", "--dry-run").out
    assert lab("train", "a.toml", "--out", "run", "--offline").code == 0
    log = [json.loads(line) for line in Path("run", "log.jsonl").read_text("utf-8").splitlines()]
    assert {key for row in log for key in ("tasks", "memories") if key in row} == {
        "tasks", "memories"
    }  # fmt: skip
    assert read_config(Path("run", "config.json")).reads == "both"
    assert lab("export", "run", "-o", "net").code == 0
    (place / "note.txt").write_text(tiny.DOCUMENT, "utf-8")
    named = ("--checkpoint", "net", "--offline")
    assert command.t2l("make", "Name a place.", "-o", "task.lora", *named).code == 0
    assert command("compile", "note.txt", "-o", "note.lora", *named).code == 0
    asked = lab("eval", "--checkpoint", "net", "--held-out", "a.toml", "--limit", 2, "--json")
    assert (asked.code, asked.err) == (0, "")
    assert {row["task"] for row in json.loads(asked.out)["rows"]} == {"echo"}


@pytest.mark.slow
def test_a_task_is_learned_from_its_description(command: Command, lab: Lab) -> None:
    """Two tasks that ask alike and answer otherwise: only the description tells them apart."""
    recipe = read(TASKS)
    optimizer = replace(recipe.optimizer, name="muon", learning_rate=0.03)
    loop.train(replace(recipe, steps=120, optimizer=optimizer), Path("run"))
    log = [json.loads(line) for line in Path("run", "log.jsonl").read_text("utf-8").splitlines()]
    losses = [row["answers"] for row in log]
    assert sum(losses[:5]) / 5 > 3
    assert sum(losses[-10:]) / 10 < 2
    rows = [tiny_tasks.make_row(name) for name in ("ore", "place")]
    tiny_tasks.write_tasks(Path("two.jsonl"), rows)
    nll: dict[tuple[str, str], float] = {}
    for row in rows:
        name = row["task"]
        adapter = f"{name}.lora"
        command.t2l("make", row["definition"], "-o", adapter, "--checkpoint", "run")
        found = json.loads(lab("eval", adapter, "two.jsonl", "--json").out)["rows"]
        nll |= {(name, one["task"]): one["nll"] for one in found if one["arm"] == "adapter"}
    for task, other in (("ore", "place"), ("place", "ore")):
        assert nll[task, task] < nll[other, task] - 0.5


def test_tasks_are_drawn_where_there_are_some_and_nowhere_else() -> None:
    message = "a.toml: a source holds tasks, and no length draws any"
    assert refuse(DOCUMENTS, TASKS.partition("[[lengths]]")[0]) == message
    message = "a.toml: a length draws tasks, and no source holds any"
    assert refuse(DOCUMENTS, TASKS[TASKS.index("[[lengths]]") :]) == message


def test_keys_about_tasks_are_refused_where_there_are_none(lab: Lab) -> None:
    Path("a.toml").write_text(RECIPE.replace('excluded = ["lie"]\n', "") + DOCUMENTS, "utf-8")
    done = lab("train", "a.toml", "--dry-run")
    assert done.code == 1
    line = RECIPE.replace('excluded = ["lie"]\n', "").splitlines().index("held_out = 1") + 1
    assert done.err.startswith(
        f"error: a.toml, line {line}: seats: held_out is about tasks, and no source holds any\n"
    )
