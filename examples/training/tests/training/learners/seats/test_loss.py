"""The loss of training against the exported adapter, run by PEFT one question at a time."""

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from d2l.adapters.weights import LoraWeights
from d2l.bases.activations import ActivationEncoder
from d2l.hypernets.options import MergeOptions
from d2l.hypernets.seats.network import Seats
from d2l_lab.training.learners.document_data import Exercise
from d2l_lab.training.learners.seats.loss import (
    ReadChunk,
    SeatedDecoder,
    batch_loss,
    measure_loss,
    pack_exercises,
)
from tests.tiny_seats import (
    make_addressed_config,
    make_causal,
    make_config,
    make_narrow_config,
    make_network,
    make_shared_config,
    make_statistics,
    make_yielding_config,
)

CONFIG = make_config()
CHUNKS = (tuple(range(30, 47)), tuple(range(40, 60, 2)))
SEATS = (4, 3)
EXERCISES = (
    Exercise((2, 1, 33, 34, 35, 2, 1), (50, 51, 2)),
    Exercise((2, 1, 60, 2, 1), (44, 2)),
    Exercise((2, 1, 55, 56, 57, 58, 2, 1), (31,)),
)


@pytest.fixture
def causal() -> Any:
    return make_causal()


@pytest.fixture(
    params=[
        CONFIG,
        make_shared_config(),
        make_narrow_config(),
        make_yielding_config(),
        make_addressed_config(),
    ],
    ids=["seats", "and shared LoRA", "in some layers", "values that give way", "addressed"],
)
def seats(causal: Any, request: pytest.FixtureRequest) -> Seats:
    config = request.param
    return Seats(config, make_network(config), make_statistics(config), causal.model)


def read_chunks(seats: Seats) -> list[ReadChunk]:
    read = ActivationEncoder(seats.base_model, seats.config.reading)
    return [(read([*CONFIG.read_opening, *ids]), n) for ids, n in zip(CHUNKS, SEATS, strict=True)]


def ask_alone(model: Any, exercise: Exercise, n_seats: int) -> Tensor:
    """Logits (tokens, vocabulary) that predict an answer, from a plain run of a model."""
    prompt = (*CONFIG.opening(n_seats), *exercise.prompt)
    ids = torch.tensor([[*prompt, *exercise.answer[:-1]]])
    with torch.no_grad():
        return model(input_ids=ids).logits[0, len(prompt) - 1 :]


def test_loss_is_that_of_the_exported_adapter_in_peft(
    causal: Any, seats: Seats, with_peft: Callable[[Any, LoraWeights], Any]
) -> None:
    chunks = read_chunks(seats)
    decoder = SeatedDecoder(causal, seats.statistics, seats.config)
    with torch.no_grad():
        loss = batch_loss(seats.network, decoder, [chunks], [EXERCISES])
    parts = [seats.generate(*chunk) for chunk in chunks]
    tuned = with_peft(causal, seats.assemble(parts, MergeOptions()).weights)
    expected, right = [], []
    for exercise in EXERCISES:
        logits = ask_alone(tuned, exercise, sum(SEATS))
        answer = torch.tensor(exercise.answer)
        chances = logits.log_softmax(-1).gather(1, answer[:, None])
        expected.append(-float(chances.mean()))
        right.append(float((logits.argmax(-1) == answer).float().mean()))
    assert loss.losses.tolist() == pytest.approx(expected, abs=1e-4)  # fp32, other order of sums
    assert loss.right.tolist() == pytest.approx(right)
    assert float(loss.total) == pytest.approx(sum(expected) / len(expected), abs=1e-4)


def test_memories_of_a_batch_do_not_see_each_other(causal: Any, seats: Seats) -> None:
    decoder = SeatedDecoder(causal, seats.statistics, seats.config)
    first, second = read_chunks(seats)
    second = second[0], first[1]
    with torch.no_grad():
        both = batch_loss(
            seats.network, decoder, [[first], [second]], [EXERCISES[:1], EXERCISES[1:]]
        )
        alone = [
            batch_loss(seats.network, decoder, [[first]], [EXERCISES[:1]]),
            batch_loss(seats.network, decoder, [[second]], [EXERCISES[1:]]),
        ]
    separate = torch.cat([loss.losses for loss in alone])
    torch.testing.assert_close(both.losses, separate, atol=1e-5, rtol=1e-5)


