"""Activations of the frozen base, for a hypernetwork: hidden states, and keys and values.

Token ids in, tensors out.
"""

import copy
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from d2l.bases import devices
from d2l.bases.families import Reading
from d2l.progress import TOLD

_Key = tuple[str, int]  # a module's name, and its layer
Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]
_PADDING = 0  # any token that every base has
#: Most tokens that a GPU reads side by side in several chunks. A chunk of 512 then takes 1,100
#: operations in place of 2,500 (counted, for Gemma 2 2B); to start them takes most of the time
#: (estimated). On a CPU four chunks of 240 or 400 tokens take 1.0 to 1.2 times as long side by side
#: as one by one (measured).
_TOGETHER = 2048


@dataclass(frozen=True)
class Activations:
    """Activations of one chunk, on the device of the base, for the layers of a `Reading`.

    `states`: (tokens, hidden) of each layer, as the base holds them. `keys` and `values`: (layers,
    tokens, kv_heads * head_dim), outputs of k_proj and v_proj, before norm and rotary embedding;
    None if the reading has no such layers.
    """

    states: Sequence[Tensor] | Tensor
    keys: Tensor | None = None
    values: Tensor | None = None

    @property
    def hidden(self) -> Tensor:
        """Copy of the states as one tensor (layers, tokens, hidden)."""
        return torch.stack(tuple(self.states))


class ActivationEncoder:
    """Reads chunks with a frozen decoder (a Hugging Face model without its head).

    Leading tokens that only give context are the same for every chunk of a network: they are read
    once, and their keys and values are cached.
    """

    def __init__(self, model: Any, reading: Reading) -> None:
        self.model = model
        self.reading = reading
        self._context: tuple[tuple[int, ...], Any] = ((), None)  # leading tokens, their cache

    def __call__(self, token_ids: Sequence[int]) -> Activations:
        """Run one chunk through the base: causal, positions from 0, no padding."""
        return self.read_together([token_ids])[0]

    @torch.inference_mode()
    def read_together(self, chunks: Sequence[Sequence[int]]) -> list[Activations]:
        """Run chunks through the base side by side: the result differs only by rounding.

        Padding stands behind shorter chunks, where none of their tokens attends to it. Raises
        ValueError if the leading tokens differ.
        """
        skip = self.reading.skip_tokens
        if len({tuple(token_ids[:skip]) for token_ids in chunks}) > 1:
            raise ValueError("chunks that are read together follow the same leading tokens")
        lengths = [len(token_ids) - skip for token_ids in chunks]
        padded = [
            [*token_ids[skip:], *[_PADDING] * (max(lengths) - length)]
            for token_ids, length in zip(chunks, lengths, strict=True)
        ]
        cache: dict[str, Any] = {"use_cache": False}
        if skip:
            cache = self._read_context(tuple(chunks[0][:skip]), n_chunks=len(chunks))
        outputs: dict[_Key, Tensor] = {}
        hooks = [
            getattr(self.model.layers[layer].self_attn, name).register_forward_hook(
                _make_hook(outputs, (name, layer), 2 * len(self.reading.key_value_layers))
            )
            for layer in self.reading.key_value_layers
            for name in ("k_proj", "v_proj")
        ]
        try:
            states = self._run(padded, output_hidden_states=True, **cache).hidden_states
        finally:
            for hook in hooks:
                hook.remove()
        return [
            self._select(index, length, states, outputs) for index, length in enumerate(lengths)
        ]

    def _select(
        self,
        index: int,
        n_tokens: int,
        states: Sequence[Tensor],
        outputs: Mapping[tuple[str, int], Tensor],
    ) -> Activations:
        """Select the activations of one chunk from those of several, (chunks, tokens, …) each."""
        # Not stacked: a long chunk would take a gigabyte.
        hidden = tuple(states[at][index, :n_tokens] for at in self.reading.hidden_states)
        if not self.reading.key_value_layers:
            return Activations(hidden)
        keys, values = (
            torch.stack(
                [outputs[name, layer][index, :n_tokens] for layer in self.reading.key_value_layers]
            )
            for name in ("k_proj", "v_proj")
        )
        return Activations(hidden, keys, values)

    @torch.inference_mode()
    def read_ahead(self, token_ids: Sequence[int]) -> None:
        """Read the leading tokens of all chunks at start-up, before the first chunk."""
        self._read_context(tuple(token_ids), n_chunks=1)

    def _run(self, chunks: Sequence[Sequence[int]], **options: Any) -> Any:
        device = next(self.model.parameters()).device
        return self.model(torch.tensor(chunks, device=device), **options)  # (chunks, tokens)

    def _read_context(self, token_ids: tuple[int, ...], *, n_chunks: int) -> dict[str, Any]:
        """Make arguments by which chunks follow the leading tokens: a cache to extend."""
        keyword = cache_keyword(self.model)
        if self._context[0] != token_ids:
            self._context = (token_ids, getattr(self._run([token_ids], use_cache=True), keyword))
        # Copied whole: layers with a sliding window also count the tokens that they dropped.
        cache = copy.deepcopy(self._context[1])
        if n_chunks > 1:
            cache.batch_repeat_interleave(n_chunks)
        return {keyword: cache, "use_cache": True}


def count_together(device: str) -> int:
    """Most tokens that several chunks may have side by side on a device; 0 for one by one."""
    return _TOGETHER if devices.is_cuda(device) else 0


def cache_keyword(model: nn.Module) -> str:
    """Name of the argument and of the output for past keys and values: transformers 5 renames
    both."""
    known = inspect.signature(model.forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def _make_hook(outputs: dict[_Key, Tensor], key: _Key, n_outputs: int) -> Hook:
    """Make a forward hook that stores a module's output under `key`, and tells it as a step."""

    def store(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        outputs[key] = output
        TOLD.get()(len(outputs), n_outputs)

    return store
