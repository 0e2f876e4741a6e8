"""Sums and slices against dense arithmetic in float64."""

import pytest
import torch

from d2l.adapters.deltas import combine, fill_gaps, keep_ranks
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.errors import MergeError

SIZES = {"q_proj": (6, 8), "v_proj": (4, 8), "down_proj": (8, 12)}  # (d_out, d_in)


def make(
    modules: tuple[str, ...],
    rank: int,
    *,
    scale: float = 1.0,
    layers: tuple[int, ...] = (0, 1),
    seed: int = 0,
) -> LoraWeights:
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for layer in layers:
        for module in modules:
            d_out, d_in = SIZES[module]
            a = torch.randn(rank, d_in, generator=generator)
            b = torch.randn(d_out, rank, generator=generator)
            factors[f"model.layers.{layer}.{module}"] = LoraFactors(a, b)
    return LoraWeights("base", scale, factors)


def dense(weights: LoraWeights) -> dict[str, torch.Tensor]:
    return {n: weights.scale * (f.b.double() @ f.a.double()) for n, f in weights.factors.items()}


def test_the_delta_is_the_weighted_sum_whatever_modules_and_ranks() -> None:
    parts = [
        make(("q_proj", "v_proj"), 3, scale=0.7, seed=1),
        make(("v_proj", "down_proj"), 5, scale=-1.3, seed=2, layers=(1, 2)),
        make(("q_proj",), 2, seed=3),
    ]
    shares = [1.0, 0.3, -2.0]
    merged = combine(parts, shares)
    assert (merged.rank, merged.scale) == (10, 1.0)
    expected: dict[str, torch.Tensor] = {}
    for part, share in zip(parts, shares, strict=True):
        for name, delta in dense(part).items():
            expected[name] = expected.get(name, 0.0) + share * delta
    got = dense(merged)
    assert got.keys() == {f"model.layers.{n}.{m}" for n in range(3) for m in SIZES}
    for name, delta in got.items():
        wanted = expected.get(name, torch.zeros_like(delta))
        assert (delta - wanted).abs().max() <= 1e-6 * max(1.0, float(wanted.abs().max()))


def test_gaps_are_filled_with_zeros_only() -> None:
    weights = make(("q_proj",), 2, layers=(0,))
    both = LoraWeights(
        "base", 1.0, {**weights.factors, **make(("v_proj",), 2, layers=(1,)).factors}
    )
    filled = fill_gaps(both)
    added = filled.factors.keys() - both.factors.keys()
    assert added == {"model.layers.1.q_proj", "model.layers.0.v_proj"}
    assert all(not filled.factors[name].b.any() for name in added)


def make_one(name: str, base: str = "base") -> LoraWeights:
    """Weights of one module of rank 1, of other sizes than `make` gives."""
    return LoraWeights(base, 1.0, {name: LoraFactors(torch.ones(1, 9), torch.ones(6, 1))})


ONE, QUERY = make(("q_proj",), 2, layers=(0,)), "model.layers.0.q_proj"


@pytest.mark.parametrize(
    ("parts", "shares", "message"),
    [
        ([], [], "0 adapters and 0 weights"),
        ([ONE], [1.0, 2.0], "1 adapters and 2 weights"),
        ([ONE], [float("nan")], "not a finite number"),
        ([ONE, make_one(QUERY, "other")], [1.0, 1.0], "different bases: base and other"),
        ([ONE, make_one(QUERY)], [1.0, 1.0], r"different sizes .*: \[\(6, 8\), \(6, 9\)\]"),
        ([make_one("lm_head")], [1.0], "lm_head lies outside the decoder's layers"),
    ],
)
def test_what_cannot_be_added_is_refused(
    parts: list[LoraWeights], shares: list[float], message: str
) -> None:
    with pytest.raises(MergeError, match=message):
        combine(parts, shares)


def test_ranks_are_kept_as_columns_of_b() -> None:
    weights = make(("q_proj",), 5, scale=0.5)
    kept = keep_ranks(weights, torch.tensor([0, 3, 4]))
    for name, f in weights.factors.items():
        columns = torch.tensor([1.0, 0.0, 0.0, 1.0, 1.0]).double()
        expected = 0.5 * (f.b.double() * columns) @ f.a.double()
        assert (dense(kept)[name] - expected).abs().max() < 1e-12
    with pytest.raises(MergeError, match="nothing of the adapter would be left"):
        keep_ranks(weights, torch.tensor([], dtype=torch.long))
