"""What a hypernetwork reads of the frozen base: hidden states, and keys and values.

Token ids in, tensors out; knows nothing of documents or of the network that reads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Reading:
    """What to keep of one pass of the base.

    `hidden_states` are indices into the states that a Hugging Face decoder returns: 0 is the
    embedding output, i the output of layer i - 1, and `n_layers` the last one after the final
    norm. Only the first `n_layers` decoder layers are needed, so no more are loaded.
    """

    n_layers: int
    hidden_states: tuple[int, ...]
    key_value_layers: tuple[int, ...] = ()
    skip_tokens: int = 0  # leading tokens that are read for context but not kept


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
    """Reads chunks with a frozen decoder (a Hugging Face model without its head)."""

    def __init__(self, model: Any, reading: Reading) -> None:
        self.model = model
        self.reading = reading

    @torch.inference_mode()
    def __call__(self, token_ids: Sequence[int]) -> Activations:
        """Run one chunk through the base: causal, positions from 0, no padding."""
        device = next(self.model.parameters()).device
        ids = torch.tensor([token_ids], device=device)  # (1, tokens)
        kept: dict[tuple[str, int], Tensor] = {}
        hooks = [
            getattr(self.model.layers[layer].self_attn, name).register_forward_hook(
                _keeper(kept, (name, layer))
            )
            for layer in self.reading.key_value_layers
            for name in ("k_proj", "v_proj")
        ]
        try:
            states = self.model(ids, output_hidden_states=True, use_cache=False).hidden_states
        finally:
            for hook in hooks:
                hook.remove()
        skip = self.reading.skip_tokens
        hidden = torch.stack([states[index][0, skip:] for index in self.reading.hidden_states])
        if not self.reading.key_value_layers:
            return Activations(hidden)
        keys, values = (
            torch.stack([kept[name, layer][0, skip:] for layer in self.reading.key_value_layers])
            for name in ("k_proj", "v_proj")
        )
        return Activations(hidden, keys, values)


def _keeper(kept: dict[tuple[str, int], Tensor], key: tuple[str, int]):  # type: ignore[no-untyped-def]
    """Make a forward hook that stores a module's output under `key` and changes nothing."""

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
        kept[key] = output

    return keep
