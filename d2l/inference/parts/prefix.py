"""Memory of a part in front of a prompt, as keys and values that the model need not compute.

Seats exist so that any runtime can carry a memory. Here the opening's tokens get the memory's keys
and values directly: no seating, no opening to read, and no effect of the seats on ordinary text.
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
    """Maker of caches that hold the opening, with a memory in its seats, for a causal model.

    `opening`: the longest opening's ids; `layers`: those with memory, from the lowest to the last.
    The layers below the memory and the sink are the same for all parts and computed once.
    Raises AdapterError if the memory does not fit the model.
    """

    def __init__(self, tuned: Any, opening: Sequence[int], layers: Sequence[int]) -> None:
        causal = tuned.get_base_model()
        decoder, config = causal.model, causal.config
        n_layers = int(config.num_hidden_layers)
        if not layers or list(layers) != list(range(layers[0], n_layers)):
            raise AdapterError(
                f"the parts have memory in layers {list(layers)}, expected all layers from one on",
                hint="ask with --whole",
            )
        self.opening = tuple(opening)
        self._first, self._decoder = layers[0], decoder
        self._heads = int(config.num_key_value_heads)
        self._attention = [layer.self_attn for layer in decoder.layers]
        ids = torch.tensor([list(opening)], device=causal.device)
        with torch.inference_mode(), without_seats(tuned):
            self._sink = _read(decoder, ids[:, :1])
            whole, decoder.layers = decoder.layers, decoder.layers[: layers[0]]
            try:
                self._below = _read(decoder, ids) if layers[0] else []
            finally:
                decoder.layers = whole

    @torch.inference_mode()
    def make_cache(self, memory: Memory) -> DynamicCache:
        """Make the cache of an opening of 1 + n_seats tokens: the sink, then a token a seat."""
        n_tokens = 1 + memory.n_seats
        if n_tokens > len(self.opening) or len(memory.keys) != len(self._sink) - self._first:
            raise AdapterError(
                f"a part of {memory.n_seats} seats in {len(memory.keys)} layers does not fit the "
                f"opening of {len(self.opening)} tokens",
                hint="the parts are damaged: compile the document again",
            )
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(self._below):
            cache.update(keys[:, :, :n_tokens], values[:, :, :n_tokens], layer)
        positions = torch.arange(1, n_tokens, device=self._sink[0][0].device)
        for layer in range(self._first, len(self._sink)):
            sink_keys, sink_values = self._sink[layer]
            at = layer - self._first
            keys = self._rotate(layer, self._split(memory.keys[at], sink_keys), positions)
            values = self._split(memory.values[at], sink_values)
            cache.update(
                torch.cat([sink_keys, keys], dim=2), torch.cat([sink_values, values], dim=2), layer
            )
        return cache

    def _split(self, rows: Tensor, like: Tensor) -> Tensor:
        """Reshape (seats, heads * dim) to (1, heads, seats, dim), on the device of `like`."""
        split = rows.to(like.device, like.dtype).view(len(rows), self._heads, -1)
        return split.transpose(0, 1)[None]

    def _rotate(self, layer: int, keys: Tensor, positions: Tensor) -> Tensor:
        """Turn keys into those that attention keeps: normed (in some bases) and rotated."""
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
