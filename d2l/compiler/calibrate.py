"""A seat network and a base → the base's second moments, kept for later compilations.

A network's seats are solved with second moments of one set of weights; for another set that
computes the same they are measured here (`hypernets.seats.calibration` says why).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from d2l.bases.models import load_frozen, pick_device
from d2l.hypernets.fit import SEATS, open_network
from d2l.hypernets.registry import DEFAULT
from d2l.hypernets.seats.calibration import cut_plain_text, measure_moments, moments_path
from d2l.hypernets.seats.network import load_seats
from d2l.hypernets.seats.second_moments import write_statistics


@dataclass(frozen=True)
class CalibrateOptions:
    """Which network, and where the base lies that will serve."""

    checkpoint: str = DEFAULT
    base: str | None = None
    device: str = "auto"
    offline: bool = False


def calibrate(
    options: CalibrateOptions,
    *,
    watch: Callable[[int, int], object] = lambda done, total: None,  # noqa: ARG005
) -> Path:
    """Measure the moments of the base, and keep them by its digest; raises D2LError.

    `compile`, `merge` and `edit` find them where the base is not the file of training.
    """
    network = open_network(
        options.checkpoint, kinds=SEATS, base=options.base, offline=options.offline
    )
    config, base, device = network.config, network.base, pick_device(options.device)
    model = load_frozen(base, device=device, dtype=torch.float32, n_layers=config.layers)
    seats = load_seats(network.files.path, model)
    pieces = cut_plain_text(network.tokenizer, limit=config.chunk_tokens)
    moments = measure_moments(seats, pieces, watch=watch)
    path = moments_path(base=base.digest(), network=network.digest())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_statistics(path, moments)
    return path
