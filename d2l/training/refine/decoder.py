"""The frozen base with one memory seated in the loop, for many exercises behind one opening.

The same numbers as `SeatedDecoder` gives, at less cost where there is one memory: exercises lie
side by side, each sees the opening and itself, and no attention is computed between them. A is a
constant here, as it is in the exported adapter; gradients flow through keys, values and B.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.seating import solve_answers
from d2l.hypernets.seats.second_moments import Statistics
from d2l.hypernets.seats.shared_lora import SharedLora
from d2l.training.exercises import Exercise


@dataclass(frozen=True)
class _Layout:
    """Exercises side by side behind one opening. Tokens lie flat: the opening's, then those of
    every exercise, `lengths` of them. `rows` are the places that predict answers."""

    ids: Tensor  # (tokens,)
    positions: Tensor  # (tokens,)
    n_opening: int
    lengths: tuple[int, ...]
    rows: Tensor
    mask: Tensor  # (length, opening + length), 0 where an exercise's token sees another, else -inf
    causal: Tensor  # (opening, opening), the same within the opening


class MemoryDecoder:
    """`causal` is a base with Llama's decoder layer and its head."""

    def __init__(self, causal: Any, statistics: Statistics, config: SeatsConfig) -> None:
        self.base, self.head = causal.model, causal.lm_head
        self.statistics, self.config = statistics, config
        self.device = self.head.weight.device

    def logits(
        self,
        exercises: Sequence[Exercise],
        keys: Tensor,
        values: Tensor,
        shared: SharedLora | None = None,
    ) -> Tensor:
        """Logits (rows, vocabulary) where answers are predicted, exercise after exercise.

        `keys`, `values`: (layers, seats, kv_heads * head_dim). `shared` is what the adapter adds
        besides, whatever the memory.
        """
        opening = self.config.opening(keys.shape[1])
        layout = _lay_out(exercises, opening, self.device)
        x = self.base.embed_tokens(layout.ids)  # (tokens, hidden)
        rotary = self.base.rotary_emb(x[None], layout.positions[None])
        places = {layer: at for at, layer in enumerate(self.config.memory_layers)}
        for index, layer in enumerate(self.base.layers):
            h = layer.input_layernorm(x)
            pair = [layer.self_attn.k_proj(h), layer.self_attn.v_proj(h)]
            at = places.get(index)
            if at is not None:
                pair = self._seat(h, pair, (keys[at], values[at]), at)
            x = x + self._attend(layer.self_attn, h, pair, rotary, layout)
            x = x + self._transform(layer, x, index, shared)
        logits: Tensor = self.head(self.base.norm(x[layout.rows]))
        return logits

    def _seat(
        self, h: Tensor, given: Sequence[Tensor], wanted: Sequence[Tensor], at: int
    ) -> list[Tensor]:
        """Keys and values as the adapter leaves them: seats imposed, later tokens with the leak."""
        n_opening = wanted[0].shape[0] + 1
        response = h[n_opening:] @ self._solve(h[:n_opening], at).to(h.dtype).mT  # (tokens, seats)
        results = []
        for outputs, imposed in zip(given, wanted, strict=True):
            lacking = imposed - outputs[1:n_opening].to(imposed.dtype)  # B, transposed
            leak = response @ lacking.to(h.dtype)
            parts = (outputs[:1], imposed.to(h.dtype), outputs[n_opening:] + leak)
            results.append(torch.cat(parts))
        return results

    @torch.no_grad()
    def _solve(self, opening: Tensor, at: int) -> Tensor:
        """A, as `seating.solve_answers` solves for it: (seats, d_in)."""
        inputs = opening.detach().cpu().to(torch.float64)[None]
        cholesky = self.statistics.cholesky[at : at + 1]
        answers = solve_answers(inputs, cholesky, epsilon=self.config.solve_epsilon)
        return answers[0].to(opening.device, torch.float32)

    def _transform(self, layer: Any, x: Tensor, index: int, shared: SharedLora | None) -> Tensor:
        """The MLP of x (tokens, hidden), with the shared LoRA on its down_proj."""
        h, mlp = layer.post_attention_layernorm(x), layer.mlp
        inner = mlp.act_fn(mlp.gate_proj(h)) * mlp.up_proj(h)  # (tokens, intermediate)
        result: Tensor = mlp.down_proj(inner)
        if shared is not None and index in shared.layers:
            result = result + shared.change(index, inner)
        return result

    def _attend(
        self,
        attention: Any,
        h: Tensor,
        pair: Sequence[Tensor],
        rotary: tuple[Tensor, Tensor],
        layout: _Layout,
    ) -> Tensor:
        """Attention of h (tokens, hidden) over keys and values given from outside."""
        size, n = self.config.head_dim, layout.n_opening
        q, k, v = (
            tensor.unflatten(-1, (-1, size)).transpose(0, 1)[None]
            for tensor in (attention.q_proj(h), *pair)
        )  # each (1, heads, tokens, head_dim)
        q, k = apply_rotary_pos_emb(q, k, *rotary)
        repeat = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        first = _read(q[:, :, :n], k[:, :, :n], v[:, :, :n], layout.causal)
        # (exercises, heads, length, head_dim): every exercise's own, behind the opening's.
        asked = [_spread(t[0, :, n:], layout.lengths) for t in (q, k, v)]
        seen = [
            torch.cat([whole[:, :, :n].expand(len(layout.lengths), -1, -1, -1), own], dim=2)
            for whole, own in ((k, asked[1]), (v, asked[2]))
        ]
        later = _read(asked[0], seen[0], seen[1], layout.mask).transpose(1, 2)
        own = [row[:length] for row, length in zip(later, layout.lengths, strict=True)]
        read = torch.cat([first[0].transpose(0, 1), *own])  # (tokens, heads, head_dim)
        result: Tensor = attention.o_proj(read.flatten(1))
        return result


