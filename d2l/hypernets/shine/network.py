"""The SHINE network: states of memory tokens in every layer of the base to LoRA weights.

Activations as tensors in, LoraWeights on the CPU out. Module and parameter names are those of the
released files, with "q_proj" for "attention.q". Source of names and mathematics: MuLabPKU/SHINE at
commit 5c3b00b.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from d2l.adapters.merge_methods import compress, scaled
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.bases.activations import ActivationEncoder, Activations
from d2l.bases.families import Reading, module_path
from d2l.errors import CheckpointError
from d2l.hypernets.formats.fields import EveryLayer, check_range, to_float
from d2l.hypernets.formats.native import fill, make_empty
from d2l.hypernets.options import MergeOptions
from d2l.hypernets.protocol import Assembled, ChunkWeights

#: Most tokens of a text in training, in its last stage.
TRAINED_TOKENS = 2380
#: Adapted modules, in the order in which a layer's LoRA is cut out of its states.
MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
# Far above any released network; below it, building a network from a hostile file stays cheap.
_WIDTHS = ("hidden", "n_memory", "meta_rank", "n_heads", "feed_forward")
_LIMITS = {"n_layers": 512, "n_mixers": 128} | dict.fromkeys(_WIDTHS, 1 << 18)


@dataclass(frozen=True)
class ShineConfig(EveryLayer):
    """Configuration of the network's tensors. The adapter's rank follows from them: all states of a
    layer's memory tokens are its LoRA."""

    base: str
    n_layers: int  # of the base
    hidden: int
    d_in: tuple[int, ...]  # of each module of MODULES
    d_out: tuple[int, ...]
    n_memory: int  # tokens behind the text
    meta_rank: int  # of the LoRA that the base reads with
    n_mixers: int
    n_heads: int  # of a mixer
    feed_forward: int
    scale: float  # of b @ a; each factor is multiplied by its root

    kind: ClassVar[str] = "shine"
    target_modules: ClassVar[tuple[str, ...]] = tuple(sorted(MODULES))
    bias_rank: ClassVar[int] = 0
    chunk_tokens: ClassVar[int | None] = TRAINED_TOKENS

    def __post_init__(self) -> None:
        for name, most in _LIMITS.items():
            check_range(name, getattr(self, name), 1, most)
        self.check_sizes(MODULES)
        if self.n_mixers % 2 or self.hidden % self.n_heads:
            raise CheckpointError("n_mixers is odd, or n_heads does not divide hidden")
        if self.n_memory * self.hidden % (sum(self.d_in) + sum(self.d_out)):
            raise CheckpointError("the states of the memory tokens are no whole number of ranks")
        if not 0 < to_float(self.scale) < math.inf:
            raise CheckpointError("scale is not a positive number")

    @property
    def rank(self) -> int:
        """Rank of every adapter."""
        return self.n_memory * self.hidden // (sum(self.d_in) + sum(self.d_out))

    @property
    def module_shapes(self) -> Mapping[str, tuple[int, int]]:
        """(d_in, d_out) of each target module."""
        return self.pair_sizes(MODULES)

    @property
    def reading(self) -> Reading:
        """Layers of the base that run: all. `MemoryEncoder` keeps the states."""
        return Reading(self.n_layers, ())


