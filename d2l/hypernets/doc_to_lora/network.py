"""The Doc-to-LoRA network: hidden states of one chunk to LoRA weights for its base model.

Activations as tensors in, LoraWeights on the CPU out. Module and parameter names are those of the
released checkpoints, so weights load unchanged. Source of names and mathematics:
SakanaAI/doc-to-lora, modeling/hypernet.py (HyperLoRA).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from d2l.adapters.merge_methods import METHODS, Counted, compress, scaled, scaled_parts
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.bases import devices
from d2l.bases.activations import Activations
from d2l.bases.families import ATTENTION, MLP, Reading, module_path
from d2l.bases.models import batched
from d2l.errors import BaseModelError, CheckpointError, OptionError
from d2l.files.tensors import all_finite
from d2l.hypernets.doc_to_lora.perceiver import MLP_RATIO, Perceiver, make_layers
from d2l.hypernets.formats.fields import EveryLayer, check_range, to_float
from d2l.hypernets.formats.native import fill, get_shapes, make_empty
from d2l.hypernets.options import MergeOptions
from d2l.hypernets.protocol import Assembled, ChunkWeights

PER_LAYER = "per_layer_activations"
EARLY_EXIT = "early_exit"
EMBED_ONLY = "embed_only"

_MODULES = frozenset(ATTENTION + MLP)

# Far above any released network; below it, building a network from a hostile file stays cheap.
_LIMITS = {
    "n_layers": (2, 512),
    "rank": (1, 1024),
    "latent_size": (1, 1 << 16),
    "feature_size": (1, 1 << 18),
    "n_latent_queries": (1, 1 << 16),
    "n_blocks": (1, 128),
    "n_self_attention": (0, 16),
    "n_pre_head_blocks": (0, 64),
}
#: Values of the perceiver's widest tensor; it holds three such at a time, 1.6 GB in bf16. With 512
#: tokens all 32 layers of Mistral fit into it, with 8,192 tokens two.
WIDEST = 1 << 28


@dataclass(frozen=True)
class DocToLoraConfig(EveryLayer):
    """Configuration of the network's tensors, and of its reading."""

    base: str
    encoder: str | None  # model that reads the document, where that is not the base
    encoder_type: str  # PER_LAYER, EARLY_EXIT or EMBED_ONLY
    encoder_layer: int | None  # early exit: number of layers that run
    encoder_quantized: bool  # trained on activations of a 4-bit encoder; here it is not rounded
    n_layers: int  # of the base
    target_modules: tuple[str, ...]  # sorted
    d_in: tuple[int, ...]  # of each target module
    d_out: tuple[int, ...]
    rank: int
    scale: float  # delta = scale * b @ a; the original calls it lora_alpha
    latent_size: int
    feature_size: int  # hidden size of the encoder
    n_latent_queries: int
    n_blocks: int
    n_self_attention: int  # self-attention layers per block
    shared_weights: bool
    n_pre_head_blocks: int
    per_layer_pre_head: bool
    use_bias: bool
    chunk_tokens: int | None = None

    kind: ClassVar[str] = "doc_to_lora"

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            check_range(name, getattr(self, name), low, high)
        names = self.target_modules
        if not names or list(names) != sorted(set(names)) or not set(names) <= _MODULES:
            known = ", ".join(sorted(_MODULES))
            raise CheckpointError(f"target_modules are not a sorted choice of {known}")
        self.check_sizes(names)
        if self.encoder_type not in (PER_LAYER, EARLY_EXIT, EMBED_ONLY):
            raise CheckpointError(
                f"encoder_type is not one of {PER_LAYER}, {EARLY_EXIT}, {EMBED_ONLY}"
            )
        if (self.encoder_layer is not None) != (self.encoder_type == EARLY_EXIT):
            raise CheckpointError(f"encoder_layer is for encoder_type {EARLY_EXIT} only")
        if self.encoder_layer is not None:
            check_range("encoder_layer", self.encoder_layer, 1, 512)
        if self.chunk_tokens is not None:
            check_range("chunk_tokens", self.chunk_tokens, 1, 1 << 30)
        if not math.isfinite(to_float(self.scale)):
            raise CheckpointError("scale is not a finite number")

    @property
    def reading(self) -> Reading:
        """Hidden states that the network reads; with per-layer reading, one per adapted layer."""
        if self.encoder_layer is not None:
            return Reading(self.encoder_layer, (self.encoder_layer,))
        if self.encoder_type == EMBED_ONLY:
            return Reading(1, (0,))  # one layer, so that state 0 is not the final norm's output
        return Reading(self.n_layers - 1, tuple(range(self.n_layers)))

    @property
    def module_shapes(self) -> Mapping[str, tuple[int, int]]:
        """(d_in, d_out) of each target module."""
        return self.pair_sizes(self.target_modules)

    @property
    def bias_rank(self) -> int:
        """Rank that the learned, document-independent part adds to every adapter."""
        return self.rank if self.use_bias else 0


