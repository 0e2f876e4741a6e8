"""The shared component of seats adapters, equal for all documents: a LoRA on down_proj, or
addresses.

Tensors and modules in, tensors out.
"""

import copy
import math
from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle

from d2l.adapters.weights import LoraFactors, pad_factors
from d2l.bases.families import module_path
from d2l.errors import OptionError
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.fp32_pass import run_exact

_GATE, _DOWN = "gate_proj", "down_proj"


class Shared(Protocol):
    """Component of an adapter in the MLPs of its base, equal for all documents."""

    def run_mlp(self, layer: int, mlp: Any, inputs: Tensor, *, n_seats: int) -> Tensor:
        """Run the MLP of the base's layer `layer` on inputs (..., hidden), with the component of an
        adapter of so many seats."""

    def attach(self, model: nn.Module, *, n_seats: int) -> list[RemovableHandle]:
        """Hook the component into the MLPs of a base without a head; the handles undo that."""

    def factors(self, *, rank: int) -> dict[str, LoraFactors]:
        """Make a LoRA of scale 1 on the CPU, by module, of rank `rank`, the number of seats: some
        runtimes want the same rank for all modules."""

    def scaled(self, scale: float) -> Self:
        """Multiply its effect by `scale`; raises OptionError if that is impossible."""


def run_mlp(layer: Any, number: int, x: Tensor, shared: Shared | None, *, n_seats: int) -> Tensor:
    """Compute the MLP of a base's layer on x (..., hidden), `shared` included."""
    inputs = layer.post_attention_layernorm(x)
    if shared is None:
        result: Tensor = layer.mlp(inputs)
        return result
    return shared.run_mlp(number, layer.mlp, inputs, n_seats=n_seats)


class SharedLora(nn.Module):
    """LoRA of `config.shared_rank` on every adapted layer's down_proj; its scale is 1.

    The layers' factors are stacked: `a.weight` (layers * rank, d_in), `b.weight`
    (layers * d_out, rank). A fresh LoRA changes nothing.
    """

    def __init__(self, config: SeatsConfig) -> None:
        super().__init__()
        self.layers = config.memory_layers
        self.rank, self.d_out = config.shared_rank, config.hidden
        self.a = nn.Linear(config.intermediate, len(self.layers) * self.rank, bias=False)
        self.b = nn.Linear(self.rank, len(self.layers) * self.d_out, bias=False)
        nn.init.zeros_(self.b.weight)

    def of_layer(self, layer: int) -> tuple[Tensor, Tensor]:
        """Factors (rank, d_in) and (d_out, rank) of the base's layer `layer`."""
        index = self.layers.index(layer)
        rows = slice(index * self.rank, (index + 1) * self.rank)
        return self.a.weight[rows], self.b.weight[index * self.d_out : (index + 1) * self.d_out]

    def change(self, layer: int, inputs: Tensor) -> Tensor:
        """Compute its share in the output of a layer's down_proj for `inputs` (..., d_in)."""
        a, b = self.of_layer(layer)
        return (inputs @ a.to(inputs.dtype).mT) @ b.to(inputs.dtype).mT

    def run_mlp(self, layer: int, mlp: Any, inputs: Tensor, *, n_seats: int) -> Tensor:  # noqa: ARG002
        """See `Shared`."""
        inner = mlp.act_fn(mlp.gate_proj(inputs)) * mlp.up_proj(inputs)  # (..., intermediate)
        result: Tensor = mlp.down_proj(inner)
        return result + self.change(layer, inner) if layer in self.layers else result

    def attach(self, model: nn.Module, *, n_seats: int) -> list[RemovableHandle]:  # noqa: ARG002
        """See `Shared`."""
        return [
            find_mlp(model, layer, _DOWN).register_forward_hook(
                lambda _module, inputs, output, layer=layer: output + self.change(layer, inputs[0])
            )
            for layer in self.layers
        ]

    @torch.no_grad()
    def scaled(self, scale: float) -> "SharedLora":
        """See `Shared`; raises OptionError if `scale` is no number."""
        if not math.isfinite(scale):
            raise OptionError(f"bias scale is not a finite number: {scale}")
        result = copy.deepcopy(self)
        result.b.weight.mul_(scale)
        return result

    @torch.no_grad()
    def factors(self, *, rank: int) -> dict[str, LoraFactors]:
        """See `Shared`: widened to `rank` with zeros, which change nothing."""
        missing = rank - self.rank
        result = {}
        for layer in self.layers:
            a, b = (tensor.detach().cpu() for tensor in self.of_layer(layer))
            result[module_path(layer, _DOWN)] = LoraFactors(
                functional.pad(a, (0, 0, 0, missing)), functional.pad(b, (0, missing))
            )
        return result


