"""A network and the base that it reads with, on a device: token ids of a chunk in, its part out.

The one way from files to both. Of the base no more is loaded than the network reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from d2l.bases.activations import ActivationEncoder, Activations
from d2l.bases.models import BaseFiles, load_frozen, pick_device
from d2l.hypernets.checkpoints import load_hypernet
from d2l.hypernets.protocol import HypernetConfig, Hypernetwork, Part
from d2l.hypernets.seats.calibration import with_moments
from d2l.hypernets.seats.network import Seats


@dataclass(frozen=True)
class Loaded:
    """A network, the base as its encoder, and the device that both are on."""

    hypernet: Hypernetwork
    encode: ActivationEncoder
    device: str

    def make_part(
        self, token_ids: Sequence[int], rank: int, read: Activations | None = None
    ) -> Part:
        """What the network makes of a chunk, as `Hypernetwork.generate` says; `read` is what the
        base makes of it, where that is known."""
        return self.hypernet.generate(self.encode(token_ids) if read is None else read, rank)

    def read_ahead(self, token_ids: Sequence[int]) -> None:
        """Read the tokens that every chunk begins with, of any chunk, where the network has such:
        they are start-up, not work."""
        if n_leading := self.encode.reading.skip_tokens:
            self.encode.read_ahead(token_ids[:n_leading])


def load_network(
    path: Path,
    config: HypernetConfig,
    reader: BaseFiles,
    *,
    device: str,
    dtype: torch.dtype,
    moments: Path | None = None,
) -> Loaded:
    """Load the network of a checkpoint and the model that reads for it; raises D2LError.

    `device` as in `bases.models.pick_device`.
    `moments` are second moments that were measured on this model, which only seat networks have.
    """
    device = pick_device(device)
    model = load_frozen(reader, device=device, dtype=dtype, n_layers=config.reading.n_layers)
    hypernet = load_hypernet(path, device=device, base=model)
    if moments is not None:
        assert isinstance(hypernet, Seats)  # no other network has moments
        hypernet = with_moments(hypernet, moments)
    return Loaded(hypernet, ActivationEncoder(model, config.reading), device)
