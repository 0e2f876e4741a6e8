"""Common beginning of a batch of sequences: read once, stored once, attended by all rows.

A cache holds keys and values of every row and is copied for every new token. With hundreds of
common tokens before rows of fifty, most of it is the same for all rows. Here the beginning is
stored once beside the cache, and attention reads both.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface

_NAME = "d2l_shared_prefix"
#: Attention scores in memory at a time, of some of the rows: 64 MiB in fp32.
_MOST_SCORES = 2**24


@dataclass(frozen=True)
class Prefix:
    """Keys of a beginning by layer, rotated already, and values (1, kv_heads, tokens, head_dim)."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def n_tokens(self) -> int:
        """Number of tokens."""
        return self.keys[0].shape[2]


_attended: ContextVar[Prefix] = ContextVar("attended")


def can_attend(causal: Any) -> bool:
    """True if `_attend` can replace a model's attention: no windows, no chunks, no soft caps."""
    config = causal.config
    strange = ("sliding_window", "attn_logit_softcapping", "attention_chunk_size")
    return config._attn_implementation in ("sdpa", _NAME) and not any(
        getattr(config, name, None) for name in strange
    )


def take_prefix(cache: Any) -> Prefix:
    """Take the keys and values of a cache of one sequence."""
    layers = cache.layers
    return Prefix(tuple(la.keys for la in layers), tuple(la.values for la in layers))


@contextmanager
def attending(causal: Any, prefix: Prefix) -> Iterator[None]:
    """Let a causal model attend a prefix before its cache; masks are those of `mask_rest`."""
    before = causal.config._attn_implementation
    token = _attended.set(prefix)
    causal.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        causal.set_attn_implementation(before)
        _attended.reset(token)


def mask_rest(mask: Tensor, prefix: Prefix, n_new: int) -> Tensor:
    """Make the mask of the last `n_new` tokens (rows, 1, n_new, tokens behind the prefix), true
    where they see a token. `mask` (rows, all tokens) is 0 for padding."""
    own = mask[:, prefix.n_tokens :].bool()
    n = own.shape[1]
    before = torch.ones((n_new, n), dtype=torch.bool, device=mask.device).tril(n - n_new)
    return own[:, None, None] & before


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor,
    scaling: float,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attend from queries (rows, heads, new, head_dim) to the prefix and to each row's own keys and
    values (rows, kv_heads, tokens, head_dim). Returns (rows, new, heads, ...), as transformers
    needs.
    """
    prefix = _attended.get()
    keys, values = prefix.keys[module.layer_idx][0], prefix.values[module.layer_idx][0]
    seen = prefix.n_tokens + key.shape[2]
    at_once = max(_MOST_SCORES // (query[0, ..., 0].numel() * seen), 1)
    inputs = (query * scaling, key, value, attention_mask)
    parts = zip(*(torch.split(tensor, at_once) for tensor in inputs), strict=True)
    read = torch.cat([_read(keys, values, *part) for part in parts])
    return read.transpose(1, 2).contiguous(), None


def _read(
    keys: Tensor, values: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Tensor
) -> Tensor:
    """Attend from some rows (rows, heads, new, head_dim); `keys` and `values` (kv_heads, tokens,
    head_dim) are the prefix's."""
    rows, n_kv = key.shape[:2]
    # Heads that share a key head stand behind one another: (rows, kv, group*new, size).
    grouped = query.reshape(rows, n_kv, -1, query.shape[-1])
    shared = _unfold(_fold(grouped) @ keys.mT, rows)
    own = (grouped @ key.mT).view(rows, n_kv, -1, *mask.shape[-2:])
    own = own.masked_fill(~mask[:, :, None], -torch.inf).flatten(2, 3)
    weights = torch.cat([shared, own], dim=-1).softmax(dim=-1)
    of_shared, of_own = weights.tensor_split([keys.shape[1]], dim=-1)
    read = _unfold(_fold(of_shared) @ values, rows) + of_own @ value
    return read.reshape(query.shape)


def _fold(rows: Tensor) -> Tensor:
    """Reshape (rows, kv, n, size) to (kv, rows*n, size)."""
    return rows.transpose(0, 1).flatten(1, 2)


def _unfold(folded: Tensor, rows: int) -> Tensor:
    """Reshape (kv, rows*n, size) to (rows, kv, n, size)."""
    return folded.reshape(folded.shape[0], rows, -1, folded.shape[-1]).transpose(0, 1)


AttentionInterface.register(_NAME, _attend)
