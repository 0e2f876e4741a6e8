"""Measure a base's second moments for a seat network, and cache them for later compilations.

A network's second moments hold for one set of weights. Another set with the same function needs its
own (`calibration` explains why).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from d2l.bases.devices import pick_device
from d2l.bases.models import load_frozen
from d2l.hypernets.networks import open_seats
from d2l.hypernets.options import NetworkOptions
from d2l.hypernets.seats.calibration import cut_plain_text, measure_moments, moments_path
from d2l.hypernets.seats.compiling import SeatsNetwork
from d2l.hypernets.seats.network import load_seats
from d2l.hypernets.seats.second_moments import write_statistics


@dataclass(frozen=True)
class CalibratePlan:
    """A network with its base, the text for the base to read, and the file to write."""

    network: SeatsNetwork
    pieces: list[list[int]]
    path: Path


def prepare(options: NetworkOptions) -> CalibratePlan:
    """Plan the measurement, without weights; raises D2LError."""
    network = open_seats(options.checkpoint, **options.locate())
    pieces = cut_plain_text(network.tokenizer, limit=network.config.chunk_tokens)
    path = moments_path(base=network.base.digest(), network=network.digest())
    return CalibratePlan(network, pieces, path)


def calibrate(
    plan: CalibratePlan,
    device: str = "auto",
    *,
    watch: Callable[[int, int], object] = lambda done, total: None,  # noqa: ARG005
) -> Path:
    """Measure the moments of the base, and cache them by its digest; raises D2LError.

    `compile`, `merge` and `edit` use them if the base is not the file of training.
    """
    moments = measure(plan, device, watch=watch)
    plan.path.parent.mkdir(parents=True, exist_ok=True)
    write_statistics(plan.path, moments)
    return plan.path


def measure(
    plan: CalibratePlan,
    device: str = "auto",
    *,
    watch: Callable[[int, int], object] = lambda done, total: None,  # noqa: ARG005
) -> Tensor:
    """Measure the moments of the base, float64 (layers, d_in, d_in)."""
    network, device = plan.network, pick_device(device)
    model = load_frozen(
        network.base, device=device, dtype=torch.float32, n_layers=network.config.layers
    )
    return measure_moments(load_seats(network.files.path, model), plan.pieces, watch=watch)
