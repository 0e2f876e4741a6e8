"""Words for longer openings: which are candidates, how they are ranked, and which are taken."""

import random
from collections.abc import Callable

import pytest
import torch

from d2l.adapters.weights import Memory
from d2l.errors import CheckpointError
from d2l.hypernets.seats.network import Seats
from d2l.hypernets.seats.seating import record_inputs, solve_answers
from d2l.training.learners.seats import opening_words
from d2l.training.learners.seats.opening_words import (
    choose_words,
    list_candidates,
    measure_answers,
    rank_words,
)
from tests import tiny_seats

CONFIG = tiny_seats.make_config()
WORDS = (40, 41, 42, 43, 44, 45, 46, 47)


@pytest.fixture
def seats() -> Seats:
    return tiny_seats.make_seats()


@pytest.fixture
def make_memory() -> Callable[[int], Memory]:
    def make(n_seats: int) -> Memory:
        shape = (CONFIG.n_adapted_layers, n_seats, CONFIG.kv_heads * CONFIG.head_dim)
        generator = torch.Generator().manual_seed(n_seats)
        return Memory(*(torch.randn(shape, generator=generator) for _ in range(2)))

    return make


def test_candidates_are_a_space_and_a_few_plain_letters_and_none_of_the_commonest() -> None:
    words = [" too", " lantern", "lantern", " x1y", " naïve", " ox", " unforeseeably", " valve"]
    assert list_candidates(words, known={"lantern", "valve", "too", "ox"}) == [1, 7]


def test_answers_are_the_second_moments_seen_through_the_adapters_a(
    seats: Seats, make_memory: Callable[[int], Memory]
) -> None:
    opening, memory = CONFIG.opening(10), make_memory(10)
    found = measure_answers(seats, opening, memory)
    inputs = record_inputs(memory, seats.base_model, opening=opening, layers=CONFIG.memory_layers)
    a = solve_answers(inputs, seats.statistics.cholesky, epsilon=CONFIG.solve_epsilon)
    for index, answers in enumerate(found):
        moment = seats.statistics.second_moment(CONFIG.first_layer + index)
        expected = (a[index] @ moment @ a[index].T).diagonal()
        torch.testing.assert_close(answers, expected, rtol=1e-3, atol=0)


def test_words_that_are_answered_less_come_first(
    seats: Seats, make_memory: Callable[[int], Memory], monkeypatch: pytest.MonkeyPatch
) -> None:
    reports: list[tuple[int, int]] = []
    monkeypatch.setattr(opening_words, "_AGAIN", 30)
    monkeypatch.setattr(opening_words, "_BEST", 6)
    ranked = rank_words(
        seats, WORDS, 4, make_memory=make_memory, seed=0,
        watch=lambda *done: reports.append(done),
    )  # fmt: skip
    assert len(ranked) == len(set(ranked)) == 6
    assert reports == [(n, 62) for n in range(1, 63)]

    def leak(words: list[int]) -> float:
        """Mean of the new seats' answers, whatever their order."""
        found = []
        for _ in range(10):
            random.Random(len(found)).shuffle(words)
            opening = (*CONFIG.opening(CONFIG.max_seats), *words)
            answers = measure_answers(seats, opening, make_memory(len(opening) - 1))
            found.append(answers[:, -len(words) :].log().mean())
        return float(torch.stack(found).mean())

    left_out = [word for word in WORDS if word not in ranked]
    assert leak(ranked[:2]) < leak(ranked[-2:])
    assert leak(ranked[:2]) < leak(left_out)


class Letters:
    """A tokenizer of words, but " ab" followed by " cd" is one token of its own."""

    pieces = (" ab", " cd", " lantern", " lanterns", " valve", " ab cd", *" xyz")

    def encode(self, text: str) -> list[int]:
        ids = [self.pieces.index(f" {word}") for word in text.split()]
        return [5, *ids[2:]] if ids[:2] == [0, 1] else ids


def test_words_alike_and_words_that_merge_are_passed_over(seats: Seats) -> None:
    config = tiny_seats.make_config(opening_words=(0,), max_seats=CONFIG.min_seats + 1)
    seats.config = config
    tokenizer = Letters()
    chosen = choose_words(seats, [1, 2, 3, 4], 2, pieces=tokenizer.pieces, tokenizer=tokenizer)
    assert chosen == (2, 4)
    with pytest.raises(CheckpointError, match=r"only 2 words .* and 3 are wanted"):
        choose_words(seats, [1, 2, 3, 4], 3, pieces=tokenizer.pieces, tokenizer=tokenizer)
