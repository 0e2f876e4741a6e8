import weakref
from dataclasses import replace

import pytest
import torch

from d2l.adapters.merge_methods import METHODS, Counted, average, compress, concat, scaled
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.errors import MergeError, OptionError

SHAPES = {"model.layers.0.mlp.down_proj": (12, 8), "model.layers.0.self_attn.q_proj": (8, 10)}
HINT = "merge only adapters made by the same hypernetwork checkpoint"


def make(seed, rank=3, scale=2.0, base="org/base", dtype=torch.float32, shapes=SHAPES):
    generator = torch.Generator().manual_seed(seed)
    factors = {
        name: LoraFactors(
            torch.randn(rank, d_in, generator=generator).to(dtype),
            torch.randn(d_out, rank, generator=generator).to(dtype),
        )
        for name, (d_in, d_out) in shapes.items()
    }
    return LoraWeights(base, scale, factors)


def delta(weights, name):
    f = weights.factors[name]
    return weights.scale * f.b.double() @ f.a.double()


def assert_delta(weights, wanted, **tolerance):
    for name in SHAPES:
        torch.testing.assert_close(delta(weights, name), wanted(name), **tolerance)


# ---- every method -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_part_is_itself(method, dtype):
    part = make(0, dtype=dtype)
    merged = method([part], None)
    assert (merged.base, merged.scale, merged.rank) == (part.base, part.scale, part.rank)
    assert list(merged.factors) == list(part.factors)
    for name, f in part.factors.items():
        assert merged.factors[name].a.dtype == dtype
        assert torch.equal(merged.factors[name].a, f.a)
        assert torch.equal(merged.factors[name].b, f.b)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_parts_keep_their_order_and_are_not_changed(method):
    parts = [make(0), make(1)]
    before = [f.b.clone() for part in parts for f in part.factors.values()]
    merged = method(parts, make(2))
    for name, f in merged.factors.items():
        assert torch.equal(f.a, torch.cat([p.factors[name].a for p in [*parts, make(2)]]))
    after = [f.b for part in parts for f in part.factors.values()]
    assert all(torch.equal(x, y) for x, y in zip(before, after, strict=True))


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_parts_that_do_not_match_are_refused(method):
    part = make(0)
    fewer = dict(list(SHAPES.items())[:1])
    wider = {name: (d_in, d_out + 1) for name, (d_in, d_out) in SHAPES.items()}
    cases = [
        ([part, make(1, base="org/other")], "parts are for different base models: org/base and "),
        (
            [part, make(1, shapes=fewer)],
            "parts do not target the same modules, for example model.layers.0.self_attn.q_proj",
        ),
        ([part, make(1, shapes=wider)], "parts differ in size at model.layers.0.mlp.down_proj"),
    ]
    for parts, message in cases:
        with pytest.raises(MergeError) as raised:
            method(parts, None)
        assert raised.value.message.startswith(message)
        assert raised.value.hint == HINT


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_nothing_is_refused_and_the_shared_part_alone_is_itself(method):
    with pytest.raises(MergeError, match="there is nothing to merge"):
        method([], None)
    shared = make(0)
    assert_delta(method([], shared), lambda name: delta(shared, name))


# ---- concat, average, scaled --------------------------------------------------------------------


@pytest.mark.parametrize(("method", "share"), [(concat, 1), (average, 1 / 3)])
def test_delta_is_that_of_the_parts_by_their_share_and_of_the_shared_one(method, share):
    parts, shared = [make(0), make(1, rank=1, scale=-0.5), make(2, scale=7.0)], make(3, scale=0.1)
    merged = method(parts, shared)
    assert merged.rank == 3 + 1 + 3 + 3
    assert_delta(
        merged,
        lambda name: share * sum(delta(part, name) for part in parts) + delta(shared, name),
        atol=1e-4,  # scales are folded in float32
        rtol=1e-5,
    )


@pytest.mark.parametrize(("method", "share"), [(concat, 1), (average, 1 / 4)])
def test_of_parts_that_come_one_by_one_one_is_held(method, share):
    given = []

    def give():
        for seed in range(4):
            assert sum(part() is not None for part in given) <= 1
            part = make(seed)
            given.append(weakref.ref(part))
            yield part

    merged = method(Counted(give(), 4))
    assert_delta(
        merged,
        lambda name: share * sum(delta(make(seed), name) for seed in range(4)),
        atol=1e-4,
        rtol=1e-5,
    )


