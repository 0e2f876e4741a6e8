"""Processes that train a network together, by Hugging Face Accelerate; usually a single one.

Assigns devices and shares of a step, and adds up gradients. Needs no network and no loss.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import gather_object
from torch import nn

from d2l.bases.devices import pick_device
from d2l.errors import RecipeError
from d2l_lab.training.learners.recipes import Recipe

T = TypeVar("T")
Network = TypeVar("Network", bound=nn.Module)


class Team:
    """Team of processes, as this one sees it; made by `join_team`."""

    def __init__(self, accelerator: Accelerator) -> None:
        self._accelerator = accelerator
        self.device = str(accelerator.device)
        self.size = int(accelerator.num_processes)
        self.is_main = bool(accelerator.is_main_process)

    def prepare(self, network: Network) -> Network:
        """Put a network on the device, in the recipe's mixed precision.

        Without Accelerate's wrapper, which would wait for the forward pass of a process whose share
        of a step is empty. `add_gradients` does its work.
        """
        prepared: Network = self._accelerator.prepare_model(network, evaluation_mode=True)
        return prepared

    def share(self, items: Sequence[T]) -> Sequence[T]:
        """Select this process's items: every `size`-th."""
        return items[self._accelerator.process_index :: self.size]

    def add_gradients(self, network: nn.Module) -> None:
        """Give every process the sum of all processes' gradients."""
        if self.size == 1:
            return
        parameters = [p for p in network.parameters() if p.requires_grad]
        for parameter in parameters:
            if parameter.grad is None:  # an empty share, or a part that nothing went through
                parameter.grad = torch.zeros_like(parameter)
        own = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        added = self._accelerator.reduce(own, reduction="sum")
        for parameter, gradient in zip(
            parameters, added.split([p.numel() for p in parameters]), strict=True
        ):
            parameter.grad = gradient.view_as(parameter).clone()

    def gather(self, value: T) -> list[T]:
        """Gather every process's value, in their order."""
        gathered: list[T] = gather_object([value])
        return gathered

    def main_first(self) -> AbstractContextManager[None]:
        """Let the main process run a block before all others, which then find its files."""
        first: AbstractContextManager[None] = self._accelerator.main_process_first()
        return first

    def part(self) -> None:
        """Leave the team at the end."""
        if self.size > 1:
            self._accelerator.end_training()


def join_team(recipe: Recipe) -> Team:
    """Find the other processes, if a launcher started several, and this one's device."""
    device = pick_device(recipe.device)
    if device.startswith("cuda:"):
        torch.cuda.set_device(device)  # Accelerate takes the current one
    # Its settings are the process's, and a second run in it may want others.
    AcceleratorState._reset_state(reset_partial_state=True)
    accelerator = Accelerator(cpu=device == "cpu", mixed_precision=recipe.mixed_precision)
    n_processes = int(accelerator.num_processes)
    if n_processes > 1 and ":" in device:
        raise RecipeError(
            f"device is {recipe.device!r}, and {n_processes} processes cannot share it",
            hint='set device = "cuda", so that each gets one of its own',
        )
    return Team(accelerator)
