"""Which parameters each optimizer takes, and that a saved state goes on as the unsaved would."""

from pathlib import Path

import pytest
import torch
from torch import nn

from d2l_lab.training.learners.recipes import Recipe
from d2l_lab.training.optimizers import Optimizers, make_optimizers
from d2l_lab.training.recipe_files import read_recipe
from examples.training.tests.toy import write_recipe

RATE = 0.01


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.ones(5, 4))
        self.layer = nn.Linear(4, 3)
        self.norm = nn.LayerNorm(3)
        self.stack = nn.ParameterDict({"weight": torch.ones(2, 3, 4)})


@pytest.fixture
def network() -> Network:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Network()


def make_recipe(folder: Path, **changes: object) -> Recipe:
    return read_recipe(write_recipe(folder / "a.toml", **changes))


def take_steps(network: Network, optimizers: Optimizers, steps: range) -> None:
    for step in steps:
        optimizers.zero_grad()
        for number, parameter in enumerate(network.parameters()):
            chance = torch.Generator().manual_seed(10 * step + number)
            parameter.grad = torch.randn(parameter.shape, generator=chance)
        optimizers.step(RATE)


def test_muon_takes_matrices_of_linear_layers_and_steps_as_far_as_adamw(
    tmp_path: Path, network: Network
) -> None:
    recipe = make_recipe(tmp_path, name="muon")
    optimizers = make_optimizers(network, recipe)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    take_steps(network, optimizers, range(1))
    moved = {name: p.detach() - before[name] for name, p in network.named_parameters()}
    for name, change in moved.items():
        if name != "layer.weight":  # AdamW's first step: the rate, whatever the gradient
            assert change.abs().flatten().tolist() == pytest.approx(
                [RATE] * change.numel(), rel=0.02
            )
    # Muon's: 0.2 * sqrt(4) * rate times a matrix whose singular values are about 1.
    singular = torch.linalg.svdvals(moved["layer.weight"]) / (0.2 * 2 * RATE)
    assert 0.5 < float(singular.min()) <= float(singular.max()) < 1.3


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_only_matrices_decay(tmp_path: Path, network: Network, optimizer: str) -> None:
    recipe = make_recipe(tmp_path, name=optimizer, weight_decay=0.5)
    optimizers = make_optimizers(network, recipe)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizers.step(RATE)
    for name, parameter in network.named_parameters():
        kept = 1 - RATE * 0.5 if name in ("layer.weight", "stack.weight") else 1.0
        torch.testing.assert_close(parameter.detach(), before[name] * kept)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_saved_state_goes_on_as_the_unsaved_would(
    tmp_path: Path, network: Network, optimizer: str
) -> None:
    recipe = make_recipe(tmp_path, name=optimizer)
    whole = make_optimizers(network, recipe)
    take_steps(network, whole, range(3))
    weights = {name: p.detach().clone() for name, p in network.state_dict().items()}
    torch.save(whole.state_dict(), tmp_path / "state")
    take_steps(network, whole, range(3, 6))
    other = Network()
    other.load_state_dict(weights)
    resumed = make_optimizers(other, recipe)
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    take_steps(other, resumed, range(3, 6))
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name


def test_the_state_of_another_optimizer_is_refused(tmp_path: Path, network: Network) -> None:
    state = make_optimizers(network, make_recipe(tmp_path, name="muon")).state_dict()
    with pytest.raises(KeyError, match="adamw"):
        make_optimizers(network, make_recipe(tmp_path)).load_state_dict(state)
