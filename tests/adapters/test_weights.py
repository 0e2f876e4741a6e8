import math

import pytest
import torch

from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
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


@pytest.mark.parametrize(("keys", "values"), [((2, 5), (2, 5)), ((2, 5, 8), (2, 4, 8))])
def test_memory_that_does_not_fit_is_refused(keys, values):
    with pytest.raises(ShapeError, match=r"memory does not fit: keys \(2, 5"):
        Memory(torch.zeros(keys), torch.zeros(values))