def test_every_parameter_learns_and_the_base_does_not(causal: Any, seats: Seats) -> None:
    network = seats.network.requires_grad_(True)
    decoder = SeatedDecoder(causal, seats.statistics, seats.config)
    batch_loss(network, decoder, [read_chunks(seats)], [EXERCISES]).total.backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        if name not in ("anchor_key.bias",):  # the same for every token: softmax cancels it
            assert float(parameter.grad.abs().max()) > 0, name
    assert all(parameter.grad is None for parameter in causal.parameters())


def test_the_gradient_is_that_of_the_whole_adapter(causal: Any, seats: Seats) -> None:
    """Of A as well: what a step along it gains is what it promises."""
    network = copy.deepcopy(seats.network).requires_grad_(True)
    decoder = SeatedDecoder(causal, seats.statistics, seats.config)

    def lose() -> Tensor:
        return batch_loss(network, decoder, [read_chunks(seats)], [EXERCISES]).total

    lose().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    norm = math.sqrt(sum(float(one.pow(2).sum()) for one in gradients if one is not None))
    step = 1e-3

    def move(by: float) -> None:
        with torch.no_grad():
            for parameter, one in zip(network.parameters(), gradients, strict=True):
                if one is not None:
                    parameter.add_(one, alpha=by / norm)

    move(step)
    above = float(lose().detach())
    move(-2 * step)
    below = float(lose().detach())
    assert (above - below) / (2 * step) == pytest.approx(norm, rel=0.02)


def test_exercises_stand_behind_the_opening_at_their_own_positions() -> None:
    opening = CONFIG.opening(4)
    batch = pack_exercises([EXERCISES[:2], EXERCISES[2:]], opening, pad=0)
    n_first = len(EXERCISES[0].prompt) + len(EXERCISES[0].answer) - 1
    start = len(opening)
    assert batch.positions[0, : start + n_first].tolist() == list(range(start + n_first))
    assert int(batch.positions[0, start + n_first]) == start  # the second begins anew
    mask = batch.mask[0, 0]
    assert mask[start + n_first, :start].all()  # it sees the opening
    assert not mask[start + n_first, start : start + n_first].any()  # and not the first
    assert batch.mask.any(dim=-1).all()  # padding included, or attention would give NaN
    flat = batch.ids.flatten()
    predicted = [flat[rows + 1].tolist()[:-1] for rows in batch.rows]
    assert predicted == [list(exercise.answer[:-1]) for exercise in EXERCISES]


def test_general_exercises_are_scored_by_divergence_from_their_reference() -> None:
    logits = torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    reference = torch.tensor([[0.5, 0.25, 0.25]]).log()
    exercises = [Exercise((1,), (0,), general=True, reference=reference), Exercise((1,), (0,))]
    loss = measure_loss(logits, exercises, general_weight=3.0)
    divergence = 0.5 * math.log(1.5) + 2 * 0.25 * math.log(0.75)
    entropy = math.log(math.exp(2) + 2) - 2
    assert loss.losses.tolist() == pytest.approx([divergence, entropy], abs=1e-6)
    assert float(loss.total) == pytest.approx((3 * divergence + entropy) / 2, abs=1e-6)
    heavy = measure_loss(logits, [exercises[0], replace(exercises[1], weight=5.0)])
    assert float(heavy.total) == pytest.approx((divergence + 5 * entropy) / 2, abs=1e-6)
    assert heavy.losses.tolist() == loss.losses.tolist()
    silent = measure_loss(reference, exercises[:1])
    assert float(silent.total) == pytest.approx(0, abs=1e-6)  # nothing moved, nothing lost
