"""Second moments of the adapted modules' inputs, measured with memories in place.

Batches of memories and exercises in, moments out. Seats respond as little as possible to such
inputs. Moments of the base alone miss the effect of memories and of a shared LoRA on the layers
above: there seats would respond to ordinary text more than necessary.
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
    """Average x xᵀ over all tokens behind openings: float64 (layers, d_in, d_in) on the CPU."""
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
