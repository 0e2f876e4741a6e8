"""The Text-to-LoRA network: the embedding of a task description to LoRA weights for its base model.

One vector in, LoraWeights on the CPU out. Module and parameter names are those of the released
checkpoints, so weights load unchanged. Source of names and mathematics: SakanaAI/text-to-lora,
hyper_llm_modulator/hyper_modulator.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.bases.families import ATTENTION, MLP, Reading, module_path
from d2l.errors import CheckpointError
from d2l.hypernets.formats.fields import EveryLayer, check_range, to_float
from d2l.hypernets.formats.native import fill, get_shapes, make_empty

_MODULES = frozenset(ATTENTION + MLP)
_MLP_RATIO = 4
_DROPOUT = 0.05  # in training only
_Z_EPSILON = 1e-10

# Far above any released network; below it, building a network from a hostile file stays cheap.
_LIMITS = {
    "n_layers": (1, 512),
    "rank": (1, 1024),
    "embedding_size": (1, 1 << 18),
    "latent_size": (4, 1 << 16),
    "head_size": (1, 1 << 18),
}


@dataclass(frozen=True)
class TextToLoraConfig(EveryLayer):
    """Configuration of the network's tensors and the adapters' scale.

    `scale` is alpha / rank; with `rank_stabilized` the checkpoint's own adapters multiply it by
    √rank (see `scaling`).
    """

    base: str
    embedder: str | None  # model that embeds descriptions; None: the base itself
    embedding_size: int
    n_layers: int  # of the base
    module_order: tuple[str, ...]  # order of the learned module embedding, not alphabetical
    d_in: tuple[int, ...]  # of each module, in that order
    d_out: tuple[int, ...]
    rank: int
    scale: float
    rank_stabilized: bool
    latent_size: int
    head_size: int
    shared_head: bool  # one output for a and b, distinguished by a learned embedding
    autoregressive: bool  # one rank at a time, distinguished by a learned embedding
    head_bias: bool
    adds_offset: bool  # a learned constant is added to a and b
    z_scores: bool  # outputs are multiples of a standard deviation from a mean
    delta_scaling: float = 1.0  # b @ a was trained to be this many times the delta
    embeds_question: bool = False  # the base embeds a description as a user's turn of its chat

    kind: ClassVar[str] = "text_to_lora"
    bias_rank: ClassVar[int] = 0  # offsets add no rank
    chunk_tokens: ClassVar[int | None] = None  # descriptions are not cut into chunks

    def __post_init__(self) -> None:
        for name, (low, high) in _LIMITS.items():
            check_range(name, getattr(self, name), low, high)
        names = self.module_order
        if not names or len(set(names)) != len(names) or not set(names) <= _MODULES:
            known = ", ".join(sorted(_MODULES))
            raise CheckpointError(f"module_order is not a choice of {known}")
        self.check_sizes(names)
        if self.latent_size % 4:
            raise CheckpointError("latent_size is not a multiple of 4")
        if not math.isfinite(to_float(self.scale)):
            raise CheckpointError("scale is not a finite number")
        if self.embeds_question and self.embedder is not None:
            raise CheckpointError("embeds_question is for networks whose base embeds descriptions")
        if not (math.isfinite(to_float(self.delta_scaling)) and self.delta_scaling > 0):
            raise CheckpointError("delta_scaling is not a positive number")

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Short names of the adapted modules, sorted."""
        return tuple(sorted(self.module_order))

    @property
    def module_shapes(self) -> Mapping[str, tuple[int, int]]:
        """(d_in, d_out) of each target module."""
        return self.pair_sizes(self.module_order)

    @property
    def reading(self) -> Reading:
        """Activations to read: the base's last state if it embeds descriptions, else none."""
        if self.embedder is None:
            return Reading(self.n_layers, (self.n_layers,))
        return Reading(0, ())

    def scaling(self, *, own: bool) -> float:
        """Factor of b @ a: alpha / rank, or with `own` what the checkpoint's adapters declare.

        The released adapters declare rank-stabilized scaling, alpha / √rank, while their
        published scores come from a runtime that ignored it.
        """
        return self.scale * (self.rank**0.5 if own and self.rank_stabilized else 1.0)


