"""The seat network: a chunk's activations in, keys and values for the chunk's seats out.

A seat is a token of the opening, with which every prompt to the adapter begins; it stands for a few
tokens of the document. The network pools the chunk's own keys and values around each seat's
position and corrects them. `seating` turns memories into LoRA.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2l.adapters.merge_methods import scaled
from d2l.adapters.weights import Memory
from d2l.bases.activations import Activations
from d2l.errors import BaseModelError, MergeError, OptionError
from d2l.hypernets.formats.fields import naming
from d2l.hypernets.formats.native import check_shapes, get_shapes, read_weights
from d2l.hypernets.options import MergeOptions
from d2l.hypernets.protocol import Assembled, ChunkWeights
from d2l.hypernets.seats.config import SeatsConfig, read_config
from d2l.hypernets.seats.seated_config import SeatedConfig
from d2l.hypernets.seats.seating import Seating, find_projection, seat_memory
from d2l.hypernets.seats.second_moments import (
    FILE_NAME,
    Statistics,
    prepare_factors,
    read_statistics,
)
from d2l.hypernets.seats.shared import Addresses, Shared, SharedLora
from d2l.hypernets.seats.sharing import centers

_PRIOR = -1.5  # log-weight of a token one seat's width away from the seat's center
_MOST_WORTH = 2.0  # a token's width is at most e² and at least e⁻² times that of a plain one
_TYPICAL_LOG_WIDTH = 2.0  # ln of about 8 tokens a seat, so the width's vector starts near zero


class _EncoderBlock(nn.Module):
    """Pre-norm transformer block, bidirectional, with a learned bias on relative distance."""

    def __init__(self, config: SeatsConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.clip = config.encoder_heads, config.relative_clip
        self.norm_attention = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp_in = nn.Linear(width, 4 * width)
        self.mlp_out = nn.Linear(4 * width, width)
        self.relative_bias = nn.Parameter(torch.zeros(self.heads, 2 * self.clip + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map (tokens, width) to the same shape."""
        n_tokens, width = x.shape
        places = torch.arange(n_tokens, device=x.device)
        distance = (places[None, :] - places[:, None]).clamp(-self.clip, self.clip) + self.clip
        bias = self.relative_bias[:, distance]  # (heads, tokens, tokens), query by key
        qkv = self.qkv(self.norm_attention(x)).view(n_tokens, 3, self.heads, -1)
        q, k, v = qkv.permute(1, 2, 0, 3)  # each (heads, tokens, width / heads)
        read = functional.scaled_dot_product_attention(q[None], k[None], v[None], bias[None])[0]
        x = x + self.output(read.transpose(0, 1).reshape(n_tokens, width))
        result: Tensor = x + self.mlp_out(functional.silu(self.mlp_in(self.norm_mlp(x))))
        return result


