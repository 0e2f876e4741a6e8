"""Memory that a base takes while it reads a chunk: an estimate, from its configuration alone."""

from typing import Any

import torch
import transformers

from d2l.bases.families import Reading
from d2l.bases.models import BaseFiles, pick_attention


def count_reading(
    base: BaseFiles, reading: Reading, n_tokens: int, device: str, dtype: torch.dtype, beside: int
) -> int:
    """Estimate the bytes of a base and of its states for a chunk of so many tokens.

    The base's layers up to the last that is read, the states that are read, and the larger of two
    peaks: `beside` numbers, those of the network that reads the states, or attention without a
    fused kernel. This takes three matrices of tokens by tokens for each head (two in the base's
    precision, one in fp32), and two masks.
    """
    config = base.config
    with torch.device("meta"):
        model: Any = transformers.AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    unread = [p for layer in model.layers[reading.n_layers :] for p in layer.parameters()]
    numbers = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in unread)
    states = len(reading.hidden_states) * n_tokens * int(config.hidden_size)
    is_fused = pick_attention(base.family, device=device, dtype=dtype) != "eager"
    squares = 0 if is_fused else n_tokens**2 * (4 * int(config.num_attention_heads) + 2)
    return int(numbers + states + max(squares, beside)) * dtype.itemsize
