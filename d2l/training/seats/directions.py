"""Where addresses point: directions in which seats differ from ordinary text and from one another.

What ordinary text gets of a memory in a layer is tr(Lᵀ P L) (`hypernets.seats.seating.soften`). An
address that is long enough is all that a layer sees of its seat, so P and L follow from directions,
second moments and the memory alone, and directions can be learned without running the base.
"""

import random
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from d2l.adapters.weights import Memory
from d2l.hypernets.seats.calibration import combine_memories
from d2l.hypernets.seats.network import Seats
from d2l.hypernets.seats.seating import MODULES, find_projection, record_inputs, whiten

_STEPS, _RATE = 80, 0.05  # the rate in units of a direction's mean absolute value
_MEMORIES = 6  # that directions are learned with, half of them of all seats


class _Leak:
    """What ordinary text gets of memories, against what it gets of itself."""

    def __init__(self, seats: Seats) -> None:
        config, model = seats.config, seats.base_model
        layers = config.memory_layers
        modules = [[find_projection(model, layer, name) for layer in layers] for name in MODULES]
        self._weights = [
            torch.stack([one.weight.detach().cpu().double() for one in group]) for group in modules
        ]  # of keys and of values, each (layers, d_out, d_in)
        self._biases = [_stack_biases(group) for group in modules]  # each (layers, 1, d_out)
        self._epsilon, self.cholesky = config.solve_epsilon, seats.statistics.cholesky
        moments = self.cholesky @ self.cholesky.mT
        self._text = [
            torch.einsum("lka,lab,lkb->l", w, moments, w) for w in self._weights
        ]  # energy of ordinary keys and of ordinary values

    def measure(self, inputs: Tensor, memory: Memory) -> Tensor:
        """Mean over layers of the energy of keys and of values that leaks, for inputs of the
        opening (layers, tokens, d_in), the sink's first."""
        _, factor = whiten(inputs, self.cholesky, epsilon=self._epsilon)
        answers = torch.cholesky_inverse(factor)[:, 1:, 1:]  # P of the seats
        total = torch.zeros((), dtype=torch.float64)
        wanted = (memory.keys, memory.values)
        for one, weight, bias, text in zip(
            wanted, self._weights, self._biases, self._text, strict=True
        ):
            lacking = one.cpu().double() - (inputs[:, 1:] @ weight.mT + bias)
            leaks = torch.einsum("lsd,lst,ltd->l", lacking, answers, lacking)
            total = total + (leaks / text).mean()
        return total


def _stack_biases(modules: Sequence[nn.Linear]) -> Tensor:
    rows = [
        torch.zeros(one.out_features) if one.bias is None else one.bias.detach().cpu()
        for one in modules
    ]
    return torch.stack(rows).double()[:, None]


def choose_directions(
    seats: Seats,
    memories: Sequence[Memory],
    *,
    seed: int = 0,
    watch: Callable[[int, int], object] = lambda done, total: None,  # noqa: ARG005
) -> Tensor:
    """Directions of length 1 for the words of an opening: fp32 (words, hidden).

    They begin as those that ordinary text uses least, and are then moved so that less of `memories`
    leaks, put together to all seats and to half of them. Two minutes on two CPU cores for 302
    words of a base 896 wide with memory in 21 layers.
    """
    config, chance = seats.config, random.Random(seed)
    leak, n_head = _Leak(seats), config.min_seats
    norms = _stack_norms(seats)
    directions = _begin(leak.cholesky, norms, config.max_seats - n_head).requires_grad_(True)
    sizes = (config.max_seats, max((config.max_seats + n_head) // 2, n_head + 1))
    drawn = [combine_memories(memories, sizes[n % 2], chance) for n in range(_MEMORIES)]
    heads = [_read_head(seats, memory) for memory in drawn[:2]]  # of each size
    rate = _RATE * float(directions.detach().abs().mean())
    optimizer = torch.optim.Adam([directions], lr=rate)
    for step in range(_STEPS):
        memory = drawn[step % _MEMORIES]
        words = _as_inputs(directions[: memory.n_seats - n_head], norms)
        optimizer.zero_grad()
        loss = leak.measure(torch.cat([heads[step % 2], words], dim=1), memory)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        watch(step + 1, _STEPS)
    return nn.functional.normalize(directions.detach()).float()


def _stack_norms(seats: Seats) -> Tensor:
    """Weights of the norms before attention in layers with memory: float64 (layers, hidden)."""
    layers: Any = seats.base_model.layers
    rows = [layers[layer].input_layernorm.weight for layer in seats.config.memory_layers]
    return torch.stack([row.detach().cpu().double() for row in rows])


def _begin(cholesky: Tensor, norms: Tensor, n_words: int) -> Tensor:
    """The directions that text uses least, over all layers: float64 (words, hidden)."""
    inverses = torch.cholesky_inverse(cholesky)  # (layers, d_in, d_in)
    rarity = (norms[:, :, None] * inverses * norms[:, None]).mean(dim=0)
    vectors: Tensor = torch.linalg.eigh(rarity).eigenvectors
    return vectors[:, -n_words:].T.flip(0).contiguous()


def _as_inputs(directions: Tensor, norms: Tensor) -> Tensor:
    """What attention gets of states along these directions: (layers, words, hidden)."""
    length = directions.shape[-1] ** 0.5
    inputs: Tensor = nn.functional.normalize(directions)[None] * length * norms[:, None]
    return inputs


def _read_head(seats: Seats, memory: Memory) -> Tensor:
    """Attention inputs of the sink and the opening's head: float64 (layers, head, d_in)."""
    config = seats.config
    inputs = record_inputs(
        memory,
        seats.base_model,
        opening=config.opening(memory.n_seats),
        layers=config.memory_layers,
    )
    return inputs[:, : config.min_seats + 1]
