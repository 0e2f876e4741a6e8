"""Loss of a seat network: the real adapter's effect, differentiable; and its second moments.

Memories of the network and exercises (prompts with their answers) in; a loss out, whose gradient
reaches the network. Needs no files, no sampling and no steps.

Opening and questions of a memory run through the frozen base as one sequence: seats get the
memory's keys and values, every later token's k_proj and v_proj get B(A h), as the exported LoRA
adds it. Gradients flow through keys, values, A and B, and through the opening's states into the
layers above. Llama's decoder layer is spelled out here, so bases with another one need their own
walk.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from d2l.bases.activations import Activations
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import SeatNetwork
from d2l.hypernets.seats.seating import soften
from d2l.hypernets.seats.second_moments import Statistics
from d2l.hypernets.seats.shared import Shared, run_mlp
from d2l_lab.training.learners.document_data import Exercise

#: The base's activations of one chunk, and the number of seats that it gets.
ReadChunk = tuple[Activations, int]
#: Memories, and the exercises behind each.
Batch = tuple[Sequence[Sequence[ReadChunk]], Sequence[Sequence[Exercise]]]


@dataclass(frozen=True)
class PackedBatch:
    """Batch of exercises: those of a memory behind one opening, memories padded to the same length.

    `ids`, `positions`: (memories, tokens), and `real`, false for padding. `mask`: (memories, 1,
    tokens, tokens), true where a token sees another. `rows`: for each exercise, the indices of
    `ids`, flattened, that predict its answer's tokens.
    """

    ids: Tensor
    positions: Tensor
    real: Tensor
    mask: Tensor
    rows: tuple[Tensor, ...]

    def to(self, device: torch.device) -> "PackedBatch":
        """Copy the batch to a device."""
        given = (self.ids, self.positions, self.real, self.mask)
        ids, positions, real, mask = (tensor.to(device) for tensor in given)
        return PackedBatch(ids, positions, real, mask, tuple(row.to(device) for row in self.rows))


@dataclass(frozen=True)
class BatchLoss:
    """Loss of a batch; `losses` and `right` have an entry for each exercise."""

    total: Tensor
    losses: Tensor  # (exercises,) mean over an answer's tokens, detached
    right: Tensor  # (exercises,) share of the answer's tokens that were the most likely


class Solver:
    """Solver for A of a memory, with gradients: the same A as `seating.answer` gives; here
    for one layer at a time, on the base's device, and mostly in fp32.

    `epsilon`: the network's `solve_epsilon`; `like`: a tensor of the base, for the precision and
    device of the solution.
    """

    def __init__(self, statistics: Statistics, *, epsilon: float, like: Tensor) -> None:
        self._cholesky, self._epsilon = statistics.cholesky, epsilon
        self._precise, self._device = like.dtype == torch.float32, like.device

    @cached_property
    def _whitening(self) -> Tensor:
        """Inverses of the second moments' Cholesky factors: (layers, d_in, d_in).

        fp32 for a base in less than fp32, whose rounding moves logits more; float64 otherwise.
        """
        identity = torch.eye(self._cholesky.shape[-1], dtype=self._cholesky.dtype)
        inverse: Tensor = torch.linalg.solve_triangular(
            self._cholesky, identity.expand_as(self._cholesky), upper=False
        )
        return inverse.to(self._device, torch.float64 if self._precise else torch.float32)

    def solve(self, opening: Tensor, at: int) -> tuple[Tensor, Tensor]:
        """Solve in the `at`th layer with seats, from openings' states (…, tokens, d_in). Returns A
        of seats (…, seats, d_in), and P (…, seats, seats), their response to ordinary text."""
        whitening = self._whitening[at]
        whitened = opening.to(whitening.dtype) @ whitening.T  # (…, tokens, d_in)
        exact = whitened.to(torch.float64)
        gram = exact @ exact.mT  # (…, tokens, tokens)
        gram.diagonal(dim1=-2, dim2=-1).add_(self._epsilon)
        inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram)).to(whitened.dtype)
        answers = inverse[..., 1:, :] @ whitened @ whitening
        return answers, inverse[..., 1:, 1:]


def impose(
    given: Sequence[Tensor], wanted: Sequence[Tensor], leak: Tensor, *, ridge: float
) -> list[tuple[Tensor, Tensor]]:
    """Compute the outputs of seats, and their changes (columns of B): of keys, then of values.

    `given` are keys and values (…, tokens, kv_heads * head_dim) of tokens that begin with the
    opening, `wanted` those of its seats, whose precision the results have; `leak` is P. Values give
    way by `ridge`, as in seating.
    """
    n = leak.shape[-1]
    pairs = []
    for imposed, outputs, slack in zip(wanted, given, (0.0, ridge), strict=True):
        own = outputs[..., 1 : n + 1, :].to(imposed.dtype)
        lacking = imposed - own
        if slack:
            lacking = soften(lacking, leak.to(lacking.dtype), ridge=slack)
            pairs.append((own + lacking, lacking))
        else:  # exactly: own + lacking would add rounding, to the gradient too
            pairs.append((imposed, lacking))
    return pairs


class SeatedDecoder:
    """Frozen base with memories seated in the loop. `causal`: a Llama with its head.

    `watch`, if it is set, gets every adapted layer's number, from 0, and the attention inputs
    (tokens, d_in) of all tokens behind openings.
    """

    watch: Callable[[int, Tensor], None] | None = None

    def __init__(self, causal: Any, statistics: Statistics, config: SeatsConfig) -> None:
        self.base, self.head = causal.model, causal.lm_head
        self.config = config
        self._solver = Solver(statistics, epsilon=config.solve_epsilon, like=self.head.weight)

    def logits(
        self, batch: PackedBatch, keys: Tensor, values: Tensor, shared: Shared | None = None
    ) -> Tensor:
        """Compute logits (rows, vocabulary) of the answers, exercise after exercise.

        `keys`, `values`: (memories, layers, seats, kv_heads * head_dim). `shared`: the part of the
        adapter that is the same for every memory.
        """
        x = self.base.embed_tokens(batch.ids)  # (memories, tokens, hidden)
        rotary = self.base.rotary_emb(x, batch.positions)
        numbers = {layer: at for at, layer in enumerate(self.config.memory_layers)}
        for index, layer in enumerate(self.base.layers):
            h = layer.input_layernorm(x)
            k, v = layer.self_attn.k_proj(h), layer.self_attn.v_proj(h)
            at = numbers.get(index)
            if at is not None:
                if self.watch is not None:
                    start = keys.shape[2] + 1
                    self.watch(at, h[:, start:][batch.real[:, start:]])
                k, v = self._seat(h, (k, v), (keys[:, at], values[:, at]), at)
            x = x + self._attend(layer.self_attn, h, (k, v), rotary, batch.mask)
            x = x + run_mlp(layer, index, x, shared, n_seats=keys.shape[2])
        wanted = x.flatten(0, 1)[torch.cat(batch.rows)]  # (rows, hidden)
        logits: Tensor = self.head(self.base.norm(wanted))
        return logits

    def _seat(
        self, h: Tensor, given: tuple[Tensor, Tensor], wanted: tuple[Tensor, Tensor], at: int
    ) -> tuple[Tensor, Tensor]:
        """Change keys and values as the adapter does: seats imposed, later tokens with the leak."""
        n_opening = wanted[0].shape[1] + 1
        answers, own_response = self._solver.solve(h[:, :n_opening], at)
        response = h[:, n_opening:] @ answers.to(h.dtype).mT  # (memories, tokens, seats)
        results = []
        pairs = impose(given, wanted, own_response, ridge=self.config.value_ridge)
        for outputs, (imposed, lacking) in zip(given, pairs, strict=True):
            leak = response @ lacking.to(h.dtype)  # lacking: B, transposed
            parts = (outputs[:, :1], imposed.to(h.dtype), outputs[:, n_opening:] + leak)
            results.append(torch.cat(parts, dim=1))
        return results[0], results[1]

    def _attend(
        self,
        attention: Any,
        h: Tensor,
        pair: tuple[Tensor, Tensor],
        rotary: tuple[Tensor, Tensor],
        mask: Tensor,
    ) -> Tensor:
        """Attend from h (memories, tokens, hidden) to given keys and values."""
        size = self.config.head_dim
        q, k, v = (
            tensor.unflatten(-1, (-1, size)).transpose(1, 2)
            for tensor in (attention.q_proj(h), *pair)
        )  # each (memories, heads, tokens, head_dim)
        q, k = apply_rotary_pos_emb(q, k, *rotary)
        repeat = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(repeat, dim=1), v.repeat_interleave(repeat, dim=1)
        read = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        result: Tensor = attention.o_proj(read.transpose(1, 2).flatten(2))
        return result


def write_memories(
    network: SeatNetwork, memories: Sequence[Sequence[ReadChunk]]
) -> tuple[Tensor, Tensor]:
    """Write keys and values (memories, layers, seats, kv_heads * head_dim), chunks side by side.

    All memories must have the same number of seats.
    """
    keys, values = [], []
    for chunks in memories:
        written = []
        for read, n_seats in chunks:
            assert read.keys is not None
            assert read.values is not None
            # A clone: the reader's tensors come from inference mode, which autograd refuses.
            given = (t.to(torch.float32).clone() for t in (read.hidden, read.keys, read.values))
            written.append(network(*given, n_seats=n_seats))
        keys.append(torch.cat([pair[0] for pair in written], dim=1))
        values.append(torch.cat([pair[1] for pair in written], dim=1))
    return torch.stack(keys), torch.stack(values)


def pack_exercises(
    exercises: Sequence[Sequence[Exercise]], opening: Sequence[int], *, pad: int
) -> PackedBatch:
    """Lay out each memory's exercises behind the opening; they do not see one another."""
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    owners: list[list[int]] = []  # number of the exercise a token belongs to, 0 for the opening
    rows: list[tuple[int, int, int]] = []  # (memory, first predicting position, tokens)
    start = len(opening)
    for group in exercises:
        line, own, owner = list(opening), list(range(start)), [0] * start
        for number, exercise in enumerate(group, start=1):
            tokens = (*exercise.prompt, *exercise.answer[:-1])
            first = len(line) + len(exercise.prompt) - 1
            rows.append((len(ids), first, len(exercise.answer)))
            line += tokens
            own += range(start, start + len(tokens))
            owner += [number] * len(tokens)
        ids.append(line)
        positions.append(own)
        owners.append(owner)
    length = max(len(line) for line in ids)

    def pad_all(lines: list[list[int]], filler: int) -> Tensor:
        return torch.tensor([line + [filler] * (length - len(line)) for line in lines])

    owned = pad_all(owners, -1)  # padding sees itself and the opening, so no row is empty
    visible = (owned[:, None, :] == 0) | (owned[:, None, :] == owned[:, :, None])
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    return PackedBatch(
        pad_all(ids, pad),
        pad_all(positions, 0),
        owned >= 0,
        (visible & causal)[:, None],
        tuple(torch.arange(n) + index * length + first for index, first, n in rows),
    )


