"""What training draws: passages with the questions they answer, the same on every run."""

import gzip
import json
import random
from dataclasses import replace
from pathlib import Path

import pytest

from d2l.bases.tokens import BaseTokenizer
from d2l.errors import RecipeError
from d2l.hypernets.seats_training import Exercise
from d2l.recipes import Recipe, Source, read_recipe
from d2l.training_data import (
    Document,
    Mixture,
    build_pools,
    cut_passages,
    make_recitation,
    read_documents,
)
from tests import tiny
from tests.recipes import ROWS, write_data, write_recipe

CONFIG = tiny.make_seats_config()


@pytest.fixture
def tokenizer(tmp_path: Path) -> BaseTokenizer:
    return BaseTokenizer(tiny.write_base(tmp_path / "base", "llama"))


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    write_data(tmp_path)
    return replace(read_recipe(write_recipe(tmp_path / "a.toml")), data=str(tmp_path))


def make_mixture(
    recipe: Recipe, tokenizer: BaseTokenizer, general: tuple[Exercise, ...] = ()
) -> Mixture:
    pools = build_pools(
        recipe.sources,
        sorted({length.tokens for length in recipe.lengths}),
        folder=Path(recipe.data),
        tokenizer=tokenizer,
        minimum=CONFIG.min_chunk_tokens,
    )
    return Mixture(pools, recipe, general, tokenizer, CONFIG)


def test_rows_are_grouped_by_document_plain_or_compressed(tmp_path: Path) -> None:
    path = write_data(tmp_path)
    documents = read_documents(path)
    assert [document.text for document in documents] == [ROWS[0]["doc"], ROWS[2]["doc"]]
    assert documents[0].questions == (("Where is the pump?", "harbor"), ("How often?", "14 days"))
    packed = tmp_path / "toy.jsonl.gz"
    packed.write_bytes(gzip.compress(path.read_bytes()))
    assert read_documents(packed) == documents


@pytest.mark.parametrize(
    "line",
    [
        "{not json",
        "[1, 2]",
        '{"question": "Who?", "answers": ["I"]}',
        '{"doc": "text", "question": "Who?"}',
        '{"doc": "text", "question": "Who?", "answers": []}',
        '{"doc": "text", "question": "Who?", "answers": [7]}',
        '{"doc": "  "}',
        "",
    ],
)
def test_a_bad_row_is_named_by_file_and_line(tmp_path: Path, line: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n")
    with pytest.raises(RecipeError) as refused:
        read_documents(path)
    assert refused.value.message.startswith(f"{path}, line 2: not a row of training data (")
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.jsonl.gz", b"no gzip"), ("b.jsonl.gz", gzip.compress(b"{}" * 999)[:20]), ("c", b"\xff")],
)
def test_an_unreadable_file_is_named(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(RecipeError, match="cannot be read"):
        read_documents(tmp_path / name)
    with pytest.raises(RecipeError, match="No such file"):
        read_documents(tmp_path / "missing")


def test_a_question_goes_with_the_only_passage_that_answers_it(tokenizer: BaseTokenizer) -> None:
    text = "The pump is in the harbor 3 times. The lantern is in the meadow 3 times."
    questions = (("Where is the pump?", "harbor"), ("Where?", "the meadow"), ("How often?", "3"))
    first, second = cut_passages(
        [Document(text, questions)], tokenizer=tokenizer, limit=24, minimum=4
    )
    assert first.text == "The pump is in the harbor 3 times."
    assert first.questions == (("Where is the pump?", "harbor"),)
    assert second.questions == (("Where?", "the meadow"),)  # and "3" is anybody's


def test_recitations_are_the_documents_own_words() -> None:
    text = "One two three four five six seven. Too short. " + " ".join(["word"] * 40) + "."
    for seed in range(20):
        made = make_recitation(text, random.Random(seed))
        assert made is not None
        cue, rest, complete = made
        given = cue.split(": ")[-1].split("? ")[-1]
        assert f"{given} {rest}" in text
        assert 3 <= len(given.split()) <= 6
        assert 3 <= len(rest.split()) <= 10
        assert complete == rest.endswith(".")
    assert make_recitation("Too short. Again.", random.Random(0)) is None


def test_a_draw_depends_on_seed_and_step_alone(recipe: Recipe, tokenizer: BaseTokenizer) -> None:
    mixture = make_mixture(recipe, tokenizer)
    again = make_mixture(recipe, tokenizer)
    assert [mixture.draw(step) for step in range(8)] == [again.draw(step) for step in range(8)]
    assert len({mixture.draw(step)[0].passages for step in range(8)}) > 1
    other = make_mixture(replace(recipe, seed=2), tokenizer)
    assert [mixture.draw(n) for n in range(8)] != [other.draw(n) for n in range(8)]


def test_memories_of_a_draw_have_equally_many_seats_and_their_own_questions(
    recipe: Recipe, tokenizer: BaseTokenizer
) -> None:
    answers = {row["question"]: (row["doc"], row["answers"][0]) for row in ROWS}
    for step in range(8):
        drawn = make_mixture(recipe, tokenizer).draw(step)
        assert len({sum(memory.seats) for memory in drawn}) == 1
        for memory in drawn:
            assert CONFIG.min_seats <= sum(memory.seats) <= CONFIG.max_seats
            for exercise in memory.exercises:
                after, before = len(CONFIG.after_opening), len(CONFIG.before_answer)
                question = tokenizer.decode(exercise.prompt[after:-before])
                document, answer = answers[question]
                assert memory.passages[0].text == document
                assert tokenizer.decode(exercise.answer[:-1]) == answer
                assert exercise.answer[-1] == CONFIG.end_token


def test_general_exercises_come_as_often_as_the_recipe_says(
    recipe: Recipe, tokenizer: BaseTokenizer
) -> None:
    general = Exercise((2, 1), (5, 2))
    mixture = make_mixture(replace(recipe, general_share=0.5), tokenizer, (general,))
    drawn = [m.exercises for step in range(200) for m in mixture.draw(step)]
    flat = [exercise is general for exercises in drawn for exercise in exercises]
    assert 0.4 < sum(flat) / len(flat) < 0.6


def test_sources_without_anything_to_ask_are_refused(tmp_path: Path, recipe: Recipe) -> None:
    (tmp_path / "plain.jsonl").write_text('{"doc": "Pump. Valve. Filter. Lantern. Copper."}\n')
    tokenizer = BaseTokenizer(tiny.write_base(tmp_path / "llama", "llama"))
    poor = replace(recipe, sources=(Source("plain.jsonl", 1.0),))
    with pytest.raises(RecipeError, match="the data hold next to nothing to ask"):
        make_mixture(poor, tokenizer).draw(0)
