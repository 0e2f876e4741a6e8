"""Second moments of what the adapted modules see, measured with memories in place.

Batches of memories and exercises in, moments out. Seats are made to answer as little as possible
to such inputs. Measured on the base alone, they miss what memories, and a shared LoRA, make of the
states of the layers above: there the seats then answer ordinary text more than they need to.
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from d2l.hypernets.seats.network import SeatNetwork
from d2l.training.learners.document_data import Exercise
from d2l.training.learners.seats.loss import ReadChunk, SeatedDecoder, batch_loss

Batch = tuple[Sequence[Sequence[ReadChunk]], Sequence[Sequence[Exercise]]]


@torch.no_grad()
def measure_moments(
    network: SeatNetwork, decoder: SeatedDecoder, batches: Iterable[Batch]
) -> Tensor:
    """Mean of x xᵀ over all tokens behind openings: float64 (layers, d_in, d_in) on the CPU."""
    config = decoder.config
    totals = torch.zeros(config.n_adapted_layers, config.hidden, config.hidden, dtype=torch.float64)
    n_tokens = 0

    def add(layer: int, inputs: Tensor) -> None:
        """Count the inputs (tokens, d_in) of a layer."""
        nonlocal n_tokens
        x = inputs.to(torch.float32)
        totals[layer] += (x.mT @ x).cpu().to(torch.float64)
        n_tokens += len(x) if layer == 0 else 0

    decoder.watch = add
    try:
        for memories, exercises in batches:
            batch_loss(network, decoder, memories, exercises)
    finally:
        decoder.watch = None
    return totals / max(n_tokens, 1)