class Shine(nn.Module):
    """Memory tokens and a meta-LoRA for the base, and mixers that turn states into a LoRA."""

    def __init__(self, config: ShineConfig) -> None:
        super().__init__()
        self.config = config
        n_layers, n_memory, hidden = config.n_layers, config.n_memory, config.hidden
        self.layer_pe = nn.Parameter(torch.zeros(n_layers, hidden))
        self.token_pe = nn.Parameter(torch.zeros(n_memory, hidden))
        sizes, gelu = (hidden, config.n_heads, config.feed_forward), nn.functional.gelu
        self.transformer_layers = nn.ModuleList(
            nn.TransformerEncoderLayer(*sizes, 0.0, gelu, batch_first=True)
            for _ in range(config.n_mixers)
        )
        self.mem_tokens = nn.Parameter(torch.zeros(n_memory, hidden))
        pairs, rank = config.module_shapes.items(), config.meta_rank
        self.metalora: Any = nn.ModuleList(
            nn.ModuleDict({name: _make_pair(*ends, rank) for name, ends in pairs})
            for _ in range(n_layers)
        )

    def forward(self, states: Tensor) -> Tensor:
        """Mix states (layers, memory, hidden) along the layers, then along the memory tokens, and
        so on; in float32."""
        x = states.float() + self.layer_pe[:, None] + self.token_pe
        for n, mixer in enumerate(self.transformer_layers):
            x = mixer(x) if n % 2 else mixer(x.transpose(0, 1)).transpose(0, 1)
        return x

    @torch.inference_mode()
    def generate(self, condition: Activations, rank: int) -> LoraWeights:
        """Write a text's weights; below the network's own rank, the nearest of that rank."""
        own = self.config.rank
        rows = self(condition.hidden).flatten(1).cpu() * math.sqrt(self.config.scale)
        factors, start = {}, 0
        for module, (d_in, d_out) in self.config.module_shapes.items():
            middle, stop = start + d_in * own, start + (d_in + d_out) * own
            for layer in range(len(rows)):  # A as (d_in, rank), B as (rank, d_out)
                a = rows[layer, start:middle].view(d_in, own).T
                b = rows[layer, middle:stop].view(own, d_out).T
                factors[module_path(layer, module)] = LoraFactors(a.contiguous(), b.contiguous())
            start = stop
        return compress(LoraWeights(self.config.base, 1.0, factors), rank)[0]

    def assemble(self, written: Iterable[ChunkWeights], options: MergeOptions) -> Assembled:
        """Make the adapter of the only chunk's weights."""
        (weights,) = written
        assert isinstance(weights, LoraWeights)
        return Assembled(scaled(weights, options.scale))


class MemoryEncoder(ActivationEncoder):
    """Reads a text with the meta-LoRA added to the base, and memory tokens behind the text."""

    def __init__(self, model: Any, hypernet: Shine) -> None:
        super().__init__(model, hypernet.config.reading)
        hypernet.metalora.to(model.dtype)
        self.hypernet = hypernet

    @torch.inference_mode()
    def read_together(self, chunks: Sequence[Sequence[int]]) -> list[Activations]:
        """Run texts through the base, one by one: the states of the memory tokens (memory, hidden)
        behind each layer, before the final norm."""
        return [self._read(token_ids) for token_ids in chunks]

    def _read(self, token_ids: Sequence[int]) -> Activations:
        model, memory, states = self.model, self.hypernet.mem_tokens, list[Tensor]()

        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            states.append(output[0, -len(memory) :].clone())

        hooks = [layer.register_forward_hook(keep) for layer in model.layers]
        for n, pairs in enumerate(self.hypernet.metalora):
            for name, pair in pairs.items():
                linear = model.get_submodule(module_path(n, name).removeprefix("model."))
                hooks.append(linear.register_forward_hook(partial(_add_pair, pair)))
        try:
            text = model.embed_tokens(torch.tensor(token_ids, device=memory.device))
            rows = torch.cat([text, memory.to(text.dtype)])
            model(inputs_embeds=rows[None], use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        return Activations(states)


def _make_pair(d_in: int, d_out: int, rank: int) -> nn.ParameterDict:
    """Make a pair of the meta-LoRA, input axis first."""
    return nn.ParameterDict({"A": torch.zeros(1, d_in, rank), "B": torch.zeros(1, rank, d_out)})


def _add_pair(
    pair: nn.ParameterDict, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> Tensor:
    """Add a pair of the meta-LoRA to a linear layer's output."""
    added: Tensor = inputs[0] @ pair["A"] @ pair["B"]
    return output + added


def build(config: ShineConfig, tensors: Mapping[str, Tensor], *, device: str) -> Shine:
    """Make a frozen network of exactly these tensors, in float32 on a device."""
    return fill(
        make_empty(Shine, config), tensors, lambda _, tensor: tensor.to(device, torch.float32)
    )
