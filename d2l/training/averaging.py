"""The mean of a network's weights over the last part of a run, which its checkpoint then holds.

Averages, and lets the mean stand in for the weights while they are written. Knows no loss.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.optim.swa_utils import AveragedModel

from d2l.learners.recipes import Recipe


def begin_mean(network: nn.Module) -> AveragedModel:
    """The mean of no weights yet; each is averaged alike (Izmailov et al., Averaging Weights Leads
    to Wider Optima and Better Generalization, 2018)."""
    return AveragedModel(network).requires_grad_(False)


def is_averaged(recipe: Recipe, done: float) -> bool:
    """Whether weights behind the part `done` of a run, 0 to 1, count in its mean."""
    share = recipe.optimizer.averaged_share
    return share > 0 and done >= 1 - share


@contextmanager
def standing_in(mean: AveragedModel | None, network: nn.Module) -> Iterator[None]:
    """A block in which `network` has the weights of the mean, if there is one."""
    if mean is None:
        yield
        return
    own = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    try:
        network.load_state_dict(mean.module.state_dict())
        yield
    finally:
        network.load_state_dict(own)
