import pytest
import torch

from d2l.errors import OptionError
from d2l.hypernets.options import MergeOptions
from d2l.hypernets.seats.network import Seats
from d2l.hypernets.seats.shared import SharedLora
from tests.tiny_seats import (
    make_base,
    make_memory,
    make_network,
    make_shared_config,
    make_statistics,
)

CONFIG = make_shared_config()


@pytest.fixture
def shared() -> SharedLora:
    found = make_network(CONFIG).shared
    assert found is not None
    return found


@pytest.fixture
def seats() -> Seats:
    return Seats(CONFIG, make_network(CONFIG), make_statistics(CONFIG), make_base())


def test_a_fresh_one_changes_nothing() -> None:
    fresh = SharedLora(CONFIG)
    assert not fresh.change(1, torch.randn(4, 64)).any()


def test_written_factors_do_what_the_training_sees(shared: SharedLora) -> None:
    inputs = torch.randn(4, 64, generator=torch.Generator().manual_seed(1))
    for layer in (1, 2):
        factors = shared.factors(rank=9)[f"model.layers.{layer}.mlp.down_proj"]
        assert factors.rank == 9
        delta = factors.b @ factors.a  # (d_out, d_in)
        torch.testing.assert_close(inputs @ delta.T, shared.change(layer, inputs))
    first, second = shared.factors(rank=9).values()
    assert not torch.equal(first.a, second.a)


def test_adapters_hold_the_shared_part_once_at_their_rank(seats: Seats, shared: SharedLora) -> None:
    weights = seats.assemble([make_memory(5)], MergeOptions()).weights
    assert weights.rank == 5
    names = {name.rsplit(".", 1)[1] for name in weights.factors}
    assert tuple(sorted(names)) == CONFIG.target_modules == ("down_proj", "k_proj", "v_proj")
    for layer in (1, 2):
        name = f"model.layers.{layer}.mlp.down_proj"
        got = weights.factors[name]
        assert torch.equal(got.a, shared.factors(rank=5)[name].a)
        shape = (got.a.shape[1], got.b.shape[0])
        assert shape == CONFIG.module_shapes["down_proj"]


def test_strengths_of_the_document_and_of_the_shared_part_are_apart(seats: Seats) -> None:
    name, seat = "model.layers.1.mlp.down_proj", "model.layers.1.self_attn.k_proj"
    plain = seats.assemble([make_memory()], MergeOptions()).weights.factors
    half = seats.assemble([make_memory()], MergeOptions(scale=0.5)).weights.factors
    torch.testing.assert_close(half[seat].b, plain[seat].b * 0.5, rtol=0, atol=0)
    assert torch.equal(half[name].b, plain[name].b)
    quiet = seats.assemble([make_memory()], MergeOptions(bias_scale=0.25)).weights.factors
    torch.testing.assert_close(quiet[name].b, plain[name].b * 0.25, rtol=0, atol=0)
    off = seats.assemble([make_memory()], MergeOptions(bias_scale=0.0)).weights.factors
    assert not off[name].b.any()
    # Layer 2 sees the opening through layer 1's down_proj, so its seats are solved anew.
    upper = "model.layers.2.self_attn.k_proj"
    assert not torch.allclose(off[upper].a, plain[upper].a, atol=1e-3)


def test_a_strength_that_is_no_number_is_refused(seats: Seats) -> None:
    with pytest.raises(OptionError, match="bias scale is not a finite number: nan"):
        seats.assemble([make_memory()], MergeOptions(bias_scale=float("nan")))