@pytest.mark.parametrize("scales", [(0.0, 2.0), (2.0, 0.0), (0.0, 0.0)])
def test_parts_of_scale_zero_count_for_nothing(scales):
    parts = [make(i, scale=scale) for i, scale in enumerate(scales)]
    assert_delta(
        concat(parts), lambda name: sum(delta(part, name) for part in parts), atol=1e-4, rtol=1e-5
    )


def test_scaled_is_linear_in_the_delta():
    part = make(0)
    assert scaled(part, 1.0) is part
    for factor in (0.0, -2.0, 0.25):
        got = scaled(part, factor)
        assert got.scale == part.scale
        assert_delta(got, lambda name, factor=factor: factor * delta(part, name))
    with pytest.raises(OptionError, match="strength is nan, expected a finite number"):
        scaled(part, float("nan"))


# ---- compress -----------------------------------------------------------------------------------


def test_compress_leaves_a_rank_that_is_low_enough():
    part = make(0)
    for rank in (3, 99):
        kept, errors = compress(part, rank)
        assert kept is part
        assert errors == dict.fromkeys(SHAPES, 0.0)


@pytest.mark.parametrize("rank", [1, 2, 5])
def test_compress_is_the_best_approximation_and_reports_its_error(rank):
    wide = concat([make(i) for i in range(2)])
    kept, errors = compress(wide, rank)
    assert kept.rank == rank
    assert kept.scale == wide.scale
    for name in SHAPES:
        dense = delta(wide, name)
        u, s, vt = torch.linalg.svd(dense, full_matrices=False)
        best = (u[:, :rank] * s[:rank]) @ vt[:rank]
        torch.testing.assert_close(delta(kept, name), best, atol=1e-4, rtol=1e-5)  # fp32 SVD
        wanted = float((dense - best).norm() / dense.norm())
        assert errors[name] == pytest.approx(wanted, rel=1e-3)


def test_compress_to_the_true_rank_loses_nothing():
    part = make(0, rank=2)
    doubled = concat([part, part])
    kept, errors = compress(doubled, 2)
    assert_delta(kept, lambda name: 2 * delta(part, name), atol=1e-4, rtol=1e-5)  # fp32 SVD
    assert max(errors.values()) < 1e-6


def test_compress_splits_the_strength_evenly():
    kept, _ = compress(make(0), 2)
    for f in kept.factors.values():
        torch.testing.assert_close(f.a.norm(dim=1), f.b.norm(dim=0))


def test_compress_does_not_depend_on_signs_of_the_factors():
    wide = make(0)
    flipped = replace(wide, factors={n: LoraFactors(-f.a, -f.b) for n, f in wide.factors.items()})
    first, _ = compress(wide, 2)
    again, _ = compress(make(0), 2)
    other, _ = compress(flipped, 2)
    for name, f in first.factors.items():
        assert torch.equal(f.a, again.factors[name].a)
        assert torch.equal(f.b, again.factors[name].b)
        torch.testing.assert_close(f.b, other.factors[name].b)
        assert (f.b.gather(0, f.b.abs().argmax(0, keepdim=True)) > 0).all()


def test_compress_of_a_rank_above_the_size_of_a_module_fills_with_zeros():
    wide = make(0, rank=20, shapes={"m": (12, 4), "n": (30, 30)})
    kept, errors = compress(wide, 10)
    assert kept.rank == 10
    torch.testing.assert_close(delta(kept, "m"), delta(wide, "m"), atol=1e-3, rtol=1e-4)
    assert errors["m"] == 0.0
    assert not kept.factors["m"].b[:, 4:].any()
    assert errors["n"] > 0.1


def test_compress_of_an_empty_delta_has_no_error():
    kept, errors = compress(scaled(make(0), 0.0), 1)
    assert errors == dict.fromkeys(SHAPES, 0.0)
    assert_delta(kept, lambda name: torch.zeros(SHAPES[name][::-1], dtype=torch.float64))


def test_compress_keeps_the_dtype():
    kept, _ = compress(make(0, dtype=torch.bfloat16), 1)
    assert {f.a.dtype for f in kept.factors.values()} == {torch.bfloat16}


def test_compress_refuses_bad_ranks_and_numbers():
    with pytest.raises(OptionError, match="rank is 0, expected at least 1"):
        compress(make(0), 0)
    broken = make(0)
    broken.factors["model.layers.0.self_attn.q_proj"].a[0, 0] = float("nan")
    with pytest.raises(MergeError) as raised:
        compress(broken, 1)
    message = "model.layers.0.self_attn.q_proj has values that are not finite numbers"
    assert raised.value.message == message
