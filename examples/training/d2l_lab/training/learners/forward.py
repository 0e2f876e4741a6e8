"""Frozen base in training: with a LoRA that gradients flow through, and logits of answers."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn

from d2l.answer.lora_hooks import attached
from d2l.bases.families import module_path
from d2l.bases.models import read_out

#: A and B by module's short name: (layers, rank, d_in) and (layers, rank, d_out). If every line of
#: a batch has its own LoRA, the dimension of the batch follows the layers.
Generated = Mapping[str, tuple[Tensor, Tensor]]


def adapted(causal: nn.Module, generated: Generated, scale: float) -> AbstractContextManager[None]:
    """Let the base's linear layers give W x + scale · B (A x), as `attached` does."""
    factors = {
        module_path(layer, name): (a[layer], b[layer].mT)
        for name, (a, b) in generated.items()
        for layer in range(a.shape[0])
    }
    return attached(causal, factors, scale)


def predict(
    causal: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[Tensor]:
    """Compute the logits (tokens, vocabulary) of each answer behind its prompt, padded right.

    Nothing is masked: tokens see only earlier tokens, so no answer sees the padding.
    """
    lines = [(*p, *a[:-1]) for p, a in zip(prompts, answers, strict=True)]
    longest = max(map(len, lines))
    device = next(causal.parameters()).device
    ids = torch.tensor([[*line, *[0] * (longest - len(line))] for line in lines], device=device)
    hidden = causal.model(input_ids=ids, use_cache=False).last_hidden_state
    states = [
        hidden[index, len(prompt) - 1 : len(line)]
        for index, (prompt, line) in enumerate(zip(prompts, lines, strict=True))
    ]
    logits = read_out(causal, torch.cat(states))
    return list(torch.split(logits, [len(rows) for rows in states]))
