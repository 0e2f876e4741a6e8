"""A seats checkpoint and its base, small enough for every test: 3 layers, 32 wide, fixed seeds.

The weights are random, so nothing is recalled, but every property of the seats holds as it does
for the real base: the adapter gives the opening's tokens exactly the keys and values asked for.
"""

import dataclasses
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save
from torch import Tensor, nn

from d2l.adapters.weights import Memory
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import SeatNetwork, Seats
from d2l.hypernets.seats.seating import Watch, run_imposed
from d2l.hypernets.seats.second_moments import Statistics
from d2l.hypernets.seats.shared import Addresses, Shared, read_inputs

BASE = "tiny/seats-base"


def make_config(**changes: object) -> SeatsConfig:
    """Configuration of the tiny network; token ids stay below 64."""
    config = SeatsConfig(
        network="seats",
        version=0,
        base=BASE,
        base_file="random weights",
        end_token=2,
        hidden=32,
        layers=3,
        kv_heads=2,
        head_dim=8,
        first_layer=1,
        width=16,
        encoder_layers=2,
        encoder_heads=2,
        relative_clip=4,
        features=(0, 2),
        group_dim=4,
        seat_table=4,
        tokens_per_seat=3,
        min_seats=4,
        max_seats=12,
        chunk_tokens=24,
        min_chunk_tokens=4,
        statistics_ridge=1e-3,
        solve_epsilon=1e-6,
        read_opening=(1, 10, 11, 12, 13, 2, 1),
        opening_head=(1, 10, 11, 12, 13),
        opening_words=(20, 21, 22, 23, 24, 25, 26, 27),
        after_opening=(2, 1),
        before_answer=(2, 1),
        opening_head_text="head",
        opening_words_text=" words",
    )
    return dataclasses.replace(config, **changes)


def make_shared_config(**changes: object) -> SeatsConfig:
    """The same with a shared LoRA."""
    return make_config(**{"version": 1, "intermediate": 64, "shared_rank": 3, **changes})


def make_narrow_config(**changes: object) -> SeatsConfig:
    """The same with memory in the first layer and the last."""
    return make_config(**{"version": 1, "first_layer": 0, "adapted_layers": (0, 2), **changes})


def make_yielding_config(**changes: object) -> SeatsConfig:
    """The same with values that give way to ordinary text."""
    return make_config(**{"version": 1, "value_ridge": 2.0, **changes})


def make_addressed_config(**changes: object) -> SeatsConfig:
    """The same with addresses, which layer 0 writes with the neurons that are strongest there."""
    base: Any = make_base()
    states = read_inputs(base, 0, make_config().opening(12))[5:]  # of the opening's words
    strengths = (states @ base.layers[0].mlp.up_proj.weight.T).abs()  # (words, neurons)
    neurons = []
    for row in strengths:
        neurons.append(int(row.argmax()))
        strengths[:, neurons[-1]] = -1.0
    own = {"version": 1, "intermediate": 64, "address_neurons": tuple(neurons)}
    return make_config(**{**own, **changes})


def make_causal(vocab_size: int = 64) -> transformers.LlamaForCausalLM:
    """The base with its head: a frozen random Llama; `.model` is what the network reads."""
    config = transformers.LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=512,
        bos_token_id=1,
        eos_token_id=2,
        attn_implementation="sdpa",
        initializer_range=0.2,  # at 0.02 layers hardly change their inputs
    )
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = transformers.LlamaForCausalLM(config)
    return model.eval().requires_grad_(False)


def make_base(vocab_size: int = 64) -> nn.Module:
    """The base without its head."""
    return make_causal(vocab_size).model


def make_memory(n_seats: int = 9, layers: int = 2) -> Memory:
    """A random memory of the tiny network."""
    generator = torch.Generator().manual_seed(4)
    return Memory(*torch.randn(2, layers, n_seats, 16, generator=generator))


def make_statistics(config: SeatsConfig | None = None) -> Statistics:
    """Second moments of correlated random inputs, in the form that the file has."""
    config = config or make_config()
    generator = torch.Generator().manual_seed(8)
    rows, columns = torch.triu_indices(config.hidden, config.hidden)
    correlation, scale = [], []
    for _ in config.memory_layers:
        mixing = torch.randn(config.hidden, config.hidden, generator=generator)
        inputs = torch.randn(500, config.hidden, generator=generator) @ (
            torch.eye(config.hidden) + 0.1 * mixing
        )
        moment = inputs.T @ inputs / len(inputs)  # (d_in, d_in)
        scale.append(moment.diagonal().sqrt())
        correlation.append((moment / scale[-1] / scale[-1][:, None])[rows, columns].half())
    return Statistics(
        torch.stack(correlation),
        torch.stack(scale),
        layers=config.memory_layers,
        ridge=config.statistics_ridge,
        source="tiny",
    )


def make_network(config: SeatsConfig | None = None) -> SeatNetwork:
    """A frozen network with all parameters random, the corrections included."""
    with torch.random.fork_rng():
        torch.manual_seed(9)
        network = SeatNetwork(config or make_config())
        for parameter in network.parameters():
            parameter.data.add_(0.2 * torch.randn(parameter.shape))
        if isinstance(network.shared, Addresses):
            opening = network.config.opening(network.config.max_seats)
            states = read_inputs(make_base(), network.shared.layer, opening)
            answers = torch.linalg.pinv(states).T  # 1 to the token itself, 0 to all others
            words = answers[1 + network.config.min_seats :]
            network.shared.detect.copy_(80.0 * (words - 0.5 * answers.sum(dim=0)))
            network.shared.directions.copy_(2.0 * torch.randn(words.shape))
    return network.eval().requires_grad_(False)


def make_seats(base_model: nn.Module | None = None) -> Seats:
    """The tiny network on its base."""
    config = make_config()
    base, network = base_model or make_base(), make_network(config)
    return Seats(config, network, make_statistics(config), base)


def write_checkpoint(folder: Path) -> Path:
    """Write the three files of the tiny checkpoint, weights in the plain form."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dataclasses.asdict(make_config())), "utf-8")
    for name, data in _list_weights().items():
        (folder / name).write_bytes(data)
    return folder


@cache
def _list_weights() -> dict[str, bytes]:
    """Content of the two files of weights of the tiny checkpoint."""
    moments = make_statistics()
    statistics = {"correlation": moments.correlation, "scale": moments.scale}
    files = {"model": make_network().state_dict(), "statistics": statistics}
    return {f"{name}.safetensors": save(tensors) for name, tensors in files.items()}


@torch.no_grad()
def record_inputs(
    memory: Memory,
    base_model: nn.Module,
    *,
    opening: Sequence[int],
    layers: Sequence[int],
    shared: Shared | None = None,
) -> Tensor:
    """Record attention inputs of the opening, with imposed memory: float64 (layers, tokens, d_in).

    One pass: each layer's seats get the memory's keys and values instead of the outputs of k_proj
    and v_proj, so layers above get the states that the adapter will cause. The sink keeps its own.
    The shared part of the adapter acts on all tokens.
    """
    inputs: list[Tensor] = []

    def watch(name: str, given: Tensor, _: Tensor) -> None:
        if name == "k_proj":  # v_proj has the same inputs
            inputs.append(given)

    run_imposed(
        memory, base_model, opening=opening, layers=layers, shared=shared, watch=Watch(watch)
    )
    return torch.stack(inputs).cpu().to(torch.float64)  # MPS has no float64
