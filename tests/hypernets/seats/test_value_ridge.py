"""Values of seats that give way to ordinary text: `value_ridge`."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from d2l.adapters.weights import LoraWeights, Memory
from d2l.hypernets.seats.seating import soften
from tests.hypernets.seats.test_seating import OPENING, seat, watch_projections
from tests.tiny_seats import (
    make_base,
    make_causal,
    make_config,
    make_memory,
    make_statistics,
    record_inputs,
)

RIDGE = 2.0


def answer_text(weights: LoraWeights, name: str) -> list[float]:
    """What ordinary text gets of seats in a projection, by layer: tr(B A C Aᵀ Bᵀ)."""
    found = []
    for layer in (1, 2):
        factors = weights.factors[f"model.layers.{layer}.self_attn.{name}"]
        change = factors.b.double() @ factors.a.double()
        moment = make_statistics().second_moment(layer)
        found.append(float((change @ moment @ change.T).trace()))
    return found


def make_leak() -> Tensor:
    states = torch.randn(5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    return torch.linalg.inv(states @ states.T)


def test_what_is_lacking_softened_is_the_least_of_its_formula() -> None:
    leak = make_leak()
    lacking = torch.randn(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    softened = soften(lacking, leak, ridge=RIDGE).requires_grad_()
    cost = (softened.T @ leak @ softened).trace() + (softened - lacking).square().sum() / RIDGE
    (slope,) = torch.autograd.grad(cost, softened)
    assert float(slope.abs().max()) < 1e-12
    assert float((softened.detach() - lacking).norm()) > 0.1 * float(lacking.norm())


def test_layers_are_softened_one_by_one() -> None:
    """A batch of layers, as training has it."""
    leak = torch.stack([make_leak(), 2 * make_leak()])
    lacking = torch.randn(2, 5, 3, dtype=torch.float64)
    both = soften(lacking, leak, ridge=RIDGE)
    for index in range(2):
        torch.testing.assert_close(both[index], soften(lacking[index], leak[index], ridge=RIDGE))


def test_seats_get_exact_keys_and_softened_values_through_peft(
    with_peft: Callable[[Any, LoraWeights], Any],
) -> None:
    """In the lowest layer against the formula as it is written, with a dense inverse of C."""
    causal, memory = make_causal(), make_memory()
    bare = watch_projections(causal, OPENING)
    tuned = with_peft(causal, seat(make_base(), memory, value_ridge=RIDGE))
    seen = watch_projections(tuned, OPENING)
    for layer in (1, 2):
        keys = seen[f"base_model.model.model.layers.{layer}.self_attn.k_proj"]
        torch.testing.assert_close(keys[1:], memory.keys[layer - 1], rtol=0, atol=2e-4)
    h = record_inputs(memory, make_base(), opening=OPENING, layers=(1, 2))[0]
    inverse = torch.linalg.inv(make_statistics().second_moment(1))
    gram = h @ inverse @ h.T + make_config().solve_epsilon * torch.eye(len(h), dtype=h.dtype)
    leak = torch.linalg.inv(gram)[1:, 1:]
    own = bare["model.layers.1.self_attn.v_proj"]
    lacking = memory.values[0].double() - own[1:].double()
    softened = torch.linalg.inv(torch.eye(len(leak)) + RIDGE * leak) @ lacking
    values = seen["base_model.model.model.layers.1.self_attn.v_proj"]
    torch.testing.assert_close(values[1:], (own[1:] + softened).float(), rtol=0, atol=2e-4)
    torch.testing.assert_close(values[0], own[0], rtol=0, atol=2e-4)  # the sink
    assert not torch.allclose(values[1:], memory.values[0], atol=1e-2)


@pytest.mark.parametrize("ridge", [0.1, RIDGE, 20.0])
def test_ordinary_text_gets_less_of_values_and_the_same_of_keys(ridge: float) -> None:
    exact, yielding = seat(make_base()), seat(make_base(), value_ridge=ridge)
    lowest = (answer_text(one, "k_proj")[0] for one in (exact, yielding))
    assert next(lowest) == pytest.approx(next(lowest), rel=1e-6)
    pairs = zip(answer_text(exact, "v_proj"), answer_text(yielding, "v_proj"), strict=True)
    assert all(less < more for more, less in pairs)


def test_higher_layers_see_the_softened_values() -> None:
    """Their seats are told from states that the adapter makes, not from those of the memory."""
    base, memory = make_base(), make_memory()
    weights = seat(base, memory, value_ridge=RIDGE)
    value = weights.factors["model.layers.1.self_attn.v_proj"]
    h = record_inputs(memory, base, opening=OPENING, layers=(1, 2))[0]
    own = h[1:] @ base.get_parameter("layers.1.self_attn.v_proj.weight").double().T
    got = Memory(memory.keys, memory.values.clone())
    got.values[0] = (own + value.b.double().T).float()
    states = record_inputs(got, base, opening=OPENING, layers=(1, 2))[1]
    answers = states @ weights.factors["model.layers.2.self_attn.k_proj"].a.double().T
    expected = torch.eye(len(OPENING), dtype=torch.float64)[:, 1:]
    torch.testing.assert_close(answers, expected, rtol=0, atol=1e-4)
