"""Gates of an opening's words: open for one word each, within few directions for many words."""

import pytest
import torch

from d2l.hypernets.seats.addresses import read_inputs
from d2l.hypernets.seats.network import Seats
from d2l.training.seats import gates
from d2l.training.seats.gates import Gate, find_gate
from tests.tiny_seats import make_base, make_config, make_network, make_statistics


def make_seats() -> Seats:
    config = make_config()
    return Seats(config, make_network(config), make_statistics(config), make_base())


def draw_text(n_tokens: int) -> list[int]:
    generator = torch.Generator().manual_seed(3)
    return torch.randint(40, 60, (n_tokens,), generator=generator).tolist()


def open_gates(seats: Seats, gate: Gate, text: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """What gates get of the opening's words, and of text behind it."""
    config = seats.config
    opening = config.opening(config.max_seats)
    states = read_inputs(seats.base_model, 0, (*opening, *text))  # norms' weights are one
    opened = states @ gate.detect.T  # (tokens, words)
    return opened[1 + config.min_seats : len(opening)], opened[len(opening) :]


def test_a_gate_opens_for_its_word_alone() -> None:
    seats, text = make_seats(), draw_text(3_000)
    gate = find_gate(seats, text[:2_800], layer=0)
    assert len(set(gate.neurons)) == len(gate.detect) == len(seats.config.opening_words)
    assert gate.rank == 0
    own, behind = open_gates(seats, gate, text[2_800:])
    closed = own[~torch.eye(len(own), dtype=torch.bool)]
    wide = 100 * (1 - gates._THRESHOLD)
    torch.testing.assert_close(own.diagonal(), torch.full((len(own),), wide), atol=0.5, rtol=0)
    assert float(closed.max()) < -50
    assert float((behind > 0).float().mean()) < 0.05  # of random words in so few dimensions


def test_text_adds_least_by_the_neurons_that_are_taken() -> None:
    up = torch.tensor([[9.0, 1.0, 5.0, 0.1], [9.0, 2.0, 4.0, 0.1]])
    uses = torch.tensor([100.0, 1.0, 2.0, 3.0])
    assert gates._choose_neurons(up, uses)[0] == 0  # two words of four neurons: all are spare
    uses, up = uses.repeat(2), up.repeat(1, 2)
    chosen = gates._choose_neurons(up, uses)
    assert chosen == (2, 6)  # the strongest but for those that text needs most


def test_gates_of_many_words_share_few_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    seats, text = make_seats(), draw_text(300)
    monkeypatch.setattr(gates, "_STEPS", 10)
    gate = find_gate(seats, text, layer=0, rank=6)
    n_words = len(seats.config.opening_words)
    assert (gate.rank, len(set(gate.neurons))) == (6, n_words)
    values = torch.linalg.svdvals(gate.detect)
    assert float(values[5]) > 1e-2 * float(values[0])
    assert float(values[6]) < 1e-5 * float(values[0])
    assert torch.equal(gate.detect, find_gate(seats, text, layer=0, rank=6).detect)
    assert find_gate(seats, text, layer=0, rank=n_words).rank == 0


def test_few_directions_tell_many_words_from_all_else() -> None:
    generator = torch.Generator().manual_seed(8)

    def draw(n: int) -> torch.Tensor:
        return torch.randn(n, 96, generator=generator).double() + 1.0

    text, pieces, unseen = draw(1_500), draw(500), draw(1_000)
    opening = torch.cat([draw(5), 3 * draw(30)])  # words that are rare in texts stand out
    moments = text.mT @ text / len(text)
    states = gates._States(opening, text, moments)
    rows = gates._learn(states, pieces, n_head=4, rank=12, seed=0)
    answers = opening @ rows.mT  # (sink, head and words; words)
    itself = torch.cat([torch.zeros(5, 30, dtype=torch.bool), torch.eye(30, dtype=torch.bool)])
    assert float(answers[itself].min()) > 15
    assert float(answers[~itself].max()) < -10
    assert float((torch.cat([text, pieces]) @ rows.mT).max()) < 0
    assert float((unseen @ rows.mT > 0).double().mean()) < 0.001


def test_pieces_next_to_words_are_among_those_that_gates_are_closed_for() -> None:
    config = make_config()
    embeddings = torch.randn(64, 8, generator=torch.Generator().manual_seed(5))
    word = config.opening_words[0]
    embeddings[50] = 0.9 * embeddings[word]  # in the same direction
    drawn = gates._draw_pieces(embeddings, config, seed=1)
    assert drawn.count(50) >= 2
    assert not set(drawn) & set(config.opening(config.max_seats))
