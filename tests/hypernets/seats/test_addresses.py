"""Addresses: what an adapter of them adds is what training sees, and other text is left alone."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from d2l.adapters.weights import LoraWeights
from d2l.errors import OptionError
from d2l.hypernets.options import MergeOptions
from d2l.hypernets.seats.network import Seats
from d2l.hypernets.seats.shared import Addresses, read_inputs, run_mlp
from tests.tiny_seats import (
    make_addressed_config,
    make_base,
    make_causal,
    make_config,
    make_memory,
    make_network,
    make_statistics,
    record_inputs,
)

CONFIG = make_addressed_config()
N_SEATS = 9
OPENING = CONFIG.opening(N_SEATS)
GATE, DOWN = "model.layers.0.mlp.gate_proj", "model.layers.0.mlp.down_proj"


@pytest.fixture
def seats() -> Seats:
    return Seats(CONFIG, make_network(CONFIG), make_statistics(CONFIG), make_base())


@pytest.fixture
def addresses(seats: Seats) -> Addresses:
    found = seats.network.shared
    assert isinstance(found, Addresses)
    return found


def test_each_word_of_the_opening_gets_a_direction_and_the_head_none(addresses: Addresses) -> None:
    base: Any = make_base()
    before, bare = read_states(base)
    hooks = addresses.attach(base, n_seats=N_SEATS)
    after, addressed = read_states(base)
    for hook in hooks:
        hook.remove()
    assert torch.equal(before, after)
    n_head = CONFIG.min_seats
    expected = torch.zeros(len(OPENING), CONFIG.hidden)
    expected[1 + n_head :] = addresses.directions[: N_SEATS - n_head]
    # The words' neurons are silent for all else, so what these added before is gone.
    taken = list(CONFIG.address_neurons[: N_SEATS - n_head])
    h, mlp = read_inputs(base, 0, OPENING), base.layers[0].mlp
    inner = mlp.act_fn(mlp.gate_proj(h)) * mlp.up_proj(h)
    missing = inner[:, taken] @ mlp.down_proj.weight[:, taken].T
    torch.testing.assert_close(addressed - bare, expected - missing, atol=1e-4, rtol=1e-4)
    assert torch.equal(read_states(base)[1], bare)


def read_states(base: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """States of the opening as they enter layers 0 and 1."""
    states = base(torch.tensor([OPENING]), output_hidden_states=True).hidden_states
    return states[0][0], states[1][0]


def test_an_adapter_has_it_as_a_lora_of_one_layer(
    seats: Seats, addresses: Addresses, with_peft: Callable[[Any, LoraWeights], Any]
) -> None:
    weights = seats.assemble([make_memory()], MergeOptions()).weights
    assert {name for name in weights.factors if ".mlp." in name} == {GATE, DOWN}
    assert weights.rank == N_SEATS
    for name, short in ((GATE, "gate_proj"), (DOWN, "down_proj")):
        factors = weights.factors[name]
        assert (factors.a.shape[1], factors.b.shape[0]) == CONFIG.module_shapes[short]
    assert CONFIG.target_modules == ("down_proj", "gate_proj", "k_proj", "v_proj")
    n_values = sum(f.a.shape[1] + f.b.shape[0] for f in weights.factors.values())
    assert n_values == CONFIG.values_a_rank
    causal: Any = make_causal()
    layer = causal.model.layers[0]
    x = torch.randn(1, 7, CONFIG.hidden, generator=torch.Generator().manual_seed(1))
    expected = run_mlp(layer, 0, x, addresses, n_seats=N_SEATS)
    assert not torch.allclose(expected, run_mlp(layer, 0, x, None, n_seats=N_SEATS), atol=1e-3)
    wrapped = with_peft(causal, weights).base_model.model.model.layers[0]
    got = wrapped.mlp(wrapped.post_attention_layernorm(x))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_seats_hold_the_memory_all_the_same(
    seats: Seats, with_peft: Callable[[Any, LoraWeights], Any]
) -> None:
    memory = make_memory()
    model = with_peft(make_causal(), seats.assemble([memory], MergeOptions()).weights)
    seen = []
    module = model.base_model.model.model.layers[2].self_attn.v_proj
    module.register_forward_hook(lambda _m, _i, output: seen.append(output[0]))
    model(input_ids=torch.tensor([[*OPENING, 40, 41]]))
    torch.testing.assert_close(seen[0][1 : 1 + N_SEATS], memory.values[1], atol=2e-4, rtol=0)


def test_layers_above_see_states_that_no_memory_makes_alike(addresses: Addresses) -> None:
    addresses.directions.mul_(200)
    addresses.fit(make_base(), CONFIG.opening(CONFIG.max_seats))
    inputs = record_inputs(
        make_memory(), make_base(), opening=OPENING, layers=(1, 2), shared=addresses
    )
    words = torch.nn.functional.normalize(inputs[:, 1 + CONFIG.min_seats :].float(), dim=-1)
    wanted = torch.nn.functional.normalize(addresses.directions[: N_SEATS - CONFIG.min_seats])
    for layer in words:  # the norms' weights are all one here
        assert float((layer * wanted).sum(dim=-1).min()) > 0.98


def test_a_base_that_computes_the_same_otherwise_gets_the_same(addresses: Addresses) -> None:
    """Norms and matrices scaled against each other, as quantizers leave them."""
    plain: Any = make_base()
    other: Any = make_base()
    scale = torch.linspace(0.5, 2.0, CONFIG.hidden)
    layer = other.layers[0]
    with torch.no_grad():
        layer.post_attention_layernorm.weight.mul_(scale)
        layer.mlp.gate_proj.weight.div_(scale)
        layer.mlp.up_proj.weight.div_(scale).mul_(3)
        layer.mlp.down_proj.weight.div_(3)
    x = torch.randn(1, 5, CONFIG.hidden, generator=torch.Generator().manual_seed(2))
    results = []
    for base in (plain, other):
        addresses.fit(base, CONFIG.opening(CONFIG.max_seats))
        results.append(run_mlp(base.layers[0], 0, x, addresses, n_seats=N_SEATS))
    torch.testing.assert_close(results[1], results[0], atol=1e-4, rtol=1e-4)


def test_a_base_in_bf16_gets_the_same_as_its_copy_in_fp32(addresses: Addresses) -> None:
    rounded = make_base().to(torch.bfloat16)
    found = []
    for base in (rounded, copy.deepcopy(rounded).to(torch.float32)):
        addresses.fit(base, CONFIG.opening(CONFIG.max_seats))
        found.append(addresses.factors(rank=N_SEATS))
    for name, factors in found[0].items():
        assert torch.equal(factors.a, found[1][name].a)
        assert torch.equal(factors.b, found[1][name].b)


def test_an_opening_without_words_has_none(addresses: Addresses) -> None:
    base: Any = make_base()
    x = torch.randn(1, 5, CONFIG.hidden)
    n_head = CONFIG.min_seats
    same = run_mlp(base.layers[0], 0, x, addresses, n_seats=n_head)
    assert torch.equal(same, run_mlp(base.layers[0], 0, x, None, n_seats=n_head))
    factors = addresses.factors(rank=n_head)
    assert not factors[GATE].a.any()
    assert not factors[DOWN].b.any()


def test_reading_stops_at_the_layer_and_leaves_the_base_whole() -> None:
    base: Any = make_base()
    inputs = read_inputs(base, 1, OPENING)
    assert inputs.shape == (len(OPENING), CONFIG.hidden)
    assert len(base.layers) == make_config().layers
    assert not base.layers[1].mlp._forward_pre_hooks


def test_there_is_no_half_of_an_address(seats: Seats, addresses: Addresses) -> None:
    with pytest.raises(OptionError, match="no learned bias to scale"):
        addresses.scaled(0.5)
    with pytest.raises(OptionError, match="no learned bias to scale"):
        seats.assemble([make_memory()], MergeOptions(bias_scale=0.5))
