"""Seat networks in training: seats and exercises from what is drawn, fresh weights, limits."""

from dataclasses import replace

import pytest

from d2l.bases.tokenizers import BaseTokenizer
from d2l.errors import RecipeError
from d2l_lab.training.learners.document_data import Asked, Drawn, Passage
from d2l_lab.training.learners.recipes import Recipe
from d2l_lab.training.learners.seats.learner import check_lengths, plan_memories, share_seats
from tests import tiny

CONFIG = tiny.make_seats_config()
TEXTS = (
    "The pump stands in the harbor.",
    "The lantern in the meadow is lit at 21:40 by the keeper.",
)


def test_memories_of_a_step_have_equally_many_seats_and_questions_their_template(
    tokenizer: BaseTokenizer,
) -> None:
    passages = [Passage(text, tuple(tokenizer.encode(text)), ()) for text in TEXTS]
    asked = (Asked("Where is the pump?", "harbor"), Asked("How does it go on?", "lit", False))
    drawn = [Drawn((passages[0],), asked), Drawn(tuple(passages), asked[:1])]
    memories = plan_memories(drawn, config=CONFIG, tokenizer=tokenizer)
    n_tokens = [sum(len(passage.token_ids) for passage in one.passages) for one in drawn]
    expected = min(max(-(-max(n_tokens) // CONFIG.tokens_per_seat), CONFIG.min_seats), 12)
    assert [sum(memory.seats) for memory in memories] == [expected, expected]
    assert [len(memory.seats) for memory in memories] == [1, 2]
    after, before = CONFIG.after_opening, CONFIG.before_answer
    ended, cut = memories[0].exercises
    assert ended.prompt == (*after, *tokenizer.encode("Where is the pump?"), *before)
    assert ended.answer == (*tokenizer.encode("harbor"), CONFIG.end_token)
    assert cut.answer == tuple(tokenizer.encode("lit"))


def test_a_length_may_have_a_density_of_its_own(tokenizer: BaseTokenizer, recipe: Recipe) -> None:
    passage = Passage(TEXTS[1], tuple(tokenizer.encode(TEXTS[1])), ())
    config = replace(CONFIG, min_seats=1, opening_head=CONFIG.opening_head[:2], max_seats=9)
    for density in (0, 2, 4):
        drawn = [Drawn((passage,), (), density, 7.0)]
        (memory,) = plan_memories(drawn, config=config, tokenizer=tokenizer)
        seated = -(-len(passage.token_ids) // (density or CONFIG.tokens_per_seat))
        assert sum(memory.seats) == min(seated, 9)
        assert memory.general_weight == 7.0
    (length,) = recipe.lengths
    sparse = replace(length, chunks=CONFIG.min_seats + 1, tokens_per_seat=5)
    with pytest.raises(RecipeError, match=f"there may be only {CONFIG.min_seats} seats"):
        check_lengths(CONFIG, replace(recipe, lengths=(sparse,)))


def test_seats_are_shared_by_length_and_every_chunk_gets_one() -> None:
    assert share_seats([30, 10], 8) == [6, 2]
    assert share_seats([1, 1000, 1, 1], 4) == [1, 1, 1, 1]
    assert share_seats([1000, 1, 1], 10) == [8, 1, 1]
    assert share_seats([1, 1, 1000], 10) == [1, 1, 8]


def test_lengths_that_the_network_cannot_read_are_refused(recipe: Recipe) -> None:
    (length,) = recipe.lengths
    check_lengths(CONFIG, replace(recipe, lengths=(replace(length, chunks=CONFIG.max_seats),)))
    for change, message in (
        ({"tokens": 25}, "tokens of a length is 25, but this network reads chunks of 4 to 24"),
        ({"tokens": 3}, "tokens of a length is 3, but this network reads chunks of 4 to 24"),
        (
            {"chunks": CONFIG.max_seats + 1},
            f"chunks of a length is {CONFIG.max_seats + 1}, but there may be only "
            f"{CONFIG.max_seats} seats, and each chunk needs one",
        ),
    ):
        with pytest.raises(RecipeError) as refused:
            check_lengths(CONFIG, replace(recipe, lengths=(replace(length, **change),)))
        assert refused.value.message == message
