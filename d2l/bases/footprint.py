"""Memory that a base takes while it reads a chunk: an estimate, from its configuration alone."""

from typing import Any

import torch
import transformers

from d2l.bases.attention import ROWS, pick_attention
from d2l.bases.families import BLOCKS, Reading
from d2l.bases.models import BaseFiles


def count_reading(
    base: BaseFiles, reading: Reading, n_tokens: int, device: str, dtype: torch.dtype, beside: int
) -> int:
    """Estimate the bytes of a base and of its states for a chunk of so many tokens.

    The base's layers up to the last that is read, the states that are read, and the larger of two
    peaks: `beside` numbers, those of the network that reads the states, or attention in blocks.
    Each head of a block takes ten bytes a row and key in bf16: scores, and their softmax in fp32.
    """
    config = base.config
    with torch.device("meta"):
        model: Any = transformers.AutoModel.from_config(config)  # type: ignore[no-untyped-call]
    unread = [p for layer in model.layers[reading.n_layers :] for p in layer.parameters()]
    numbers = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in unread)
    states = len(reading.hidden_states) * n_tokens * int(config.hidden_size)
    in_blocks = pick_attention(base.family, device=device, dtype=dtype) == BLOCKS
    scores = 5 * int(config.num_attention_heads) * min(n_tokens, ROWS) * n_tokens
    return int(numbers + states + max(scores * in_blocks, beside)) * dtype.itemsize
