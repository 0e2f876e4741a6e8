"""Passes through a base in fp32, whatever the precision of its weights.

Tokens and a base without a head in; hooks on the base's modules see the states.
"""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class _ExactLayer(nn.Module):
    """Decoder layer that runs in a copy in fp32, which lasts as long as the layer runs. The copy
    has the layer's hooks; these must be plain functions, which `deepcopy` does not copy."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def __getattr__(self, name: str) -> Any:
        """Find an attribute of the layer, such as the kind of attention, which bases look up."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("layer"), name)

    def forward(self, *states: Any, **options: Any) -> Any:
        return copy.deepcopy(self.layer).to(torch.float32)(*states, **options)


def run_exact(model: Any, token_ids: Sequence[int], *, n_layers: int | None = None) -> None:
    """Run tokens through a base's first `n_layers` layers (None: all) in fp32.

    Of weights in less than fp32, one layer at a time is copied; the result is that of a copy of the
    whole base in fp32.
    """
    layers = model.layers
    used = layers[:n_layers]
    if any(parameter.dtype != torch.float32 for parameter in used.parameters()):
        used = nn.ModuleList(map(_ExactLayer, used))
    model.layers = used
    try:
        table = model.embed_tokens  # Gemma's multiplies, and would round the product
        ids = torch.tensor([list(token_ids)], device=table.weight.device)
        states: Tensor = table.weight[ids].to(torch.float32) * getattr(table, "embed_scale", 1.0)
        model(inputs_embeds=states, use_cache=False)
    finally:
        model.layers = layers