class SeatNetwork(nn.Module):
    """A chunk's activations to keys and values of its seats; attribute names are the file's.

    A fresh network has no corrections yet: seats hold the pooled keys and values around them.
    """

    def __init__(self, config: SeatsConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.n_groups = config.n_adapted_layers * config.kv_heads
        self.input_projection = nn.Linear(len(config.features) * config.hidden, width)
        self.encoder = nn.ModuleList(_EncoderBlock(config) for _ in range(config.encoder_layers))
        self.encoder_norm = nn.LayerNorm(width)
        self.seat_table = nn.Parameter(0.02 * torch.randn(config.seat_table, width))
        self.width_vector = nn.Parameter(torch.zeros(width))
        self.anchor_query = nn.Linear(width, width)
        self.anchor_key = nn.Linear(width, width)
        self.anchor_value = nn.Linear(width, width)
        self.anchor_sharpness = nn.Parameter(torch.ones(()))
        self.seat_mlp = nn.ModuleDict(
            {
                "norm": nn.LayerNorm(width),
                "in": nn.Linear(width, 4 * width),
                "out": nn.Linear(4 * width, width),
            }
        )
        self.seat_norm = nn.LayerNorm(width)
        self.group_query = nn.Linear(width, self.n_groups * config.group_dim)
        self.group_key = nn.Linear(width, self.n_groups * config.group_dim)
        self.group_sharpness = nn.Parameter(torch.zeros(self.n_groups))
        self.key_correction = nn.Linear(width, self.n_groups * config.head_dim)
        self.value_correction = nn.Linear(width, self.n_groups * config.head_dim)
        for correction in (self.key_correction, self.value_correction):
            nn.init.zeros_(correction.weight)
            nn.init.zeros_(correction.bias)
        self.place = nn.Linear(width, 1, bias=False) if config.learned_places else None
        if self.place is not None:
            nn.init.zeros_(self.place.weight)  # even positions, until trained
        self.shared: SharedLora | Addresses | None = None
        if config.shared_rank:
            self.shared = SharedLora(config)
        elif config.address_neurons:
            self.shared = Addresses(config)

    def forward(
        self, hidden: Tensor, keys: Tensor, values: Tensor, n_seats: int
    ) -> tuple[Tensor, Tensor]:
        """Write keys and values of `n_seats` seats: (layers, seats, kv_heads * head_dim) each.

        `hidden`: (layers, tokens, hidden), `keys`, `values`: (layers, tokens, kv_heads * head_dim).
        """
        n_tokens = hidden.shape[1]
        seat_width = n_tokens / n_seats
        x = self.encode(hidden)
        places = self.place_tokens(x, n_seats)
        away = places[None] - torch.tensor(centers(n_seats, n_tokens), dtype=torch.float64)[:, None]
        prior = _PRIOR * (away / max(seat_width, 1.0)) ** 2  # (seats, tokens)
        prior = prior.to(hidden.device, hidden.dtype)
        z = self.describe_seats(x, prior, seat_width)
        dim = self.config.group_dim
        queries = self.group_query(z).view(n_seats, self.n_groups, dim).transpose(0, 1)
        tokens = self.group_key(x).view(n_tokens, self.n_groups, dim).permute(1, 2, 0)
        logits = queries @ tokens / math.sqrt(dim)  # (layers * heads, seats, tokens)
        logits = logits + self.group_sharpness.exp()[:, None, None] * prior
        weights = logits.softmax(dim=-1)
        return (
            self._pool(weights, keys) + self._by_layer(self.key_correction(z)),
            self._pool(weights, values) + self._by_layer(self.value_correction(z)),
        )

    def encode(self, hidden: Tensor) -> Tensor:
        """Mix the hidden states (layers, tokens, hidden) of a chunk into (tokens, width)."""
        normed = functional.layer_norm(hidden, hidden.shape[-1:])  # eps 1e-5
        x: Tensor = self.input_projection(normed.transpose(0, 1).flatten(1))  # (tokens, width)
        for block in self.encoder:
            x = block(x)
        result: Tensor = self.encoder_norm(x)
        return result

    def place_tokens(self, x: Tensor, n_seats: int) -> Tensor:
        """Compute positions among the seats of tokens with states x (tokens, width): (tokens,).

        They rise in units of the mean distance between the chunk's tokens; float64 on the CPU,
        since not every device has it. They are 0, 1, 2 …, or, if learned, a token is the wider the
        more it is worth.
        """
        n_tokens = len(x)
        if self.place is None or n_seats >= n_tokens:
            return torch.arange(n_tokens, dtype=torch.float64)
        worth = (_MOST_WORTH * torch.tanh(self.place(x)[:, 0] / _MOST_WORTH)).exp()
        shares = fill_seats(worth.cpu().double(), n_seats)
        return (shares.cumsum(0) - shares / 2) * (n_tokens / n_seats) - 0.5

    def describe_seats(self, x: Tensor, prior: Tensor, seat_width: float) -> Tensor:
        """Compute seats' states (seats, width) from tokens (tokens, width); prior (seats,
        tokens)."""
        rows = torch.arange(prior.shape[0], device=x.device) % self.config.seat_table
        u = self.seat_table[rows] + self.width_vector * (math.log(seat_width) - _TYPICAL_LOG_WIDTH)
        logits = self.anchor_query(u) @ self.anchor_key(x).T / math.sqrt(self.config.width)
        weights = (logits + self.anchor_sharpness * prior).softmax(dim=-1)  # (seats, tokens)
        y = weights @ self.anchor_value(x) + u
        inner = functional.silu(self.seat_mlp["in"](self.seat_mlp["norm"](y)))
        result: Tensor = self.seat_norm(y + self.seat_mlp["out"](inner))
        return result

    def _pool(self, weights: Tensor, given: Tensor) -> Tensor:
        """Average (layers, tokens, kv_heads * head_dim) by (layers * heads, seats, tokens)."""
        layers, n_tokens, size = given.shape
        heads = self.config.kv_heads
        grouped = given.view(layers, n_tokens, heads, -1).transpose(1, 2).flatten(0, 1)
        pooled = weights @ grouped  # (layers * heads, seats, head_dim)
        return pooled.view(layers, heads, -1, size // heads).transpose(1, 2).flatten(2)

    def _by_layer(self, written: Tensor) -> Tensor:
        """Turn (seats, layers * kv_heads * head_dim) to (layers, seats, kv_heads * head_dim)."""
        size = self.config.kv_heads * self.config.head_dim
        return written.view(written.shape[0], -1, size).transpose(0, 1)


def fill_seats(worth: Tensor, n_seats: int) -> Tensor:
    """Share `n_seats` seats in proportion to worth (tokens,), at most a whole seat each.

    The excess of the worthiest goes to the others. There must be at least as many tokens as seats;
    worth is positive. The shares add up to `n_seats`, and are differentiable.
    """
    ordered = worth.sort(descending=True).values
    left = n_seats - torch.arange(len(worth), device=worth.device)  # with 0, 1, 2 … seats full
    scales = left / ordered.flip(0).cumsum(0).flip(0)  # of the others' worth
    n_full = int((scales * ordered > 1).cumprod(0).sum())
    return (worth * scales[n_full]).clamp(max=1)


def build_network(
    config: SeatsConfig, tensors: Mapping[str, Tensor], *, source: str
) -> SeatNetwork:
    """Build a frozen network with these weights; their names and shapes must be the network's."""
    with torch.device("meta"):  # weights will be replaced: no time and random numbers for them
        network = SeatNetwork(config)
    with naming(Path(source)):
        check_shapes(get_shapes(tensors), get_shapes(network.state_dict()))
    network.load_state_dict(dict(tensors), assign=True)
    return network.eval().requires_grad_(False)


class Seats:
    """Seats on a base: chunks to memories, memories to an adapter.

    Without a `network` a memory is the base's KV cache. Without `statistics` nothing can
    be seated.
    """

    def __init__(
        self,
        config: SeatedConfig,
        network: SeatNetwork | None,
        statistics: Statistics | None,
        base_model: nn.Module,
    ) -> None:
        expected = (config.kv_heads * config.head_dim, config.hidden)
        for layer in (config.memory_layers[0], config.memory_layers[-1]):
            got = tuple(find_projection(base_model, layer, "k_proj").weight.shape)
            if got != expected:
                raise BaseModelError(
                    f"k_proj of the base's layer {layer} has shape {got}, expected {expected}",
                    hint=f"this checkpoint fits {config.base} only",
                )
        self.config = config
        self.network = network
        self.statistics = statistics
        self.base_model = base_model
        #: The part of every adapter that is the same for all documents.
        self.shared: Shared | None = None if network is None else network.shared
        if isinstance(self.shared, Addresses):  # they depend on the base
            self.shared.fit(base_model, config.opening(config.max_seats))

    @torch.no_grad()
    def generate(self, condition: Activations, rank: int) -> Memory:
        """Write the memory of a chunk with `rank` seats; with rank 0, it claims no seat.

        Without a network the first `rank` tokens have a seat each, or all, if there are fewer.
        """
        assert condition.keys is not None
        assert condition.values is not None
        if self.network is None:
            n_seats, pair = max(rank, 1), (condition.keys, condition.values)
            if n_seats > condition.keys.shape[1]:
                return self.copy(condition, n_seats)
            keys, values = (own[:, :n_seats].cpu().float() for own in pair)
            return Memory(keys, values, claims_seats=rank > 0)
        device = self.network.width_vector.device
        keys, values = self.network(
            *(
                tensor.to(device, torch.float32)
                for tensor in (condition.hidden, condition.keys, condition.values)
            ),
            n_seats=max(rank, 1),
        )
        return Memory(keys.cpu(), values.cpu(), claims_seats=rank > 0)

    def copy(self, condition: Activations, n_seats: int) -> Memory:
        """Copy a chunk's KV cache as a memory, a seat a token; some tokens twice if seats are left
        over."""
        assert condition.keys is not None
        assert condition.values is not None
        places = torch.arange(n_seats) * condition.keys.shape[1] // n_seats
        keys, values = (one.cpu().float()[:, places] for one in (condition.keys, condition.values))
        return Memory(keys, values)

    def assemble(self, written: Iterable[ChunkWeights], options: MergeOptions) -> Assembled:
        """Join the memories, then seat them once. Adapters seated alone can't be added up:
        they claim the same seats.
        """
        if options.method not in JOINS:
            raise OptionError(
                f"seats cannot be merged by {options.method!r}",
                hint=f"choose one of {', '.join(sorted(JOINS))}",
            )
        shared, statistics = self.shared, self.statistics
        assert statistics is not None  # `SeatsNetwork.load` measures them
        if not isinstance(shared, SharedLora) and options.bias_scale != 1.0:
            raise OptionError(
                "this network has no learned bias to scale", hint="leave the bias scale at 1"
            )
        given = list(written)
        memories = [one for one in given if isinstance(one, Memory)]
        if len(memories) != len(given):
            raise MergeError("LoRA weights among memories: seats are merged before the seating")
        memory = JOINS[options.method](memories)
        if shared is not None and options.bias_scale != 1.0:
            shared = shared.scaled(options.bias_scale)
        seated = seat_memory(
            memory.top(self.config.n_adapted_layers),
            self.base_model,
            seating=Seating(statistics, self.config.solve_epsilon, shared, self.config.value_ridge),
            opening=self.config.opening(memory.n_seats),
            base=self.config.base,
        )
        weights = scaled(seated, options.scale)
        if shared is not None:
            own = shared.factors(rank=weights.rank)  # of the shared part's modules
            weights = replace(weights, factors={**weights.factors, **own})
        return Assembled(replace(weights, ranks=self._differing(memory.n_seats)), memory)

    def _differing(self, n_seats: int) -> dict[str, int]:
        """Ranks of modules, if they differ."""
        ranks = self.config.find_ranks(n_seats)
        return ranks if len(set(ranks.values())) > 1 else {}


def load_seats(folder: Path, base_model: nn.Module) -> Seats:
    """Read a checkpoint folder, plain or compact; the network goes to the base's device."""
    config = read_config(folder / "config.json")
    path = folder / "model.safetensors"
    network = build_network(config, read_weights(path), source=str(path))
    network.to(next(base_model.parameters()).device)
    return Seats(config, network, read_moments(folder / FILE_NAME, config), base_model)


def read_moments(path: Path, config: SeatedConfig) -> Statistics:
    """Read second moments, and prepare them once for all documents."""
    statistics = read_statistics(
        path, layers=config.memory_layers, d_in=config.hidden, ridge=config.statistics_ridge
    )
    prepare_factors(statistics)
    return statistics


def join_memories(parts: Sequence[Memory]) -> Memory:
    """Join memories seat by seat, in order. Parts without a seat are averaged into the seat
    before, or the first seat: the plain mean of the seat and these parts."""
    claiming = [part for part in parts if part.claims_seats]
    if not claiming:
        raise MergeError("no memory that claims a seat")
    _check_sizes([(part.keys.shape[0], part.keys.shape[2]) for part in parts])
    keys = torch.cat([part.keys for part in claiming], dim=1)  # (layers, seats, heads)
    values = torch.cat([part.values for part in claiming], dim=1)
    guests: dict[int, list[Memory]] = {}
    n_seats = 0
    for part in parts:
        if part.claims_seats:
            n_seats += part.n_seats
        else:
            guests.setdefault(max(n_seats - 1, 0), []).append(part)
    for seat, fallen in guests.items():
        keys[:, seat] = torch.stack([keys[:, seat], *(p.keys[:, 0] for p in fallen)]).mean(0)
        values[:, seat] = torch.stack([values[:, seat], *(p.values[:, 0] for p in fallen)]).mean(0)
    return Memory(keys, values)


def average_memories(parts: Sequence[Memory]) -> Memory:
    """Average memories for the same seats: far less recall than `concat`."""
    _check_sizes([tuple(part.keys.shape) for part in parts])
    if not parts or not all(part.claims_seats for part in parts):
        raise MergeError("averaging needs memories that all claim their seats")
    return Memory(
        torch.stack([part.keys for part in parts]).mean(0),
        torch.stack([part.values for part in parts]).mean(0),
    )


#: Ways to merge memories before they are seated.
JOINS: dict[str, Callable[[Sequence[Memory]], Memory]] = {
    "average": average_memories,
    "concat": join_memories,
}


def _check_sizes(sizes: Sequence[tuple[int, ...]]) -> None:
    if len(set(sizes)) > 1:
        raise MergeError(
            f"memories of different sizes: {sorted(set(sizes))}",
            hint="merge only what one checkpoint wrote; for average, with equally many seats",
        )
