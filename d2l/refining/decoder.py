"""The frozen base with one memory seated, and many exercises behind its opening.

It computes the same as `SeatedDecoder` at less cost: the opening is read by itself, once for all
exercises, and these lie side by side, where each sees the opening and itself. A is a constant, as
in the exported adapter. Gradients flow through values and B, and, where the opening is read with
gradients, through its states into the layers above.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.second_moments import Statistics
from d2l.hypernets.seats.shared import Shared, run_mlp
from d2l.training.learners.document_data import Exercise
from d2l.training.learners.seats.solve import Solved, Solver, impose

_Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class _Seated:
    """An opening in one layer of the base.

    `seen`: keys and values (tokens, kv_heads * head_dim) that later tokens see. With a leaking
    memory also A, `answers` (seats, d_in), columns of B (seats, kv_heads * head_dim) for keys and
    values, `lacking`, and what they are computed from: keys and values without the memory, `given`,
    and `solved`.
    """

    seen: _Pair
    answers: Tensor | None = None
    lacking: _Pair | None = None
    given: _Pair | None = None
    solved: Solved | None = None


@dataclass(frozen=True)
class ReadOpening:
    """An opening that was read with a memory, keys and values (layers, seats, kv_heads * head_dim);
    `layers` are all layers of the base."""

    keys: Tensor
    values: Tensor
    layers: tuple[_Seated, ...]


class MemoryDecoder:
    """`causal` is a base with Llama's decoder layer and its head; `shared` is a part that the
    adapter adds for every memory alike."""

    def __init__(
        self,
        causal: Any,
        statistics: Statistics,
        config: SeatsConfig,
        shared: Shared | None = None,
    ) -> None:
        self.base, self.head = causal.model, causal.lm_head
        self.config, self.shared = config, shared
        self._solver = Solver(statistics, epsilon=config.solve_epsilon, like=self.head.weight)
        self.device = self.head.weight.device
        self._places = {layer: at for at, layer in enumerate(config.memory_layers)}

    def read_opening(self, keys: Tensor, values: Tensor, *, leaks: bool = True) -> ReadOpening:
        """The opening of a memory, keys and values (layers, seats, kv_heads * head_dim). If it does
        not leak, seats get the memory exactly and tokens behind them are as the base has them,
        which no adapter can do."""
        ids = torch.tensor(self.config.opening(keys.shape[1]), device=self.device)
        n = len(ids)
        x = self.base.embed_tokens(ids)  # (tokens, hidden)
        rotary = self.base.rotary_emb(x[None], torch.arange(n, device=self.device)[None])
        mask = torch.full((n, n), -torch.inf, dtype=x.dtype, device=self.device).triu(1)
        layers = []
        for index, layer in enumerate(self.base.layers):
            h = layer.input_layernorm(x)
            seated = _Seated((layer.self_attn.k_proj(h), layer.self_attn.v_proj(h)))
            at = self._places.get(index)
            if at is not None and not leaks:
                seated = _Seated(_put(seated.seen, (keys[at], values[at])))
            elif at is not None:
                # Learning through A fits drills in fewer steps, and people's questions no better.
                solved = self._solver.solve(h.detach(), at)
                seated = self._seat(seated.seen, (keys[at], values[at]), solved)
            layers.append(seated)
            x = x + self._attend(layer.self_attn, h, seated.seen, rotary, mask)
            x = x + run_mlp(layer, index, x, self.shared, n_seats=n - 1)
        return ReadOpening(keys, values, tuple(layers))

    def seat_again(self, opening: ReadOpening, values: Tensor) -> ReadOpening:
        """Swap the memory's values without re-reading the opening; exact only while both memories
        are close."""
        layers = list(opening.layers)
        for index, at in self._places.items():
            seated = layers[index]
            assert seated.given is not None  # it was read with a memory that leaks
            assert seated.solved is not None
            wanted = (opening.keys[at], values[at])
            layers[index] = self._seat(seated.given, wanted, seated.solved)
        return replace(opening, values=values, layers=tuple(layers))

    def _seat(self, given: _Pair, wanted: _Pair, solved: Solved) -> _Seated:
        """Impose a memory on keys and values of the opening, but for its first token."""
        dtype = given[0].dtype
        ridge = self.config.value_ridge
        (keys, of_keys), (values, of_values) = impose(given, wanted, solved.leak, ridge=ridge)
        lacking = (of_keys.to(dtype), of_values.to(dtype))
        return _Seated(
            _put(given, (keys, values)), solved.answers.to(dtype), lacking, given, solved
        )

    def logits(self, exercises: Sequence[Exercise], opening: ReadOpening) -> Tensor:
        """Logits (rows, vocabulary) where answers are predicted, exercise after exercise."""
        logits: Tensor = self.head(self.states(exercises, opening))
        return logits

    def states(self, exercises: Sequence[Exercise], opening: ReadOpening) -> Tensor:
        """States (rows, hidden) from which the head reads these logits."""
        n_opening = opening.keys.shape[1] + 1
        ids, positions, rows, mask = (
            tensor.to(self.device) for tensor in _lay_out(exercises, n_opening=n_opening)
        )
        x = self.base.embed_tokens(ids)  # (tokens, hidden)
        rotary = self.base.rotary_emb(x[None], positions[None])
        for index, (layer, seated) in enumerate(zip(self.base.layers, opening.layers, strict=True)):
            h = layer.input_layernorm(x)
            own = _leak(h, (layer.self_attn.k_proj(h), layer.self_attn.v_proj(h)), seated)
            k, v = (torch.cat(parts) for parts in zip(seated.seen, own, strict=True))
            x = x + self._attend(layer.self_attn, h, (k, v), rotary, mask)
            x = x + run_mlp(layer, index, x, self.shared, n_seats=n_opening - 1)
        states: Tensor = self.base.norm(x[rows])
        return states

    def _attend(
        self, attention: Any, h: Tensor, pair: Sequence[Tensor], rotary: _Pair, mask: Tensor
    ) -> Tensor:
        """Attention of h (tokens, hidden), the last tokens, over keys and values of all tokens."""
        size, n = self.config.head_dim, h.shape[0]
        q, k, v = (
            tensor.unflatten(-1, (-1, size)).transpose(0, 1)[None]
            for tensor in (attention.q_proj(h), *pair)
        )  # each (1, heads, tokens, head_dim)
        cos, sin = rotary  # (1, all tokens, head_dim)
        q, _ = apply_rotary_pos_emb(q, q[:, :0], cos[:, -n:], sin[:, -n:])
        k, _ = apply_rotary_pos_emb(k, k[:, :0], cos, sin)
        read = _read(q[0], k[0], v[0], mask)
        result: Tensor = attention.o_proj(read.transpose(0, 1).flatten(1))
        return result


def _put(given: _Pair, wanted: _Pair) -> _Pair:
    """Keys and values of an opening whose seats have the wanted ones."""
    keys, values = (
        torch.cat([outputs[:1], imposed.to(outputs.dtype)])
        for outputs, imposed in zip(given, wanted, strict=True)
    )
    return keys, values


def _leak(h: Tensor, given: _Pair, seated: _Seated) -> _Pair:
    """Keys and values of the tokens behind an opening, with the adapter's part."""
    if seated.answers is None or seated.lacking is None:
        return given
    response = h @ seated.answers.mT  # (tokens, seats)
    k, v = (
        outputs + response @ lacking for outputs, lacking in zip(given, seated.lacking, strict=True)
    )
    return k, v


