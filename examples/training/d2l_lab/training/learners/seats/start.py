"""Start of a seat network's training: a checkpoint, as the recipe changes it.

A checkpoint folder and a recipe in; a configuration and a network on its base out.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from d2l.errors import RecipeError
from d2l.hypernets.formats.native import read_weights
from d2l.hypernets.seats.config import SeatsConfig, read_config
from d2l.hypernets.seats.network import SeatNetwork, Seats, build_network
from d2l.hypernets.seats.second_moments import Statistics, read_statistics
from d2l_lab.training.learners.recipes import Recipe


def change_config(config: SeatsConfig, recipe: Recipe, base_config: Any) -> SeatsConfig:
    """Change the checkpoint's configuration to the trained network's; raises RecipeError.

    `base_config` is the base's, in the form that transformers gives it.
    """
    table = recipe.seats
    if 0 < table.tokens_per_seat < 1:
        raise RecipeError(
            f"tokens_per_seat is {table.tokens_per_seat:g}, but no token has more than one seat"
        )
    if table.dense_seats > config.max_seats:
        raise RecipeError(
            f"dense_seats is {table.dense_seats}, but this network has at most "
            f"{config.max_seats} seats"
        )
    documents = recipe.lengths_of(tasks=False)
    longest = max((length.tokens * length.chunks for length in documents), default=0)
    return replace(
        config,
        version=1,
        tokens_per_seat=table.tokens_per_seat or config.tokens_per_seat,
        dense_seats=table.dense_seats or config.dense_seats,
        learned_places=table.learned_places or config.learned_places,
        intermediate=int(base_config.intermediate_size)
        if config.shared_rank or config.address_neurons
        else 0,
        document_tokens=max(longest, config.document_tokens),
        # The trained network reads what this recipe trains, whatever the checkpoint read before.
        reads=("both" if documents else "descriptions")
        if recipe.lengths_of(tasks=True)
        else "documents",
    )


def read_own_statistics(path: Path, config: SeatsConfig) -> Statistics:
    """Read the second moments of a network; raises CheckpointError."""
    return read_statistics(
        path, layers=config.memory_layers, d_in=config.hidden, ridge=config.statistics_ridge
    )


def load_start(folder: Path, config: SeatsConfig, base_model: nn.Module, recipe: Recipe) -> Seats:
    """Load the checkpoint's weights into a network of `config`; weights that it lacks, or with
    `recipe.fresh` all, are drawn from the recipe's seed. Raises CheckpointError."""
    statistics = read_own_statistics(folder / "statistics.safetensors", config)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(recipe.seed)
        network = SeatNetwork(config)
    if not recipe.fresh:
        path, own = folder / "model.safetensors", read_config(folder / "config.json")
        trained = build_network(own, read_weights(path), source=str(path)).state_dict()
        network.load_state_dict(network.state_dict() | trained)
    device = next(base_model.parameters()).device
    return Seats(config, network.to(device), statistics, base_model)
