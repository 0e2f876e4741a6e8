"""What training draws: passages with the questions they answer, the same on every run."""

import hashlib
import random
from dataclasses import replace
from pathlib import Path

import pytest

from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.silence import SILENCE
from d2l_lab.questions import AskedText
from d2l_lab.training.learners.document_data import (
    Asked,
    Exercise,
    Mixture,
    Passage,
    choose_questions,
    cut_passages,
    make_recitation,
)
from d2l_lab.training.learners.passage_store import PassageStore, build_pools
from d2l_lab.training.learners.recipes import Recipe
from d2l_lab.training.recipe_files import read_recipe
from examples.training.tests.toy import ROWS, change, write_data, write_recipe
from tests import tiny

CONFIG = tiny.make_seats_config()


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
    return Mixture(pools, recipe, recipe.seats, general)


def test_a_question_goes_with_the_only_passage_that_answers_it(tokenizer: BaseTokenizer) -> None:
    text = "The pump is in the harbor 3 times. The lantern is in the meadow 3 times."
    questions = (("Where is the pump?", "harbor"), ("Where?", "the meadow"), ("How often?", "3"))
    first, second = cut_passages(
        [AskedText(text, questions)], tokenizer=tokenizer, limit=24, minimum=4
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


def test_questions_are_about_the_passages_they_come_with(
    recipe: Recipe, tokenizer: BaseTokenizer
) -> None:
    documents = {row["question"]: (row["doc"], row["answers"][0]) for row in ROWS}
    for step in range(8):
        for drawn in make_mixture(recipe, tokenizer).draw(step):
            assert len(drawn.passages) == 1
            assert len(set(drawn.asked)) == len(drawn.asked) == 2
            for asked in drawn.asked:
                assert isinstance(asked, Asked)
                assert documents[asked.question] == (drawn.passages[0].text, asked.answer)
                assert asked.complete


def test_general_exercises_come_as_often_as_the_recipe_says(
    recipe: Recipe, tokenizer: BaseTokenizer
) -> None:
    general = Exercise((2, 1), (5, 2))
    mixture = make_mixture(change(recipe, general_share=0.5), tokenizer, (general,))
    drawn = [one.asked for step in range(200) for one in mixture.draw(step)]
    flat = [asked is general for several in drawn for asked in several]
    assert 0.4 < sum(flat) / len(flat) < 0.6


def test_a_length_may_weigh_general_prompts_as_it_likes(
    recipe: Recipe, tokenizer: BaseTokenizer
) -> None:
    (length,) = recipe.lengths
    lengths = (length, replace(length, chunks=2, general_weight=7.0))
    mixture = make_mixture(change(recipe, lengths=lengths, general_weight=3.0), tokenizer)
    drawn = [one for step in range(30) for one in mixture.draw(step)]
    assert {(len(one.passages), one.general_weight) for one in drawn} == {(1, 3.0), (2, 7.0)}


def test_clozes_come_as_often_as_the_recipe_says(recipe: Recipe) -> None:
    text = "The mill at Harrowgate was built in 1842 by Josiah Pell and his sons."
    passage = Passage(text, tuple(range(20)), tuple((f"Question {n}?", "1842") for n in range(8)))
    pool = PassageStore.from_passages([passage])
    pools = {length.tokens: [(1.0, pool)] for length in recipe.lengths}
    wanted = change(recipe, recitation_share=0.2, cloze_share=0.5)
    mixture = Mixture(pools, wanted, wanted.seats)
    asked = [one for step in range(200) for drawn in mixture.draw(step) for one in drawn.asked]
    clozes = [
        one.answer in {"Harrowgate", "1842", "Josiah Pell"}
        and not one.question.startswith("Question ")
        for one in asked
        if isinstance(one, Asked)
    ]
    assert 0.4 < sum(clozes) / len(clozes) < 0.6


def test_unanswerable_questions_are_those_of_neighbors_that_no_passage_answers(
    recipe: Recipe,
) -> None:
    passages = [
        Passage("The mill was built by Pell.", (1, 2), (("Who built the mill?", "Pell"),), "town"),
        Passage("The tower stands in Moor.", (3, 4), (("Where is the tower?", "Moor"),), "town"),
        Passage("Moor has a tower of Pell.", (5, 6), (("Whose tower is it?", "Pell"),), "town"),
        Passage("The owl eats mice.", (7, 8), (("What does it eat?", "mice"),), "bird"),
    ]
    pool = PassageStore.from_passages(passages)
    pools = {length.tokens: [(1.0, pool)] for length in recipe.lengths}
    wanted = change(recipe, unanswerable_share=0.5, unanswerable_weight=3.0)
    mixture = Mixture(pools, wanted, wanted.seats)
    silent = {
        (drawn.passages[0].text, asked.question)
        for step in range(200)
        for drawn in mixture.draw(step)
        for asked in drawn.asked
        if isinstance(asked, Asked) and asked.answer == SILENCE
    }
    every = [asked for step in range(9) for one in mixture.draw(step) for asked in one.asked]
    weights = {asked.weight for asked in every if getattr(asked, "answer", None) == SILENCE}
    assert weights == {3.0}
    mill, tower, _, owl = (passage.text for passage in passages)
    beside = {(owl, question) for passage in passages[:3] for question, _ in passage.questions}
    assert silent == beside | {
        (mill, "Where is the tower?"),
        (tower, "Who built the mill?"),
        (tower, "Whose tower is it?"),
    }


def test_a_length_may_ask_what_is_not_answered_as_often_as_it_likes(recipe: Recipe) -> None:
    texts = ("The mill was built by Pell.", "The tower stands in Moor.", "An owl sits on the roof.")
    questions = ("Who built the mill?", "Where is the tower?", "What sits on the roof?")
    answers = ("Pell", "Moor", "An owl")
    passages = [
        Passage(text, (1, 2), (asked,), "town")
        for text, asked in zip(texts, zip(questions, answers, strict=True), strict=True)
    ]
    (length,) = recipe.lengths
    lengths = (
        length,
        replace(length, chunks=2, unanswerable_share=1.0),
        replace(length, chunks=3, unanswerable_share=0.0),
    )
    wanted = change(recipe, unanswerable_share=0.1, lengths=lengths)
    pools = {length.tokens: [(1.0, PassageStore.from_passages(passages))]}
    shares: dict[int, list[bool]] = {1: [], 2: [], 3: []}
    for step in range(300):
        for drawn in Mixture(pools, wanted, wanted.seats).draw(step):
            silent = [getattr(asked, "answer", None) == SILENCE for asked in drawn.asked]
            shares[len(drawn.passages)] += silent
    assert 0.05 < sum(shares[1]) / len(shares[1]) < 0.15
    assert sum(shares[2]) / len(shares[2]) > 0.9  # of some pairs, no question is left
    assert not any(shares[3])


def test_questions_without_their_documents_are_drawn_once_each(
    recipe: Recipe, tokenizer: BaseTokenizer
) -> None:
    pools = make_mixture(recipe, tokenizer).passages
    known = {
        question for _, found in pools[min(pools)] for p in found for question, _ in p.questions
    }
    chosen = choose_questions(pools, 3, seed=1)
    assert len(set(chosen)) == len(chosen) == 3
    assert set(chosen) <= known
    assert choose_questions(pools, 3, seed=1) == chosen
    assert set(choose_questions(pools, 100, seed=1)) == known
    assert choose_questions(pools, 0, seed=1) == []


def test_draws_of_documents_stay_what_they_were(recipe: Recipe, tokenizer: BaseTokenizer) -> None:
    """A run that goes on with a later version has the curve of one that was never stopped. The
    digest was taken when questions without an answer began to be asked of passages that have no
    neighbor in a group of their own, and documents to be kept in their file's order."""
    shares = {"recitation_share": 0.3, "cloze_share": 0.2, "general_share": 0.2}
    wanted = change(recipe, unanswerable_share=0.1, **shares)
    mixture = make_mixture(wanted, tokenizer, (Exercise((1,), (2,), general=True),))
    drawn = [
        [
            (
                one.passages,
                ["general" if isinstance(asked, Exercise) else asked for asked in one.asked],
                one.tokens_per_seat,
                one.general_weight,
            )
            for one in mixture.draw(step)
        ]
        for step in range(50)
    ]
    assert hashlib.sha256(repr(drawn).encode()).hexdigest()[:16] == "77a1e3978b508f0f"