def measure_loss(
    logits: Tensor, exercises: Sequence[Exercise], *, general_weight: float = 1.0
) -> BatchLoss:
    """Average over each answer's tokens, then over exercises; `logits` are `SeatedDecoder`'s.

    Cross-entropy of the answer, or divergence from the reference if an exercise has one. General
    exercises have the weight `general_weight`, others their own `weight`.
    """
    losses, right, weights = [], [], []
    # Split at once: the gradient of each slice would be as large as all logits.
    parts = torch.split(logits, [len(exercise.answer) for exercise in exercises])
    for exercise, rows in zip(exercises, parts, strict=True):
        part = rows.to(torch.float32)
        log_probs = functional.log_softmax(part, dim=-1)  # (tokens, vocabulary)
        answer = torch.tensor(exercise.answer, device=logits.device)
        if exercise.reference is None:
            assert not exercise.general
            each = functional.nll_loss(log_probs, answer, reduction="none")
        else:
            reference = exercise.reference.to(logits.device, torch.float32)
            each = (reference.exp() * (reference - log_probs)).sum(dim=-1)
        losses.append(each.mean())
        weights.append(general_weight if exercise.general else exercise.weight)
        right.append((part.argmax(dim=-1) == answer).float().mean())
    stacked = torch.stack(losses)
    total = (stacked * torch.tensor(weights, device=logits.device)).mean()
    return BatchLoss(total, stacked.detach(), torch.stack(right))


