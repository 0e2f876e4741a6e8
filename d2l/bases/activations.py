"""What a hypernetwork reads of the frozen base: hidden states, and keys and values.

Token ids in, tensors out; knows nothing of documents or of the network that reads.
"""

import copy
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from d2l.bases.reading import Reading

Hook = Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]


@dataclass(frozen=True)
class Activations:
    """The base's view of one chunk, on the device of the base; `Reading` says which layers.

    `hidden`: (layers, tokens, hidden). `keys` and `values`: (layers, tokens, kv_heads * head_dim),
    outputs of k_proj and v_proj, before norm and rotary embedding; None when not asked for.
    """

    hidden: Tensor
    keys: Tensor | None = None
    values: Tensor | None = None


class ActivationEncoder:
    """Reads chunks with a frozen decoder (a Hugging Face model without its head).

    Leading tokens that only give context are the same for every chunk of a network, so they are
    read once and their keys and values are kept.
    """

    def __init__(self, model: Any, reading: Reading) -> None:
        self.model = model
        self.reading = reading
        self._context: tuple[tuple[int, ...], Any] = ((), None)  # leading tokens, their cache

    @torch.inference_mode()
    def __call__(self, token_ids: Sequence[int]) -> Activations:
        """Run one chunk through the base: causal, positions from 0, no padding."""
        skip = self.reading.skip_tokens
        cache = self._read_context(tuple(token_ids[:skip])) if skip else {"use_cache": False}
        kept: dict[tuple[str, int], Tensor] = {}
        hooks = [
            getattr(self.model.layers[layer].self_attn, name).register_forward_hook(
                _keeper(kept, (name, layer))
            )
            for layer in self.reading.key_value_layers
            for name in ("k_proj", "v_proj")
        ]
        try:
            states = self._run(token_ids[skip:], output_hidden_states=True, **cache).hidden_states
        finally:
            for hook in hooks:
                hook.remove()
        hidden = torch.stack([states[index][0] for index in self.reading.hidden_states])
        if not self.reading.key_value_layers:
            return Activations(hidden)
        keys, values = (
            torch.stack([kept[name, layer][0] for layer in self.reading.key_value_layers])
            for name in ("k_proj", "v_proj")
        )
        return Activations(hidden, keys, values)

    @torch.inference_mode()
    def read_ahead(self, token_ids: Sequence[int]) -> None:
        """Read the leading tokens of all chunks now: they are start-up, not work."""
        self._read_context(tuple(token_ids))

    def _run(self, token_ids: Sequence[int], **options: Any) -> Any:
        device = next(self.model.parameters()).device
        return self.model(torch.tensor([token_ids], device=device), **options)  # (1, tokens)

    def _read_context(self, token_ids: tuple[int, ...]) -> dict[str, Any]:
        """Arguments that let a chunk follow the leading tokens: a cache that it may extend."""
        keyword = cache_keyword(self.model)
        if self._context[0] != token_ids:
            self._context = (token_ids, getattr(self._run(token_ids, use_cache=True), keyword))
        # Copied whole: layers with a sliding window also count the tokens they no longer keep.
        return {keyword: copy.deepcopy(self._context[1]), "use_cache": True}


def cache_keyword(model: nn.Module) -> str:
    """Name of the argument and of the output that hold past keys and values: transformers 5
    renames them."""
    known = inspect.signature(model.forward).parameters
    return "cache" if "cache" in known else "past_key_values"


def _keeper(kept: dict[tuple[str, int], Tensor], key: tuple[str, int]) -> Hook:
    """Make a forward hook that stores a module's output under `key` and changes nothing."""

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept[key] = output

    return keep