def _lay_out(
    exercises: Sequence[Exercise], *, n_opening: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Exercises side by side behind an opening, without padding: their lengths differ fivefold.

    Returns ids (tokens,), positions (opening + tokens,), the rows that predict answers, and a mask
    (tokens, opening + tokens) to add: 0 where a token sees another, else -inf.
    """
    lines = [(*one.prompt, *one.answer[:-1]) for one in exercises]
    lengths = list(map(len, lines))
    starts = [0, *accumulate(lengths[:-1])]
    ids = torch.tensor([i for line in lines for i in line])
    places = [torch.arange(n_opening, n_opening + length) for length in lengths]
    positions = torch.cat([torch.arange(n_opening), *places])
    rows = [
        torch.arange(len(one.answer)) + start + len(one.prompt) - 1
        for start, one in zip(starts, exercises, strict=True)
    ]
    owners = torch.repeat_interleave(torch.tensor(lengths))
    seen = (owners[:, None] == owners).tril()
    seen = torch.cat([torch.ones(len(ids), n_opening, dtype=torch.bool), seen], dim=1)
    mask = torch.zeros(seen.shape).masked_fill_(~seen, -torch.inf)
    return ids, positions, torch.cat(rows), mask


def _read(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Grouped attention of q (heads, tokens, head_dim) over k and v (kv_heads, seen, head_dim),
    under a mask (tokens, seen) that is added; shaped like q.

    Spelled out: on CPUs the gradient of torch's own kernel takes several times as long.
    """
    size = q.shape[-1]
    rows = q.reshape(k.shape[0], -1, size) / math.sqrt(size)  # a group's heads behind one another
    scores = (rows @ k.mT).view(k.shape[0], -1, *mask.shape) + mask.to(q.dtype)
    read: Tensor = scores.softmax(dim=-1).flatten(1, 2) @ v  # (kv_heads, rows, head_dim)
    return read.reshape(q.shape)
