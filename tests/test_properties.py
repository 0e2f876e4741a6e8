"""What holds for all inputs, tried on those that hypothesis draws; the same ones in every run."""

from fractions import Fraction
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from d2l.adapters.merge_methods import average, concat, scaled
from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.selectors import select
from d2l.adapters.weights import LoraFactors, LoraWeights

draw_some = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)


# ---- selectors ----------------------------------------------------------------------------------

NAMES = st.sampled_from(["a.pdf", "docs/b.pdf", "notes: c.md", "p. 3", "#1"])
SOURCES = st.sampled_from(["", "p. 1", "p. 2-4", "§ Filters", "§ a:b"])
CHUNKS = st.lists(
    st.builds(ChunkRecord, index=st.just(0), document=NAMES, source=SOURCES, n_tokens=st.just(1)),
    min_size=1,
)


@draw_some
@given(CHUNKS, st.data())
def test_a_chunk_is_found_by_its_own_name(chunks: list[ChunkRecord], data: Any) -> None:
    index = data.draw(st.integers(0, len(chunks) - 1))
    chunk = chunks[index]
    assert select(f"{chunk.document}:#{index}", chunks)[0] == [index]
    same = [n for n, one in enumerate(chunks) if one.document == chunk.document]
    assert select(chunk.document, chunks)[0] == same
    if chunk.source:
        assert index in select(f"{chunk.document}:{chunk.source}", chunks)[0]


# ---- merging ------------------------------------------------------------------------------------

SHAPE = (3, 4)


def make_weights(rank: int, values: list[int], scale: float) -> LoraWeights:
    """Small whole numbers, so that sums are exact in any order."""
    numbers = torch.tensor((values * 40)[: rank * sum(SHAPE)], dtype=torch.float64)
    a = numbers[: rank * SHAPE[1]].reshape(rank, SHAPE[1])
    b = numbers[rank * SHAPE[1] :].reshape(SHAPE[0], rank)
    return LoraWeights("base", scale, {"model.layers.0.mlp.down_proj": LoraFactors(a, b)})


def delta(weights: LoraWeights) -> torch.Tensor:
    (factors,) = weights.factors.values()
    return weights.scale * factors.b @ factors.a


PARTS = st.lists(
    st.builds(
        make_weights,
        st.integers(1, 3),
        st.lists(st.integers(-4, 4), min_size=1, max_size=9),
        st.sampled_from([0.5, 1.0, 2.0, 4.0]),
    ),
    min_size=1,
    max_size=4,
)
FACTORS = st.fractions(-2, 2, max_denominator=4).filter(lambda one: one.denominator in (1, 2, 4))


@draw_some
@given(PARTS, st.randoms(use_true_random=False), FACTORS)
def test_merging_is_linear_and_does_not_know_the_order(
    parts: list[LoraWeights], chance: Any, factor: Fraction
) -> None:
    whole = sum(map(delta, parts), torch.zeros(SHAPE, dtype=torch.float64))
    assert torch.equal(delta(concat(parts)), whole)
    torch.testing.assert_close(delta(average(parts)), whole / len(parts))
    mixed = list(parts)
    chance.shuffle(mixed)
    assert torch.equal(delta(concat(mixed)), whole)
    assert torch.equal(delta(concat([scaled(part, float(factor)) for part in parts])), (
        float(factor) * whole
    ))  # fmt: skip
