import copy
import dataclasses
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional

from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
from d2l.bases.activations import ActivationEncoder, Activations
from d2l.errors import BaseModelError, CheckpointError, MergeError, OptionError
from d2l.hypernets.options import MergeOptions
from d2l.hypernets.seats.network import (
    SeatNetwork,
    Seats,
    average_memories,
    build_network,
    join_memories,
    load_seats,
)
from tests.tiny_seats import (
    make_base,
    make_config,
    make_network,
    make_seats,
    make_statistics,
    write_checkpoint,
)
from tests.tools.seat_goldens import GOLDENS


def make_memory(n_seats: int, seed: int, *, claims_seats: bool = True) -> Memory:
    generator = torch.Generator().manual_seed(seed)
    keys, values = torch.randn(2, 2, n_seats, 16, generator=generator)
    return Memory(keys, values, claims_seats)


def read_tiny(seats: Seats, n_tokens: int, seed: int = 0) -> Activations:
    """What the tiny base makes of a chunk of random tokens."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(30, 64, (n_tokens,), generator=generator).tolist()
    config = seats.config
    return ActivationEncoder(seats.base_model, config.reading)([*config.read_opening, *ids])


# The network


def test_network_follows_the_formulas_seat_by_seat() -> None:
    """Every formula of steps 4 to 6 once more, in float64 and with loops over seats and groups."""
    network = copy.deepcopy(make_network()).double()
    generator = torch.Generator().manual_seed(3)
    hidden = torch.randn(2, 11, 32, generator=generator, dtype=torch.float64)
    keys, values = torch.randn(2, 2, 11, 16, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        got = network(hidden, keys, values, 5)
        expected = naive_memory(network, hidden, keys, values, 5)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


class _Naive:
    """Linear layers and norms of a network, one vector at a time."""

    def __init__(self, network: SeatNetwork) -> None:
        self.p = dict(network.named_parameters())

    def linear(self, name: str, x: Tensor) -> Tensor:
        return self.p[f"{name}.weight"] @ x + self.p[f"{name}.bias"]

    def norm(self, name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape, self.p[f"{name}.weight"], self.p[f"{name}.bias"])


def naive_encode(network: SeatNetwork, hidden: Tensor) -> list[Tensor]:
    """Step 4: a vector for each token."""
    naive, n_tokens = _Naive(network), hidden.shape[1]
    p, linear, norm = naive.p, naive.linear, naive.norm
    tokens = []
    for t in range(n_tokens):
        states = [(h[t] - h[t].mean()) / (h[t].var(correction=0) + 1e-5).sqrt() for h in hidden]
        tokens.append(linear("input_projection", torch.cat(states)))
    for block in ("encoder.0", "encoder.1"):
        qkv = [linear(f"{block}.qkv", norm(f"{block}.norm_attention", x)) for x in tokens]
        mixed = []
        for query in range(n_tokens):
            read = []
            for head in range(2):
                part = slice(8 * head, 8 * head + 8)
                logits = [
                    qkv[query][:16][part] @ qkv[key][16:32][part] / math.sqrt(8)
                    + p[f"{block}.relative_bias"][head, min(max(key - query, -4), 4) + 4]
                    for key in range(n_tokens)
                ]
                weights = torch.stack(logits).softmax(0)
                read.append(sum(w * x[32:][part] for w, x in zip(weights, qkv, strict=True)))
            mixed.append(tokens[query] + linear(f"{block}.output", torch.cat(read)))
        tokens = [
            x
            + linear(
                f"{block}.mlp_out",
                functional.silu(linear(f"{block}.mlp_in", norm(f"{block}.norm_mlp", x))),
            )
            for x in mixed
        ]
    return [norm("encoder_norm", x) for x in tokens]


def naive_memory(
    network: SeatNetwork, hidden: Tensor, keys: Tensor, values: Tensor, n_seats: int
) -> tuple[Tensor, Tensor]:
    """Steps 5 and 6."""
    naive, n_tokens = _Naive(network), hidden.shape[1]
    p, linear, norm = naive.p, naive.linear, naive.norm
    tokens = naive_encode(network, hidden)
    seat_width = n_tokens / n_seats
    out = torch.zeros(2, 2, n_seats, 16, dtype=torch.float64)
    for i in range(n_seats):
        center = (i + 0.5) * seat_width - 0.5
        prior = torch.tensor(
            [-1.5 * ((t - center) / max(seat_width, 1)) ** 2 for t in range(n_tokens)],
            dtype=torch.float64,
        )
        u = p["seat_table"][i % 4] + p["width_vector"] * (math.log(seat_width) - 2)
        query = linear("anchor_query", u)
        logits = torch.stack([query @ linear("anchor_key", x) / 4 for x in tokens])
        weights = (logits + p["anchor_sharpness"] * prior).softmax(0)
        y = u + sum(w * linear("anchor_value", x) for w, x in zip(weights, tokens, strict=True))
        inner = functional.silu(linear("seat_mlp.in", norm("seat_mlp.norm", y)))
        z = norm("seat_norm", y + linear("seat_mlp.out", inner))
        for layer in range(2):
            for head in range(2):
                group = 2 * layer + head
                dims = slice(4 * group, 4 * group + 4)
                query = linear("group_query", z)[dims]
                logits = torch.stack([query @ linear("group_key", x)[dims] / 2 for x in tokens])
                weights = (logits + p["group_sharpness"][group].exp() * prior).softmax(0)
                part = slice(8 * head, 8 * head + 8)
                own = slice(8 * group, 8 * group + 8)
                for which, (given, name) in enumerate(((keys, "key"), (values, "value"))):
                    pooled = weights @ given[layer][:, part]
                    correction = linear(f"{name}_correction", z)[own]
                    out[which, layer, i, part] = pooled + correction
    return out[0], out[1]


def test_a_fresh_network_pools_without_corrections() -> None:
    network = SeatNetwork(make_config())
    ones = torch.ones(2, 9, 16)
    keys, values = network(torch.randn(2, 9, 32), ones, 3 * ones, 4)
    torch.testing.assert_close(keys, torch.ones(2, 4, 16))
    torch.testing.assert_close(values, 3 * torch.ones(2, 4, 16))


def test_tensors_must_have_exactly_the_names_and_shapes_of_the_network() -> None:
    config, tensors = make_config(), make_network().state_dict()
    without = {name: tensor for name, tensor in tensors.items() if name != "seat_table"}
    with pytest.raises(CheckpointError, match=r"here: .*: missing seat_table"):
        build_network(config, without, source="here")
    with pytest.raises(CheckpointError, match=r"here: .*: unexpected extra"):
        build_network(config, {**tensors, "extra": torch.zeros(1)}, source="here")
    bad = {**tensors, "seat_table": torch.zeros(4, 15)}
    with pytest.raises(CheckpointError, match=r"here: .*: shape seat_table is \(4, 15\), expected"):
        build_network(config, bad, source="here")


def test_a_base_of_another_size_is_refused() -> None:
    config = dataclasses.replace(make_config(), kv_heads=1)
    with pytest.raises(BaseModelError, match=r"shape \(16, 32\), expected \(8, 32\)"):
        Seats(config, make_network(config), make_statistics(), make_base())
    config = dataclasses.replace(make_config(), layers=4)
    with pytest.raises(BaseModelError, match=r"no module layers\.3\.self_attn\.k_proj"):
        Seats(config, make_network(config), make_statistics(), make_base())


def test_a_folder_gives_the_same_network_and_leaves_random_numbers_alone(tmp_path: Path) -> None:
    base = make_base()
    state = torch.random.get_rng_state()
    seats = load_seats(write_checkpoint(tmp_path), base)
    assert torch.equal(torch.random.get_rng_state(), state)
    activations = read_tiny(make_seats(base), 10)
    got, expected = seats.generate(activations, 4), make_seats(base).generate(activations, 4)
    assert isinstance(got, Memory)
    assert isinstance(expected, Memory)
    assert torch.equal(got.keys, expected.keys)


def test_a_checkpoint_of_version_0_compiles_as_recorded() -> None:
    seats = load_seats(GOLDENS / "v0", make_base())
    done = seats.assemble([seats.generate(read_tiny(seats, 20), 6)], MergeOptions())
    assert done.memory is not None
    got = {"keys": done.memory.keys, "values": done.memory.values}
    for name, factors in done.weights.factors.items():
        got |= {f"{name}.a": factors.a, f"{name}.b": factors.b}
    expected = load_file(GOLDENS / "v0" / "expected.safetensors")
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)  # fp32 sums in another order


def test_memory_has_a_seat_a_rank_in_fp32_on_the_cpu() -> None:
    seats = make_seats()
    memory = seats.generate(read_tiny(seats, 10), 7)
    assert memory.keys.shape == (2, 7, 16)
    assert (memory.keys.dtype, memory.values.device.type) == (torch.float32, "cpu")
    assert memory.claims_seats


def test_a_chunk_without_a_share_is_computed_with_one_seat() -> None:
    seats = make_seats()
    activations = read_tiny(seats, 10)
    none, one = seats.generate(activations, 0), seats.generate(activations, 1)
    assert not none.claims_seats
    assert torch.equal(none.keys, one.keys)


# Joining memories


def test_concat_keeps_order_and_averages_parts_without_seats_into_the_one_before() -> None:
    parts = [
        make_memory(1, 1, claims_seats=False),  # before every seat: falls to the first
        make_memory(3, 2),
        make_memory(1, 3, claims_seats=False),
        make_memory(1, 4, claims_seats=False),
        make_memory(2, 5),
    ]
    joined = join_memories(parts)
    assert joined.n_seats == 5
    for what in ("keys", "values"):
        early, three, first, second, two = (getattr(part, what) for part in parts)
        expected = [
            (early[:, 0] + three[:, 0]) / 2,
            three[:, 1],
            (three[:, 2] + first[:, 0] + second[:, 0]) / 3,
            two[:, 0],
            two[:, 1],
        ]
        torch.testing.assert_close(getattr(joined, what), torch.stack(expected, dim=1))
    assert torch.equal(parts[1].keys, make_memory(3, 2).keys)  # nothing is changed in place


def test_average_is_the_plain_mean() -> None:
    parts = [make_memory(4, seed) for seed in range(3)]
    mean = average_memories(parts)
    torch.testing.assert_close(
        mean.keys, (parts[0].keys + parts[1].keys + parts[2].keys) / 3, rtol=1e-6, atol=1e-6
    )


def test_memories_that_do_not_fit_are_refused() -> None:
    with pytest.raises(MergeError, match="different sizes"):
        average_memories([make_memory(4, 1), make_memory(5, 1)])
    with pytest.raises(MergeError, match="no memory that claims a seat"):
        join_memories([make_memory(1, 1, claims_seats=False)])
    with pytest.raises(MergeError, match="all claim"):
        average_memories([make_memory(1, 1, claims_seats=False)])
    other = Memory(torch.zeros(3, 4, 16), torch.zeros(3, 4, 16))
    with pytest.raises(MergeError, match="different sizes"):
        join_memories([make_memory(4, 1), other])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (MergeOptions("svd"), "cannot be merged by 'svd'"),
        (MergeOptions(bias_scale=0.5), "no learned bias"),
        (MergeOptions(scale=float("inf")), "is inf, expected a finite number"),
    ],
)
def test_options_that_seats_do_not_have_are_refused(options: MergeOptions, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make_seats().assemble([make_memory(4, 1)], options)


def test_parts_must_be_memories_and_fit_the_longest_opening() -> None:
    lora = LoraWeights("x", 1.0, {"m": LoraFactors(torch.zeros(1, 2), torch.zeros(2, 1))})
    with pytest.raises(MergeError, match="LoRA weights among memories"):
        make_seats().assemble([lora], MergeOptions())
    with pytest.raises(MergeError, match="13 seats, but openings have 4 to 12"):
        make_seats().assemble([make_memory(6, 1), make_memory(7, 2)], MergeOptions())


def test_assembled_memory_is_what_was_joined() -> None:
    parts = [make_memory(4, 1), make_memory(3, 2)]
    assembled = make_seats().assemble(parts, MergeOptions())
    assert assembled.weights.rank == 7
    assert assembled.memory is not None
    assert torch.equal(assembled.memory.keys, torch.cat([p.keys for p in parts], dim=1))
    averaged = make_seats().assemble([make_memory(4, 1)] * 2, MergeOptions("average"))
    assert averaged.weights.rank == 4
