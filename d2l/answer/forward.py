"""Forward passes of asking and measuring: token ids behind a cache → states and logits."""

from typing import Any

import peft
import torch
from torch import Tensor

from d2l.bases.activations import cache_keyword
from d2l.bases.models import read_out

#: Tokens of a long prompt that are read at a time: a server can stop only between two layers, and a
#: layer of more tokens takes seconds.
PIECE = 512


def extend(model: Any, ids: Tensor, *, mask: Tensor, cache: Any) -> tuple[Any, Tensor]:
    """Read ids (rows, tokens) behind a cache: (cache, states (rows, tokens, hidden) for the head).
    `mask` (rows, tokens) covers cache and ids."""
    causal = find_causal(model)
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
    keyword = cache_keyword(causal)
    output = causal.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        use_cache=True,
        **{keyword: cache},
    )
    return getattr(output, keyword), output.last_hidden_state


def extend_in_pieces(model: Any, ids: Tensor, *, mask: Tensor, cache: Any) -> tuple[Any, Any]:
    """Read as `extend` does, `PIECE` tokens at a time; the states are those of the last piece, None
    without ids."""
    n_read, states = mask.shape[1] - ids.shape[1], None
    for piece in torch.split(ids, PIECE, dim=1) if ids.numel() else ():
        n_read += piece.shape[1]
        cache, states = extend(model, piece, mask=mask[:, :n_read], cache=cache)
    return cache, states


def read_logits(model: Any, hidden: Tensor) -> Tensor:
    """Compute the head's logits of states (…, hidden), made contiguous first: for strided states
    matmul copies the head, hundreds of megabytes."""
    flat = hidden.reshape(-1, hidden.shape[-1]).contiguous()
    return read_out(find_causal(model), flat).reshape(*hidden.shape[:-1], -1)


def find_causal(model: Any) -> Any:
    """Unwrap the causal language model from PEFT."""
    return model.get_base_model() if isinstance(model, peft.PeftModel) else model
