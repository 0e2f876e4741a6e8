"""Adapters of seats at the lowest rank: the same deltas in fewer numbers, and who says so."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from d2l.adapters.info import read_info
from d2l.adapters.lowest_rank import find_lowest, lower_rank
from d2l.adapters.merge_methods import compress
from d2l.adapters.peft_folder import read_adapter, read_memory
from d2l.adapters.weights import LoraFactors, LoraWeights, pad_factors
from tests.compiled import Compiled

K, V, DOWN = (
    f"model.layers.1.{one}" for one in ("self_attn.k_proj", "self_attn.v_proj", "mlp.down_proj")
)


def make_weights(rank: int = 30, scale: float = 1.0) -> LoraWeights:
    generator = torch.Generator().manual_seed(3)

    def draw(d_in: int, d_out: int, own: int) -> LoraFactors:
        a, b = (
            torch.randn(own, d_in, generator=generator),
            torch.randn(d_out, own, generator=generator),
        )
        return pad_factors(LoraFactors(a, b), rank)

    return LoraWeights(
        "base", scale, {K: draw(64, 16, rank), V: draw(64, 16, rank), DOWN: draw(96, 64, 5)}
    )


def find_delta(weights: LoraWeights, name: str) -> torch.Tensor:
    factors = weights.factors[name]
    return weights.scale * factors.b.double() @ factors.a.double()


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_no_module_has_more_ranks_than_outputs_and_deltas_stay(scale: float) -> None:
    weights = make_weights(scale=scale)
    lower = lower_rank(weights)
    assert (weights.rank, lower.rank, find_lowest(weights)) == (30, 16, 16)
    for name in weights.factors:
        torch.testing.assert_close(
            find_delta(lower, name), find_delta(weights, name), rtol=1e-6, atol=1e-5
        )
    assert torch.equal(lower.factors[K].b, torch.eye(16))
    assert torch.equal(lower.factors[DOWN].a[:5], weights.factors[DOWN].a[:5])
    assert not lower.factors[DOWN].a[5:].any()
    assert lower_rank(lower) is lower


def test_what_another_module_uses_is_kept() -> None:
    weights = make_weights()
    wide = replace(weights, factors=weights.factors | {DOWN: make_weights().factors[DOWN]})
    wide.factors[DOWN].a[5:20] = 1.0
    wide.factors[DOWN].b[:, 5:20] = torch.randn(64, 15, generator=torch.Generator().manual_seed(4))
    lower = lower_rank(wide)
    assert lower.rank == 20
    for name in wide.factors:
        torch.testing.assert_close(
            find_delta(lower, name), find_delta(wide, name), rtol=1e-6, atol=1e-5
        )


def test_fewer_inputs_than_outputs_bound_the_rank_too() -> None:
    generator = torch.Generator().manual_seed(5)
    factors = LoraFactors(
        torch.randn(9, 4, generator=generator), torch.randn(20, 9, generator=generator)
    )
    lower = lower_rank(LoraWeights("base", 1.0, {K: factors}))
    assert lower.rank == 4
    torch.testing.assert_close(lower.factors[K].b @ lower.factors[K].a, factors.b @ factors.a)


@pytest.mark.parametrize("rank", [1, 16])
def test_adapters_of_few_seats_stay_as_they_are(rank: int) -> None:
    weights = make_weights(rank) if rank > 5 else compress(make_weights(), 1)[0]
    assert lower_rank(weights) is weights


def test_half_precision_rounds_less_of_it() -> None:
    weights = make_weights()
    lower = lower_rank(weights)

    def lose(some: LoraWeights) -> float:
        factors = some.factors[K]
        a, b = (one.bfloat16().double() for one in (factors.a, factors.b))
        return float((b @ a - find_delta(weights, K)).norm() / find_delta(weights, K).norm())

    assert lose(lower) < 0.8 * lose(weights)


def test_a_folder_tells_ranks_from_seats(compiled: Callable[[str], Compiled]) -> None:
    done = compiled("seats")
    info = read_info(done.adapter)
    made = info.provenance
    assert made is not None
    n_seats, width = done.plan.rank, done.plan.config.kv_heads * done.plan.config.head_dim
    assert n_seats > width
    assert (made.rank, made.seats, info.config["r"], info.config["lora_alpha"]) == (
        width,
        n_seats,
        width,
        width,
    )
    assert read_adapter(done.adapter).rank == done.plan.file_rank == width
    assert read_memory(done.adapter).n_seats == n_seats
    stored = (done.adapter / "adapter_model.safetensors").stat().st_size
    assert 0 <= stored - done.plan.adapter_bytes < 4_000  # the header
    assert f"| rank | {width}, on " in (done.adapter / "README.md").read_text("utf-8")
