"""Addresses: what tells seats from ordinary text, wherever the base looks at them.

An adapter's A answers a seat by its state, and ordinary text in part, the more the likelier their
states are. Addresses make them unlike. Below all memory, the words of the opening each set off one
neuron of one layer's MLP, which is silent for everything else, and which adds a long vector to the
word's state; no two vectors have a direction in common, nor have any that text makes much use of.
Layers above see little but these. What a seat holds is not touched, since its keys and values are
imposed anyway, which is why the layer that writes is the last one without memory.

In an adapter that is a LoRA on gate_proj, whose B holds single ones, and one on down_proj, whose A
does. Gates that lie within fewer directions than there are words need no more ranks. Only the words
behind the opening's head have addresses: the head's stand in any text. Tensors and modules in,
tensors out; knows nothing of memories, documents or files.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from d2l.adapters.weights import LoraFactors, pad_factors
from d2l.bases.families import module_path
from d2l.errors import OptionError
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.shared_lora import find_mlp

_GATE, _DOWN = "gate_proj", "down_proj"


class Addresses(nn.Module):
    """The addresses of all words that an opening may have, in its order; nothing here is trained.

    `detect` (words, hidden) is what each word's neuron gets of a normed state, in which the layer's
    own norm is not yet multiplied: negative for all but the word. `directions` (words, hidden) is
    what it adds. A base is needed before either can be used: `fit`.
    """

    detect: Tensor
    directions: Tensor

    def __init__(self, config: SeatsConfig) -> None:
        super().__init__()
        self.layer, self.n_head = config.first_layer - 1, config.min_seats
        self.neurons = config.address_neurons
        self.intermediate, self.rank = config.intermediate, config.gate_rank
        size = (len(self.neurons), config.hidden)
        self.register_buffer("detect", torch.zeros(size))
        self.register_buffer("directions", torch.zeros(size))
        self._at = torch.empty(0, dtype=torch.long)
        self._gates, self._writes = torch.empty(0), torch.empty(0)

    @torch.no_grad()
    def fit(self, model: nn.Module, opening: Sequence[int]) -> None:
        """Make ready for a base without a head, given its longest opening: whose norm multiplies
        the states, and whose neurons are as strong as their own up_proj makes them. Bases that
        compute the same may differ in both. Cost: its lowest layers, once over the opening."""
        seen = read_inputs(model, self.layer, opening)[1 + self.n_head :]  # (words, hidden)
        norm, mlp = find_layer(model, self.layer)
        self._at = torch.tensor(self.neurons, device=seen.device)
        self._gates = self.detect.to(seen.device) / norm.to(torch.float32)
        own = [part.weight[self._at].to(torch.float32) for part in (mlp.gate_proj, mlp.up_proj)]
        gate, up = (torch.einsum("wh,wh->w", seen, rows) for rows in own)
        gate = gate + torch.einsum("wh,wh->w", seen, self._gates)
        inner = mlp.act_fn(gate) * up
        columns = mlp.down_proj.weight[:, self._at].to(torch.float32).T  # what it adds untouched
        self._writes = self.directions.to(seen.device) / inner[:, None] - columns

    def _take(self, n_seats: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Neurons, gates and writes of the words of an opening of so many seats."""
        n = max(n_seats - self.n_head, 0)
        gates, writes = (tensor[:n].to(like.dtype) for tensor in (self._gates, self._writes))
        return self._at[:n], gates, writes

    def run_mlp(self, layer: int, mlp: Any, inputs: Tensor, *, n_seats: int) -> Tensor:
        """See `Shared`."""
        if layer != self.layer:
            result: Tensor = mlp(inputs)
            return result
        at, gates, writes = self._take(n_seats, inputs)
        opened = mlp.gate_proj(inputs).index_add(-1, at, inputs @ gates.mT)
        inner = mlp.act_fn(opened) * mlp.up_proj(inputs)
        written: Tensor = mlp.down_proj(inner) + inner[..., at] @ writes
        return written

    def attach(self, model: nn.Module, *, n_seats: Sequence[int]) -> list[RemovableHandle]:
        """See `Shared`."""
        most = max(*n_seats, self.n_head)
        n_words = torch.tensor(n_seats, device=self._gates.device) - self.n_head
        number = torch.arange(most - self.n_head, device=self._gates.device)
        have = number < n_words[:, None, None]  # (prompts, 1, words): fewer than others have some

        def open_gates(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            at, gates, _ = self._take(most, inputs[0])
            return output.index_add(-1, at, (inputs[0] @ gates.mT) * have)

        def write(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            at, _, writes = self._take(most, inputs[0])
            return output + (inputs[0][..., at] * have) @ writes

        return [
            find_mlp(model, self.layer, _GATE).register_forward_hook(open_gates),
            find_mlp(model, self.layer, _DOWN).register_forward_hook(write),
        ]

    @torch.no_grad()
    def factors(self, *, rank: int) -> dict[str, LoraFactors]:
        """See `Shared`; the head's seats have rows of zeros."""
        at, gates, writes = (t.cpu() for t in self._take(rank, self._gates))
        rows = torch.arange(len(at)) + self.n_head
        ones = torch.zeros(rank, self.intermediate)
        ones[rows, at] = 1.0
        opened, written = torch.zeros(2, rank, gates.shape[1])
        opened[rows], written[rows] = gates, writes
        opening = LoraFactors(opened, ones.T.contiguous())
        if 0 < self.rank < len(at):
            opening = pad_factors(self._open_together(at, gates), rank)
        return {
            module_path(self.layer, _GATE): opening,
            module_path(self.layer, _DOWN): LoraFactors(ones, written.T.contiguous()),
        }

    def _open_together(self, at: Tensor, gates: Tensor) -> LoraFactors:
        """The gates of these words at their own rank, which is theirs together."""
        u, values, vt = torch.linalg.svd(gates.double(), full_matrices=False)
        codes = torch.zeros(self.intermediate, self.rank)
        codes[at] = u[:, : self.rank].float()
        basis = values[: self.rank, None] * vt[: self.rank]  # (gate rank, hidden)
        return LoraFactors(basis.float().contiguous(), codes)

    def scaled(self, scale: float) -> "Addresses":
        """See `Shared`: never, as an address that is written by half addresses nothing."""
        raise OptionError(
            f"this network has no learned bias to scale by {scale:g}",
            hint="leave the bias scale at 1",
        )


def find_layer(model: Any, number: int) -> tuple[Tensor, Any]:
    """The weight of the norm before a layer's MLP, and the MLP."""
    layer = model.layers[number]
    return layer.post_attention_layernorm.weight, layer.mlp


def read_inputs(model: Any, number: int, ids: Sequence[int]) -> Tensor:
    """What the MLP of a layer gets of these tokens: fp32 (tokens, hidden)."""
    found: list[Tensor] = []
    layers = model.layers
    hook = layers[number].mlp.register_forward_pre_hook(
        lambda _module, inputs: found.append(inputs[0][0].to(torch.float32))
    )
    model.layers = layers[: number + 1]  # those above would take most of the time
    try:
        device = next(model.parameters()).device
        model(torch.tensor([list(ids)], device=device), use_cache=False)
    finally:
        model.layers = layers
        hook.remove()
    return found[0]