def _lay_out(
    exercises: Sequence[Exercise], opening: Sequence[int], device: torch.device
) -> _Layout:
    """Lay exercises out behind the opening. They differ in length by as much as five times, so
    nothing is padded but what attention reads."""
    lines = [(*one.prompt, *one.answer[:-1]) for one in exercises]
    lengths, n = tuple(map(len, lines)), len(opening)
    length = max(lengths)
    ids = [*opening, *(i for line in lines for i in line)]
    positions = [*range(n), *(n + place for line in lines for place in range(len(line)))]
    starts = [n, *(n + passed for passed in accumulate(lengths[:-1]))]
    rows = [
        start + len(one.prompt) - 1 + place
        for start, one in zip(starts, exercises, strict=True)
        for place in range(len(one.answer))
    ]
    unseen = torch.full((max(n, length), n + length), -torch.inf, device=device)
    flat = (torch.tensor(values, device=device) for values in (ids, positions, rows))
    tokens, places, predicting = flat
    mask, causal = unseen[:length].triu(n + 1), unseen[:n, :n].triu(1)
    return _Layout(tokens, places, n, lengths, predicting, mask, causal)


def _spread(flat: Tensor, lengths: Sequence[int]) -> Tensor:
    """Flat tokens (heads, tokens, head_dim) as a row for each exercise, padded with zeros:
    (exercises, heads, length, head_dim)."""
    rows = torch.split(flat.transpose(0, 1), list(lengths))
    return pad_sequence(list(rows), batch_first=True).transpose(1, 2)


def _read(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Attention of q, k, v (..., tokens, head_dim) under a mask that is added: (..., head_dim).

    Spelled out: on CPUs the gradient of torch's own kernel takes several times as long.
    """
    scores = (q @ k.mT).to(torch.float32) / math.sqrt(q.shape[-1]) + mask
    return scores.softmax(dim=-1).to(v.dtype) @ v
