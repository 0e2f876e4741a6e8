"""Optimizers of a network in training: AdamW, or Muon for its matrices and AdamW for the rest.

A network and a recipe in, one object that steps. Needs no losses.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from d2l_lab.training.learners.recipes import Recipe

_MOMENTUM = 0.95  # of Muon, torch's default


class Optimizers:
    """Optimizers, each with its own parameters, that step together at one rate."""

    def __init__(self, parts: Mapping[str, torch.optim.Optimizer]) -> None:
        self._parts = dict(parts)

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for part in self._parts.values():
            part.zero_grad(set_to_none=True)

    def step(self, rate: float) -> None:
        """Update every parameter at a learning rate."""
        for part in self._parts.values():
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def state_dict(self) -> dict[str, Any]:
        """State that later steps depend on, by the optimizer's name."""
        return {name: part.state_dict() for name, part in self._parts.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state; raises KeyError or ValueError for a state of other optimizers."""
        if state.keys() != self._parts.keys():
            raise KeyError(f"state of {sorted(state)}, expected {sorted(self._parts)}")
        for name, part in self._parts.items():
            part.load_state_dict(state[name])


def make_optimizers(network: nn.Module, recipe: Recipe) -> Optimizers:
    """Make the recipe's optimizers for all parameters of a network.

    Matrices are parameters of two and more dimensions whose name ends in `weight`: only they decay,
    not tables, biases, norms and scalers. Muon takes those of two dimensions, which are weights of
    linear layers; `match_rms_adamw` makes its updates as large as AdamW's, so that one rate fits
    both (Liu et al., Muon is Scalable for LLM Training, 2025).
    """
    table = recipe.optimizer
    matrices, others, by_muon = [], [], []
    for name, parameter in network.named_parameters():
        stacked = name.startswith("shared.")  # factors of many layers in one matrix
        if not name.endswith("weight") or parameter.ndim < 2:
            others.append(parameter)
        elif table.name == "muon" and parameter.ndim == 2 and not stacked:
            by_muon.append(parameter)
        else:
            matrices.append(parameter)
    decayed = {"params": matrices, "weight_decay": table.weight_decay}
    undecayed = {"params": others, "weight_decay": 0.0}
    groups = [group for group in (decayed, undecayed) if group["params"]]
    parts: dict[str, torch.optim.Optimizer] = {}
    if groups:
        parts["adamw"] = torch.optim.AdamW(groups, betas=(table.beta1, table.beta2))
    if by_muon:
        parts["muon"] = torch.optim.Muon(
            by_muon,
            momentum=_MOMENTUM,
            weight_decay=table.weight_decay,
            adjust_lr_fn="match_rms_adamw",
        )
    return Optimizers(parts)