def batch_loss(
    network: SeatNetwork,
    decoder: SeatedDecoder,
    memories: Sequence[Sequence[ReadChunk]],
    exercises: Sequence[Sequence[Exercise]],
    *,
    general_weight: float = 1.0,
) -> BatchLoss:
    """Compute the loss of a batch of memories, each with its exercises; all share one opening."""
    keys, values = write_memories(network, memories)
    opening = decoder.config.opening(keys.shape[2])
    packed = pack_exercises(exercises, opening, pad=decoder.config.end_token).to(keys.device)
    flat = [exercise for group in exercises for exercise in group]
    logits = decoder.logits(packed, keys, values, network.shared)
    return measure_loss(logits, flat, general_weight=general_weight)


@torch.no_grad()
def measure_moments(
    network: SeatNetwork, decoder: SeatedDecoder, batches: Iterable[Batch]
) -> Tensor:
    """Measure the second moments of the adapted modules' inputs, memories in place: the mean of
    x xᵀ over all tokens behind openings, float64 (layers, d_in, d_in) on the CPU.

    Moments of the base alone miss the effect of memories and of a shared LoRA on the layers above:
    there seats would respond to ordinary text more than necessary.
    """
    config = decoder.config
    totals = torch.zeros(config.n_adapted_layers, config.hidden, config.hidden, dtype=torch.float64)
    n_tokens = 0

    def add(layer: int, inputs: Tensor) -> None:
        """Count the inputs (tokens, d_in) of a layer."""
        nonlocal n_tokens
        x = inputs.to(torch.float32)
        totals[layer] += (x.mT @ x).cpu().to(torch.float64)
        n_tokens += len(x) if layer == 0 else 0

    decoder.watch = add
    try:
        for memories, exercises in batches:
            batch_loss(network, decoder, memories, exercises)
    finally:
        decoder.watch = None
    return totals / max(n_tokens, 1)
