"""LoRA weights on a model inside a block, through hooks; the model itself does not change.

Weights in memory, with or without gradients; needs no folders, prompts or PEFT.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from d2l.adapters.weights import LoraWeights

#: A (rank, d_in) and B (d_out, rank) by the module's name in the causal model.
Factors = Mapping[str, tuple[Tensor, Tensor]]


@contextmanager
def attached(causal: nn.Module, factors: Factors, scale: float = 1.0) -> Iterator[None]:
    """Let linear layers give W x + scale · B (A x), as PEFT's layers do.

    A x and B are computed in their own precision, and the sum is rounded to the model's.
    """
    hooks = []
    try:
        for name, (a, b) in factors.items():
            hook = _make_hook(a, b, scale)
            hooks.append(causal.get_submodule(name).register_forward_hook(hook))
        yield
    finally:
        for handle in hooks:
            handle.remove()


def on_device(weights: LoraWeights, device: Any) -> Factors:
    """Copy an adapter's factors to a device."""
    return {name: (f.a.to(device), f.b.to(device)) for name, f in weights.factors.items()}


def _make_hook(a: Tensor, b: Tensor, scale: float) -> Any:
    def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        added = (inputs[0].to(a.dtype) @ a.mT) @ b.mT
        return (output + scale * added).to(output.dtype)

    return add
