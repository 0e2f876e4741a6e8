"""The part of a seats adapter that no document changes: a LoRA on down_proj, learned beside the
network, that helps the base to make use of what the seats hold.

Tensors and modules in, tensors out; knows nothing of memories, documents or files.
"""

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from d2l.adapters.weights import LoraFactors
from d2l.errors import OptionError
from d2l.hypernets.seats.config import SeatsConfig

SHARED_MODULE = "down_proj"


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

    @torch.no_grad()
    def scaled(self, scale: float) -> "SharedLora":
        """The same with `scale` times its effect; raises OptionError where that is no number."""
        if not math.isfinite(scale):
            raise OptionError(f"bias scale is not a finite number: {scale}")
        result = copy.deepcopy(self)
        result.b.weight.mul_(scale)
        return result

    @torch.no_grad()
    def factors(self, layer: int, *, rank: int) -> LoraFactors:
        """One layer's factors on the CPU, widened to `rank` with zeros, which change nothing.

        Some runtimes take only adapters whose modules all have the same rank.
        """
        a, b = (tensor.detach().cpu() for tensor in self.of_layer(layer))
        missing = rank - self.rank
        return LoraFactors(functional.pad(a, (0, 0, 0, missing)), functional.pad(b, (0, missing)))