class TextToLora(nn.Module):
    """Encoders of description, layer and module, a residual trunk, and one head a module."""

    def __init__(self, config: TextToLoraConfig) -> None:
        super().__init__()
        self.config = config
        width = config.latent_size
        self.task_encoder = _Wrapped(
            nn.Linear(config.embedding_size, width // 2), nn.LayerNorm(width // 2)
        )
        self.layer_depth_encoder = _embedding(config.n_layers, width // 4)
        self.layer_type_encoder = _embedding(len(config.module_order), width // 4)
        self.mixer = _feed_forward(nn.Identity(), width, width)
        self.mlp1 = _Wrapped(*_feed_forward(nn.LayerNorm(width), width, width))
        self.mlp2 = _Wrapped(*_feed_forward(nn.LayerNorm(width), width, width))
        self.mlp3 = _feed_forward(nn.LayerNorm(width), width, config.head_size)
        if config.shared_head:
            self.out_emb = nn.ModuleDict(
                {name: _vectors(A=(width,), B=(width,)) for name in config.module_order}
            )
            self.out_emb_norm = nn.LayerNorm(width)
        if config.autoregressive:
            self.pos_emb = _embedding(config.rank, width)
        self.heads = nn.ModuleDict(
            {
                name: nn.Linear(config.head_size, self._n_outputs(*sizes), bias=config.head_bias)
                for name, sizes in config.module_shapes.items()
            }
        )
        if config.adds_offset:
            self.AB_offset = self._targets()
        if config.z_scores:
            self.mean_recon_target = self._targets()
            self.std_recon_target = self._targets()

    def generate(self, embedding: Tensor) -> LoraWeights:
        """Write the weights of a description, float32 on the CPU, with the scale alpha / rank.

        `embedding`: (embedding_size,), of length √embedding_size.
        """
        config = self.config
        factors = {}
        with torch.inference_mode():
            for module, (a, b) in self(embedding).items():
                for layer in range(config.n_layers):
                    name = module_path(layer, module)
                    factors[name] = LoraFactors(a[layer].cpu().clone(), b[layer].cpu().clone())
        return LoraWeights(config.base, config.scaling(own=False), factors)

    def encode(self, embedding: Tensor) -> Tensor:
        """Encode a description: (latent_size / 2,)."""
        encoded: Tensor = self.task_encoder(embedding)
        return encoded

    def forward(self, embedding: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """Compute (a, b) of each module: (layers, rank, d_in) and (layers, d_out, rank)."""
        config = self.config
        depths = self.layer_depth_encoder[1](self.layer_depth_encoder[0].weight)  # (layers, d)
        kinds = self.layer_type_encoder[1](self.layer_type_encoder[0].weight)  # (modules, d)
        task = self.encode(embedding).expand(config.n_layers, -1)  # (layers, e)
        results = {}
        for module, kind in zip(config.module_order, kinds, strict=True):
            state = torch.cat([task, depths, kind.expand(config.n_layers, -1)], dim=-1)
            state = self.mixer(state)  # (layers, latent)
            state = state + self.mlp1(state)
            a, b = self._write(module, state)
            results[module] = self._finish(module, a, b.transpose(1, 2))
        return results

    def _write(self, module: str, state: Tensor) -> tuple[Tensor, Tensor]:
        """Run the head: (layers, rank, d_in) and (layers, rank, d_out)."""
        config = self.config
        n_layers, rank = config.n_layers, config.rank
        d_in, d_out = config.module_shapes[module]
        positions = self.pos_emb[1](self.pos_emb[0].weight) if config.autoregressive else None
        if config.shared_head:
            written = []
            for which, size in (("A", d_in), ("B", d_out)):
                out = state + self.out_emb_norm(self.out_emb[module].get_parameter(which))
                out = out + self.mlp2(out)  # (layers, latent)
                if positions is not None:  # a residual block of its own, then added
                    out = out[:, None] + (positions + self.mlp2(positions))
                values = self.heads[module](self.mlp3(out))
                written.append(values.view(n_layers, rank, max(d_in, d_out))[..., :size])
            return written[0], written[1]
        if positions is not None:
            state = state[:, None] + positions  # (layers, rank, latent)
        values = self.heads[module](self.mlp3(state + self.mlp2(state)))
        if positions is not None:
            return values[..., :d_in], values[..., d_in:]
        a, b = values.split([rank * d_in, rank * d_out], dim=-1)
        return a.view(n_layers, rank, d_in), b.view(n_layers, rank, d_out)

    def _finish(self, module: str, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Undo the scaling of training's targets; a and b in PEFT's orientation."""
        finished = []
        for which, values in (("A", a), ("B", b)):
            if self.config.z_scores:
                mean, deviation = (
                    targets[which].get_parameter(module)
                    for targets in (self.mean_recon_target, self.std_recon_target)
                )
                values = values * (deviation + _Z_EPSILON) + mean
            if self.config.adds_offset:
                values = values + self.AB_offset[which].get_parameter(module)
            finished.append(values / self.config.delta_scaling**0.5)
        return finished[0], finished[1]

    def _n_outputs(self, d_in: int, d_out: int) -> int:
        n_values = max(d_in, d_out) if self.config.shared_head else d_in + d_out
        return n_values if self.config.autoregressive else n_values * self.config.rank

    def _targets(self) -> nn.ModuleDict:
        """Register a constant of the shape of every module's a, (layers, rank, d_in), and b."""
        layers, rank = self.config.n_layers, self.config.rank
        shapes = self.config.module_shapes
        return nn.ModuleDict(
            {
                "A": _vectors(**{name: (layers, rank, d_in) for name, (d_in, _) in shapes.items()}),
                "B": _vectors(
                    **{name: (layers, d_out, rank) for name, (_, d_out) in shapes.items()}
                ),
            }
        )


class _Wrapped(nn.Module):
    """Layers in a row under the name `mlp`, as in the released files."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.mlp = nn.Sequential(*layers)

    def forward(self, state: Tensor) -> Tensor:
        """Map (..., width) to (..., width of the last layer)."""
        result: Tensor = self.mlp(state)
        return result


def _embedding(n_rows: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Embedding(n_rows, width), nn.LayerNorm(width))


def _feed_forward(first: nn.Module, width: int, n_out: int) -> nn.Sequential:
    """Make two linear layers with SiLU after each; indices 1 and 4 are those of the released
    files."""
    inner = _MLP_RATIO * width
    up, down = nn.Linear(width, inner), nn.Linear(inner, n_out)
    return nn.Sequential(first, up, nn.SiLU(), nn.Dropout(_DROPOUT), down, nn.SiLU())


def _vectors(**shapes: tuple[int, ...]) -> nn.ParameterDict:
    return nn.ParameterDict({name: torch.zeros(shape) for name, shape in shapes.items()})


def expected_shapes(config: TextToLoraConfig) -> dict[str, tuple[int, ...]]:
    """Name every tensor of the network, with its shape."""
    return get_shapes(make_empty(TextToLora, config).state_dict())


def build(config: TextToLoraConfig, tensors: Mapping[str, Tensor], *, device: str) -> TextToLora:
    """Make a frozen network of exactly these tensors, in float32 on a device."""

    def cast(_name: str, tensor: Tensor) -> Tensor:
        # The alignment of a released file's tensors changes the last bits on some CPUs.
        return tensor.to(device, torch.float32, copy=tensor.data_ptr() % 64 > 0)

    return fill(make_empty(TextToLora, config), tensors, cast)