def find_mlp(model: nn.Module, layer: int, name: str) -> nn.Module:
    """Find a projection of the MLP in a layer of a base without a head."""
    return model.get_submodule(module_path(layer, name).removeprefix("model."))


class Addresses(nn.Module):
    """Vectors that distinguish the opening's words from ordinary text; none is trained.

    An adapter's A recognizes a seat by its state, and responds to ordinary text with similar
    states. Addresses make the states differ: in the MLP of the last layer below all memory, each
    word of the opening drives one neuron of its own, which stays silent for all other text. The
    neuron adds a long vector to the word's state. No two vectors share a direction, and text hardly
    uses their directions. Keys and values of seats are imposed, so addresses do not change them.

    As a LoRA: on gate_proj, with single ones in B, and on down_proj, with single ones in A. Gates
    with fewer directions than words need fewer ranks. The tokens of the opening's head have no
    addresses, because any text contains them.

    `detect` (words, hidden) are gate rows for a normed state before multiplication by the layer's
    own norm: negative for all but the word. `directions` (words, hidden) are the added vectors.
    Both need a base first: `fit`.
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
        """Fit to a base without a head, given its longest opening: its norm multiplies the states,
        and its up_proj sets the strength of neurons; bases with the same function may differ in
        both. Cost: its lowest layers, once over the opening."""
        seen = read_inputs(model, self.layer, opening)[1 + self.n_head :]  # (words, hidden)
        norm, mlp = find_layer(model, self.layer)
        self._at = torch.tensor(self.neurons, device=seen.device)
        self._gates = self.detect.to(seen.device) / norm.to(torch.float32)
        own = [part.weight[self._at].to(torch.float32) for part in (mlp.gate_proj, mlp.up_proj)]
        gate, up = (torch.einsum("wh,wh->w", seen, rows) for rows in own)
        gate = gate + torch.einsum("wh,wh->w", seen, self._gates)
        inner = mlp.act_fn(gate) * up
        columns = mlp.down_proj.weight[:, self._at].to(torch.float32).T  # the base's own vectors
        self._writes = self.directions.to(seen.device) / inner[:, None] - columns

    def _take(self, n_seats: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Take neurons, gates and vectors of the words of an opening of so many seats."""
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

    def attach(self, model: nn.Module, *, n_seats: int) -> list[RemovableHandle]:
        """See `Shared`."""

        def open_gates(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            at, gates, _ = self._take(n_seats, inputs[0])
            return output.index_add(-1, at, inputs[0] @ gates.mT)

        def write(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            at, _, writes = self._take(n_seats, inputs[0])
            return output + inputs[0][..., at] @ writes

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
        """Factorize the gates of these words at their common rank."""
        u, values, vt = torch.linalg.svd(gates.double(), full_matrices=False)
        codes = torch.zeros(self.intermediate, self.rank)
        codes[at] = u[:, : self.rank].float()
        basis = values[: self.rank, None] * vt[: self.rank]  # (gate rank, hidden)
        return LoraFactors(basis.float().contiguous(), codes)

    def scaled(self, scale: float) -> "Addresses":
        """Raise OptionError: half an address distinguishes nothing."""
        raise OptionError(
            f"this network has no learned bias to scale by {scale:g}",
            hint="leave the bias scale at 1",
        )


def find_layer(model: Any, number: int) -> tuple[Tensor, Any]:
    """Find the weight of the norm before a layer's MLP, and the MLP."""
    layer = model.layers[number]
    return layer.post_attention_layernorm.weight, layer.mlp


def read_inputs(model: Any, number: int, ids: Sequence[int]) -> Tensor:
    """Read the inputs of a layer's MLP for these tokens: fp32 (tokens, hidden)."""
    found: list[Tensor] = []
    hook = model.layers[number].mlp.register_forward_pre_hook(
        lambda _module, inputs: found.append(inputs[0][0])
    )
    try:
        run_exact(model, ids, n_layers=number + 1)  # layers above would take most of the time
    finally:
        hook.remove()
    return found[0]
