import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from d2l.adapters import weights
from d2l.adapters.weights import LoraFactors, LoraWeights, Memory, delta_norm
from d2l.errors import ShapeError


def factors(rank=2, d_in=3, d_out=4):
    return LoraFactors(torch.ones(rank, d_in), torch.ones(d_out, rank))


@pytest.mark.parametrize(("a", "b"), [((2, 3), (4, 3)), ((2,), (4, 2)), ((2, 3, 1), (4, 2))])
def test_factors_that_do_not_fit_are_refused(a, b):
    with pytest.raises(ShapeError) as raised:
        LoraFactors(torch.zeros(a), torch.zeros(b))
    assert raised.value.message == (
        f"LoRA factors do not fit: a {a}, b {b}, expected (rank, d_in) and (d_out, rank)"
    )


@pytest.mark.parametrize(
    ("scale", "modules", "message"),
    [
        (1.0, {}, "LoRA weights without any module"),
        (1.0, {"m": factors(2), "n": factors(3)}, "LoRA weights of different ranks: [2, 3]"),
        (math.nan, {"m": factors()}, "LoRA scale is not a finite number: nan"),
        (math.inf, {"m": factors()}, "LoRA scale is not a finite number: inf"),
    ],
)
def test_weights_that_are_not_well_formed_are_refused(scale, modules, message):
    with pytest.raises(ShapeError) as raised:
        LoraWeights("base", scale, modules)
    assert raised.value.message == message


def test_delta_norm_is_the_norm_of_the_dense_delta():
    torch.manual_seed(0)
    made = LoraFactors(torch.randn(3, 7), torch.randn(5, 3))
    wanted = (-2.5 * made.b.double() @ made.a.double()).norm()
    assert delta_norm(made, -2.5) == pytest.approx(float(wanted))


@pytest.mark.parametrize(("rank", "d_in", "d_out"), [(3, 7, 5), (40, 60, 50), (90, 12, 8)])
@pytest.mark.parametrize("few_steps", [0, 1 << 28])
@pytest.mark.parametrize("cancels", [False, True])
def test_delta_norm_is_right_to_six_digits_by_every_way(
    rank, d_in, d_out, few_steps, cancels, monkeypatch
):
    """By factors, some ranks at a time, and by the delta; in float32 where that is enough."""
    monkeypatch.setattr(weights, "_FEW_STEPS", few_steps)
    monkeypatch.setattr(weights, "_ROWS", 16)
    torch.manual_seed(0)
    a, b = torch.randn(rank, d_in), torch.randn(d_out, rank) + 0.5
    if cancels:
        a, b = torch.cat([a, a * 1.001]), torch.cat([b, -b], dim=1)
    wanted = float((b.double() @ a.double()).norm())
    assert delta_norm(LoraFactors(a, b)) == pytest.approx(wanted, rel=2e-6)


def test_steps_of_a_norm_grow_no_faster_than_the_rank():
    def count(rank):
        with FlopCounterMode(display=False) as counter:
            delta_norm(LoraFactors(torch.randn(rank, 60), torch.randn(50, rank)))
        return counter.get_total_flops()

    assert count(800) <= 2 * count(400) <= 2 * (2 * 400 * 60 * 50)


def test_delta_norm_of_factors_that_cancel_is_nothing():
    row = torch.randn(1, 7)
    made = LoraFactors(torch.cat([row, row]), torch.tensor([[1.0, -1.0]]))
    assert delta_norm(made) == 0


@pytest.mark.parametrize(("keys", "values"), [((2, 5), (2, 5)), ((2, 5, 8), (2, 4, 8))])
def test_memory_that_does_not_fit_is_refused(keys, values):
    with pytest.raises(ShapeError, match=r"memory does not fit: keys \(2, 5"):
        Memory(torch.zeros(keys), torch.zeros(values))
