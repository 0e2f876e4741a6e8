"""Second moments measured with memories in place: of the right tokens, and of use."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from d2l.adapters.weights import Memory
from d2l.bases.activations import ActivationEncoder
from d2l.hypernets.seats.seating import answer, whiten
from d2l.hypernets.seats.second_moments import read_statistics, write_statistics
from d2l_lab.training.learners.document_data import Exercise
from d2l_lab.training.learners.seats.loss import (
    Batch,
    SeatedDecoder,
    measure_moments,
    write_memories,
)
from tests.tiny_seats import make_causal, make_config, make_network, make_statistics, record_inputs

CONFIG = make_config()
LAYERS, D_IN, FIRST = CONFIG.n_adapted_layers, CONFIG.hidden, CONFIG.first_layer
N_SEATS = 6
PROMPTS = ((2, 1, 33, 34, 35, 2, 1), (2, 1, 60, 2, 1), (2, 1, *range(30, 60), 2, 1))


@pytest.fixture
def causal() -> Any:
    return make_causal()


def make_batch(causal: Any) -> Batch:
    read = ActivationEncoder(causal.model, CONFIG.reading)
    chunk = read([*CONFIG.read_opening, *range(30, 50)]), N_SEATS
    exercises = [Exercise(prompt, (50, 51, 2)) for prompt in PROMPTS]
    return [[chunk], [chunk]], [exercises[:2], exercises[2:]]  # of unequal length: one is padded


def measure(causal: Any, decoder: SeatedDecoder) -> Tensor:
    return measure_moments(make_network(CONFIG), decoder, [make_batch(causal)])


def test_every_token_behind_an_opening_counts_once_and_no_padding(causal: Any) -> None:
    decoder = SeatedDecoder(causal, make_statistics(CONFIG), CONFIG)
    moments = measure(causal, decoder)
    assert decoder.watch is None  # training goes on without
    memories, exercises = make_batch(causal)
    expected = torch.zeros(LAYERS, D_IN, D_IN, dtype=torch.float64)
    for memory, group in zip(memories, exercises, strict=True):  # alone, nothing is padded
        n_tokens = sum(len(one.prompt) + len(one.answer) - 1 for one in group)
        alone = measure_moments(make_network(CONFIG), decoder, [([memory], [group])])
        expected += alone * n_tokens
    total = sum(len(one.prompt) + len(one.answer) - 1 for group in exercises for one in group)
    torch.testing.assert_close(moments, expected / total, rtol=1e-4, atol=1e-6)


def test_the_file_holds_what_was_measured(causal: Any, tmp_path: Path) -> None:
    moments = measure(causal, SeatedDecoder(causal, make_statistics(CONFIG), CONFIG))
    write_statistics(tmp_path / "s.safetensors", moments)
    read = read_statistics(
        tmp_path / "s.safetensors", layers=CONFIG.memory_layers, d_in=D_IN, ridge=0.0
    )
    for index in range(LAYERS):
        largest = float(moments[index].abs().max())
        found = read.second_moment(FIRST + index)
        torch.testing.assert_close(found, moments[index], rtol=0, atol=1e-3 * largest)


def test_seats_answer_what_was_measured_less_than_with_other_statistics(
    causal: Any, tmp_path: Path
) -> None:
    given = make_statistics(CONFIG)
    decoder = SeatedDecoder(causal, given, CONFIG)
    moments = measure(causal, decoder)
    write_statistics(tmp_path / "s.safetensors", moments)
    own = read_statistics(
        tmp_path / "s.safetensors", layers=CONFIG.memory_layers, d_in=D_IN, ridge=1e-3
    )
    memories, _ = make_batch(causal)
    keys, values = write_memories(make_network(CONFIG), memories)
    inputs = record_inputs(
        Memory(keys[0].detach(), values[0].detach()),
        causal.model,
        opening=CONFIG.opening(N_SEATS),
        layers=CONFIG.memory_layers,
    )
    leaks = []
    for statistics in (given, own):
        factors = statistics.cholesky
        solved = whiten(inputs, factors, epsilon=CONFIG.solve_epsilon)
        answers = answer(*solved, factors)
        leaks.append(float((answers @ moments @ answers.mT).diagonal(dim1=1, dim2=2).mean()))
    assert leaks[1] < 0.9 * leaks[0]