class DocToLora(nn.Module):
    """Perceiver, pre-head blocks and head; `generate` and `assemble` are its two uses."""

    def __init__(self, config: DocToLoraConfig) -> None:
        super().__init__()
        self.config = config
        n_layers, rank = config.n_layers, config.rank
        n_modules, width = len(config.target_modules), config.latent_size
        n_out = n_modules * rank * (1 if config.encoder_type == PER_LAYER else n_layers)
        layers = make_layers(
            width,
            n_blocks=config.n_blocks,
            n_self_attention=config.n_self_attention,
            shared=config.shared_weights,
        )
        perceiver = Perceiver(
            config.feature_size, width, n_out, n_latents=config.n_latent_queries, layers=layers
        )
        self.aggregator = nn.ModuleDict({"perceiver": perceiver})
        self.layers = nn.ModuleList(
            PerLayerBlock(n_layers, width) if config.per_layer_pre_head else SharedBlock(width)
            for _ in range(config.n_pre_head_blocks)
        )
        sizes = [i + o for i, o in zip(config.d_in, config.d_out, strict=True)]
        head_shape = [n_layers, n_modules, width, max(sizes)]
        if n_modules == 1:
            del head_shape[1]
        self.head = nn.ParameterDict({"weight": torch.zeros(head_shape)})
        modules = list(zip(config.target_modules, config.d_in, config.d_out, strict=True))
        self.bias_A = nn.ParameterDict({m: torch.zeros(n_layers, rank, i) for m, i, _ in modules})
        self.bias_B = nn.ParameterDict({m: torch.zeros(n_layers, rank, o) for m, _, o in modules})
        scaler = (1, n_layers, rank, 1)
        self.scaler_A = nn.ParameterDict({m: torch.ones(scaler) for m, _, _ in modules})
        self.scaler_B = nn.ParameterDict({m: torch.zeros(scaler) for m, _, _ in modules})

    def forward(self, states: Sequence[Tensor]) -> dict[str, tuple[Tensor, Tensor]]:
        """Map states (tokens, hidden), one a layer, to each module's A and B.

        A: (layers, rank, d_in); B: (layers, rank, d_out). On the network's device, float32.
        """
        return self.project(self.perceive(states))

    def perceive(self, states: Sequence[Tensor]) -> Tensor:
        """Read states (tokens, hidden), one a layer, into (layers, modules, rank, latents)."""
        config = self.config
        device = self.head["weight"].device
        # Only this module of the original runs in bfloat16, and only on a GPU. There the launch of
        # an operation costs most of its time, so many layers are read side by side. A CPU gains
        # nothing by that, and needs the memory of only one layer.
        on_gpu = devices.is_cuda(device)
        widest = MLP_RATIO * config.feature_size * len(states[0])
        size = max(1, WIDEST // widest) if on_gpu else 1
        dtype = torch.bfloat16 if on_gpu else torch.float32
        with torch.autocast(device.type, torch.bfloat16, enabled=on_gpu):
            read = [
                self.aggregator["perceiver"](torch.stack([h.to(device, dtype) for h in group]))
                for group in batched(states, size)
            ]
        shape = (config.n_layers, len(config.target_modules), config.rank, config.latent_size)
        return torch.cat(read).reshape(shape)

    def project(self, latents: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Map latents (layers, modules, rank, latents) to each module's A and B."""
        config = self.config
        x = latents
        for block in self.layers:
            x = block(x)
        x = x / x.norm(dim=-1, keepdim=True)
        head = self.head["weight"]
        if head.ndim == 3:
            head = head[:, None]  # (layers, modules, latents, d_in + d_out)
        y = torch.einsum("lmrz,lmzd->lmrd", x, head)
        factors = {}
        for i, module in enumerate(config.target_modules):
            stop = config.d_in[i] + config.d_out[i]
            a = y[:, i, :, : config.d_in[i]] * self.scaler_A[module][0]
            b = y[:, i, :, config.d_in[i] : stop] * self.scaler_B[module][0]
            factors[module] = (a, b)
        return factors

    @torch.no_grad()
    def generate(self, condition: Activations, rank: int) -> LoraWeights:
        """Write one chunk's weights; below the network's own rank, the nearest of that rank."""
        states = condition.states
        n_states = len(self.config.reading.hidden_states)
        shape = (len(states), *states[0].shape)
        if len(shape) != 3 or shape[0] != n_states or shape[1] == 0:
            raise BaseModelError(
                f"hidden states are {shape}, "
                f"expected ({n_states}, tokens, {self.config.feature_size})"
            )
        if shape[2] != self.config.feature_size:
            raise BaseModelError(
                f"hidden states are {shape[2]} wide, "
                f"this checkpoint reads {self.config.feature_size}",
                hint=f"it was made for {self.config.encoder or self.config.base}",
            )
        weights = self._name_factors(self(states))
        return compress(weights, rank)[0]

    @torch.no_grad()
    def assemble(
        self, written: Sequence[ChunkWeights] | Counted[ChunkWeights], options: MergeOptions
    ) -> Assembled:
        """Merge the chunks' weights and add the learned part once."""
        method = METHODS.get(options.method)
        if method is None:
            known = ", ".join(METHODS)
            raise OptionError(f"unknown merge method {options.method!r}", hint=f"choose {known}")
        if not self.config.use_bias and options.bias_scale != 1.0:
            raise OptionError(
                "this network has no learned bias to scale", hint="leave the bias scale at 1"
            )
        shared = None
        if self.config.use_bias:
            learned = {m: (self.bias_A[m], self.bias_B[m]) for m in self.config.target_modules}
            shared = scaled(self._name_factors(learned), options.bias_scale)
        return Assembled(method(scaled_parts(written, options.scale), shared))

    def _name_factors(self, generated: Mapping[str, tuple[Tensor, Tensor]]) -> LoraWeights:
        """Split A and B (layers, rank, d) by layer, in PEFT's orientation, on the CPU; raises
        BaseModelError where a value is not finite."""
        both = [factor.detach() for pair in generated.values() for factor in pair]
        finite = torch.stack([all_finite(factor) for factor in both]).all()
        # Copied to pinned memory in the background. Reading the flag waits for the device, and so
        # for these copies.
        there = [factor.to("cpu", non_blocking=devices.is_cuda(factor.device)) for factor in both]
        if not bool(finite):
            raise BaseModelError(
                "the network wrote weights that are not finite numbers",
                hint="load the base model in bfloat16 or float32, not float16",
            )
        factors = {
            module_path(layer, module): LoraFactors(
                a[layer].clone(), b[layer].T.clone(memory_format=torch.contiguous_format)
            )
            for module, a, b in zip(generated, there[::2], there[1::2], strict=True)
            for layer in range(self.config.n_layers)
        }
        return LoraWeights(self.config.base, self.config.scale, factors)


class PerLayerBlock(nn.Module):
    """Residual MLP before the head, with weights of its own for every layer."""

    def __init__(self, n_layers: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            PerLayerLinear(n_layers, width, MLP_RATIO * width),
            nn.SiLU(),
            PerLayerLinear(n_layers, MLP_RATIO * width, width),
            nn.LayerNorm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Update x (layers, modules, rank, latents)."""
        out: Tensor = x + self.layers(x)
        return out


class PerLayerLinear(nn.Module):
    """Linear map with weights of its own for every layer, stored input axis first."""

    def __init__(self, n_layers: int, width: int, out_width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(n_layers, width, out_width))
        self.bias = nn.Parameter(torch.zeros(1, n_layers, 1, 1, out_width))

    def forward(self, x: Tensor) -> Tensor:
        """Map x (layers, modules, rank, latents) along its last axis."""
        return torch.einsum("lmrz,lzh->lmrh", x, self.weight) + self.bias[0]


class SharedBlock(nn.Module):
    """Residual MLP before the head, the same for all layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        # Modules 1 and 4 are dropout in the original, which acts in training only.
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Identity(),
            nn.Linear(width, MLP_RATIO * width),
            nn.SiLU(),
            nn.Identity(),
            nn.Linear(MLP_RATIO * width, width),
            nn.LayerNorm(width),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Update x (layers, modules, rank, latents)."""
        out: Tensor = x + self.mlp(x)
        return out


def expected_shapes(config: DocToLoraConfig) -> dict[str, tuple[int, ...]]:
    """Name every tensor of the network, with its shape."""
    return get_shapes(make_empty(DocToLora, config).state_dict())


def build(config: DocToLoraConfig, tensors: Mapping[str, Tensor], *, device: str) -> DocToLora:
    """Make a frozen network of exactly these tensors, in float32 on a device.

    The tensors are taken over, not copied, where they are float32 and on the device already. On
    CUDA the perceiver's matrices are in bfloat16, as autocast would cast them for every chunk.
    """
    # Casting keeps shared storages apart, which costs memory only: values are equal.
    low = r"aggregator\..*_proj\.weight" if devices.is_cuda(device) else ""

    def cast(name: str, tensor: Tensor) -> Tensor:
        return tensor.to(device, torch.bfloat16 if re.fullmatch(low, name) else torch.float32)

    network = fill(make_empty(DocToLora, config), tensors, cast)
    by_parameter: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        twin = by_parameter.setdefault(id(parameter), name)
        if twin != name and not torch.equal(tensors[name], tensors[twin]):
            raise CheckpointError(f"{name} differs from {twin}, but blocks share their weights")
    return network
