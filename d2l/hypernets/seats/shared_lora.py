"""The part of a seats adapter that no document changes: a LoRA on down_proj, learned beside the
network, that helps the base to make use of what the seats hold; or addresses (`addresses`).

Tensors and modules in, tensors out; knows nothing of memories, documents or files.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from d2l.adapters.weights import LoraFactors
from d2l.bases.families import module_path
from d2l.errors import OptionError
from d2l.hypernets.seats.config import SeatsConfig

_MODULE = "down_proj"


class Shared(Protocol):
    """What an adapter adds to the MLPs of its base besides its seats, whatever they hold."""

    def run_mlp(self, layer: int, mlp: Any, inputs: Tensor, *, n_seats: int) -> Tensor:
        """The MLP of the base's layer `layer` on inputs (..., hidden), as an adapter of so many
        seats leaves it."""

    def attach(self, model: nn.Module, *, n_seats: Sequence[int]) -> list[RemovableHandle]:
        """Make the MLPs of a base without a head do the same, until the handles are removed, for a
        batch of prompts whose adapters have these numbers of seats, or of one alone."""

    def factors(self, *, rank: int) -> dict[str, LoraFactors]:
        """The same as a LoRA of scale 1 on the CPU, by module; `rank` is the number of seats. Some
        runtimes take only adapters whose modules all have the same rank."""

    def scaled(self, scale: float) -> Self:
        """The same with `scale` times its effect; raises OptionError where that cannot be."""


def run_mlp(layer: Any, number: int, x: Tensor, shared: Shared | None, *, n_seats: int) -> Tensor:
    """What the MLP of a base's layer adds to x (..., hidden), `shared` included."""
    inputs = layer.post_attention_layernorm(x)
    if shared is None:
        result: Tensor = layer.mlp(inputs)
        return result
    return shared.run_mlp(number, layer.mlp, inputs, n_seats=n_seats)


class SharedLora(nn.Module):
    """LoRA of `config.shared_rank` on every adapted layer's down_proj; its scale is 1.

    The layers' factors lie below one another: `a.weight` (layers * rank, d_in), `b.weight`
    (layers * d_out, rank). A fresh one changes nothing.
    """

    def __init__(self, config: SeatsConfig) -> None:
        super().__init__()
        self.layers = config.memory_layers
        self.rank, self.d_out = config.shared_rank, config.hidden
        self.a = nn.Linear(config.intermediate, len(self.layers) * self.rank, bias=False)
        self.b = nn.Linear(self.rank, len(self.layers) * self.d_out, bias=False)
        nn.init.zeros_(self.b.weight)

    def of_layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Factors (rank, d_in) and (d_out, rank) of the base's layer `layer`."""
        index = self.layers.index(layer)
        rows = slice(index * self.rank, (index + 1) * self.rank)
        return self.a.weight[rows], self.b.weight[index * self.d_out : (index + 1) * self.d_out]

    def change(self, layer: int, inputs: Tensor) -> Tensor:
        """What it adds to the output of a layer's down_proj for `inputs` (..., d_in)."""
        a, b = self.of_layer(layer)
        return (inputs @ a.to(inputs.dtype).mT) @ b.to(inputs.dtype).mT

    def run_mlp(self, layer: int, mlp: Any, inputs: Tensor, *, n_seats: int) -> Tensor:  # noqa: ARG002
        """See `Shared`."""
        inner = mlp.act_fn(mlp.gate_proj(inputs)) * mlp.up_proj(inputs)  # (..., intermediate)
        result: Tensor = mlp.down_proj(inner)
        return result + self.change(layer, inner) if layer in self.layers else result

    def attach(self, model: nn.Module, *, n_seats: Sequence[int]) -> list[RemovableHandle]:  # noqa: ARG002
        """See `Shared`."""
        return [
            find_mlp(model, layer, _MODULE).register_forward_hook(
                lambda _module, inputs, output, layer=layer: output + self.change(layer, inputs[0])
            )
            for layer in self.layers
        ]

    @torch.no_grad()
    def scaled(self, scale: float) -> "SharedLora":
        """See `Shared`; raises OptionError where `scale` is no number."""
        if not math.isfinite(scale):
            raise OptionError(f"bias scale is not a finite number: {scale}")
        result = copy.deepcopy(self)
        result.b.weight.mul_(scale)
        return result

    @torch.no_grad()
    def factors(self, *, rank: int) -> dict[str, LoraFactors]:
        """See `Shared`: widened to `rank` with zeros, which change nothing."""
        missing = rank - self.rank
        result = {}
        for layer in self.layers:
            a, b = (tensor.detach().cpu() for tensor in self.of_layer(layer))
            result[module_path(layer, _MODULE)] = LoraFactors(
                functional.pad(a, (0, 0, 0, missing)), functional.pad(b, (0, missing))
            )
        return result


def find_mlp(model: nn.Module, layer: int, name: str) -> nn.Module:
    """A projection of the MLP in a layer of a base without a head."""
    return model.get_submodule(module_path(layer, name).removeprefix("model."))
