"""The frozen base in training: with a LoRA that gradients flow through, and logits of answers."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from d2l.bases.families import module_path
from d2l.bases.models import read_out

#: A and B by module's short name: (layers, rank, d_in) and (layers, rank, d_out). Where every line
#: of a batch has a LoRA of its own, the batch stands behind the layers.
Generated = Mapping[str, tuple[Tensor, Tensor]]


@contextmanager
def adapted(causal: nn.Module, generated: Generated, scale: float) -> Iterator[None]:
    """A block in which the base's linear layers give W x + scale · B (A x), as PEFT's do.

    A x and B are computed in their own precision, the sum in it too, and then rounded to the
    base's: peft, tuners/lora/layer.py, Linear.forward.
    """
    hooks = []
    try:
        for name, (a, b) in generated.items():
            for layer in range(a.shape[0]):
                linear = causal.get_submodule(module_path(layer, name))
                hook = _make_hook(a[layer], b[layer], scale)
                hooks.append(linear.register_forward_hook(hook))
        yield
    finally:
        for handle in hooks:
            handle.remove()


def _make_hook(a: Tensor, b: Tensor, scale: float) -> Any:
    """A forward hook that adds a LoRA's part; a: (rank, d_in), b: (rank, d_out), or both with the
    lines of a batch before them."""

    def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        added = (inputs[0].to(a.dtype) @ a.mT) @ b
        return (output + scale * added).to(output.dtype)

    return add


def predict(
    causal: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[Tensor]:
    """Logits (tokens, vocabulary) that predict each answer behind its prompt, padded right.

    Nothing is masked: tokens see only what precedes them, so padding is seen by none that counts.
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
