"""Attention of bases: the choice of an implementation, and our own, by blocks of query rows.

Ours is for a soft cap, which no kernel of torch has. It computes the bits of transformers' "eager"
attention without a matrix of tokens by tokens.
"""

import importlib
import inspect
from typing import Any

import torch
import transformers
from torch import Tensor
from torch.nn import functional
from transformers.masking_utils import flash_attention_mask
from transformers.utils.import_utils import is_flash_attn_2_available

from d2l.bases import devices
from d2l.bases.families import BLOCKS, Family

#: Query rows of a block: 8,192 tokens of Gemma 2 2B take 0.34 GB, in place of 5.4 GB.
ROWS = 512


def pick_attention(family: Family, *, device: str, dtype: torch.dtype) -> str:
    """Pick transformers' implementation of attention: the family's own, but flash-attention 2
    instead of blocks, as in the training of public networks. It must be installed, support the
    soft cap, and suit the GPU."""
    own, halves = family.attention, (torch.bfloat16, torch.float16)
    if own != BLOCKS or dtype not in halves or not devices.is_cuda(device):
        return own
    try:
        flash: Any = importlib.import_module("flash_attn")
        has_cap = "softcap" in inspect.signature(flash.flash_attn_func).parameters
        suits = has_cap and torch.cuda.get_device_capability(device) >= (8, 0)
    except (AttributeError, ImportError, OSError, RuntimeError):  # RuntimeError: no CUDA after all
        return own
    return "flash_attention_2" if suits and is_flash_attn_2_available() else own


def attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Attend causally from queries (chunks, heads, tokens, width), the last of the keys' tokens.

    `attention_mask` (chunks, keys) is 0 at padding; `options`: "scaling", "softcap" and
    "sliding_window". The signature is that of transformers' `AttentionInterface`.
    """
    softcap, window = options.get("softcap"), options.get("sliding_window")
    key, value = (_repeat(states, module.num_key_value_groups) for states in (key, value))
    index = torch.arange(key.shape[2], device=query.device)
    padding = None if attention_mask is None else ~attention_mask[:, None, None].bool()
    mixed, first = [], key.shape[2] - query.shape[2]
    # Even blocks: a product of one row is rounded otherwise.
    for rows in torch.tensor_split(query, -(-query.shape[2] // ROWS), dim=2):
        own = index[first : first + rows.shape[2], None]
        hidden = index > own
        if window is not None:
            hidden |= index <= own - window
        if padding is not None:
            hidden = hidden | padding
        scores = rows @ key.transpose(2, 3) * options["scaling"]
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        scores = scores.masked_fill(hidden, torch.finfo(scores.dtype).min)
        shares = functional.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        mixed.append(shares @ value)
        first += rows.shape[2]
    return torch.cat(mixed, dim=2).transpose(1, 2).contiguous(), None


def _repeat(states: Tensor, n_times: int) -> Tensor:
    """Repeat keys or values for the query heads that share them."""
    return states[:, :, None].expand(-1, -1, n_times, -1, -1).flatten(1, 2)


# The mask that transformers hands over is that of flash-attention: of the padding, if there is any.
transformers.AttentionInterface.register(BLOCKS, attend)
transformers.AttentionMaskInterface.register(BLOCKS, flash_attention_mask)
