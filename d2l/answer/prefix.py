"""Memories of parts in front of a prompt: keys and values for the model's cache.

Seats exist so that any runtime can carry a memory. Here a memory's keys and values stand in the
cache directly: no seating, no opening to read, and no effect of the seats on ordinary text.
"""

import contextlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from d2l.adapters.weights import Memory
from d2l.bases.activations import cache_keyword
from d2l.errors import AdapterError

_SEATED = ("k_proj", "v_proj")


class PrefixMaker:
    """Maker of caches that begin with ids that the model reads, then hold memories.

    `opening`: ids, of which the model reads the first `n_lead`. A memory covers the layers from
    `first_layer` to the last. The layers below hold the rest of the opening, a token a seat.
    These keys and values are the same for all parts and computed once.
    """

    def __init__(
        self, tuned: Any, opening: Sequence[int], *, n_lead: int, first_layer: int
    ) -> None:
        causal = tuned.get_base_model()
        decoder, config = causal.model, causal.config
        self.lead = tuple(opening[:n_lead])
        self.opening, self._first, self._decoder = tuple(opening), first_layer, decoder
        self._heads = int(config.num_key_value_heads)
        self._attention = [layer.self_attn for layer in decoder.layers]
        ids = torch.tensor([list(opening)], device=causal.device)
        with torch.inference_mode(), without_seats(tuned):
            self._read = _read(decoder, ids[:, :n_lead])
            whole, decoder.layers = decoder.layers, decoder.layers[:first_layer]
            try:
                self._below = _read(decoder, ids) if first_layer else []
            finally:
                decoder.layers = whole

    @torch.inference_mode()
    def make_cache(self, memories: Sequence[Memory]) -> DynamicCache:
        """Make the cache of the lead and of memories behind it, in their order.

        Raises AdapterError if a memory does not fit the model or the opening.
        """
        n_tokens = len(self.lead) + sum(memory.n_seats for memory in memories)
        n_layers = len(self._read) - self._first
        for memory in memories:
            if len(memory.keys) != n_layers or (self._first and n_tokens > len(self.opening)):
                raise AdapterError(
                    f"a part of {memory.n_seats} seats in {len(memory.keys)} layers does not fit "
                    f"the opening of {len(self.opening)} tokens",
                    hint="the parts are damaged: compile the document again",
                )
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self._below):
            cache.update(keys[:, :, :n_tokens], values[:, :, :n_tokens], layer)
        positions = torch.arange(len(self.lead), n_tokens, device=self._read[0][0].device)
        for layer in range(self._first, len(self._read)):
            lead_keys, lead_values = self._read[layer]
            at = layer - self._first
            keys = self._split([memory.keys[at] for memory in memories], lead_keys)
            values = self._split([memory.values[at] for memory in memories], lead_values)
            keys = self._rotate(layer, keys, positions)
            cache.update(
                torch.cat([lead_keys, keys], dim=2), torch.cat([lead_values, values], dim=2), layer
            )
        return cache

    def _split(self, rows: Sequence[Tensor], like: Tensor) -> Tensor:
        """Reshape (seats, heads * dim) of each memory to (1, heads, all seats, dim), on the device
        of `like`."""
        joined = torch.cat([own.to(like.device, like.dtype) for own in rows])
        return joined.view(len(joined), self._heads, -1).transpose(0, 1)[None]

    def _rotate(self, layer: int, keys: Tensor, positions: Tensor) -> Tensor:
        """Norm (in some bases) and rotate keys, as attention caches them."""
        attention = self._attention[layer]
        if (norm := getattr(attention, "k_norm", None)) is not None:
            keys = norm(keys)
        apply = sys.modules[type(attention).__module__].apply_rotary_pos_emb
        cos, sin = self._decoder.rotary_emb(keys, positions[None])
        rotated: Tensor = apply(keys, keys, cos, sin)[1]
        return rotated


def _read(decoder: Any, ids: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Compute keys and values of every layer for ids (1, tokens): (1, heads, tokens, dim) each."""
    cache = DynamicCache()
    decoder(ids, use_cache=True, **{cache_keyword(decoder): cache})
    layers: Any = cache.layers
    return [(layer.keys, layer.values) for layer in layers]


@contextlib.contextmanager
def without_seats(tuned: Any) -> Iterator[None]:
    """Temporarily disable the seats of a PeftModel, its change of keys and values: the shared LoRA
    stays on. Such blocks may be nested."""
    seated = [
        module
        for name, module in tuned.named_modules()
        if name.endswith(_SEATED) and not getattr(module, "disable_adapters", True)
    ]
    try:
        for module in seated:
            module.enable_adapters(False)
        yield
    finally:
        for module in seated:
            module.enable_adapters(True)
