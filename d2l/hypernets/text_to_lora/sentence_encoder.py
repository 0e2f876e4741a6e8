"""A sentence encoder of BERT's form, and of GTE's with rotary positions and a gated MLP.

Token ids of one text in, hidden states out. BERT's form is that of google-research/bert,
modeling.py; GTE's that of the model type "new" (Alibaba-NLP/new-impl, modeling.py). GTE's own code
would run from the hub, and silently breaks under current transformers.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from d2l.errors import BaseModelError
from d2l.hypernets.formats.native import fill, make_empty

#: model_type of the two forms, as config.json names them.
BERT, GTE = "bert", "new"

# Far above any encoder; below it, building one from a hostile file stays cheap.
_LIMITS = {
    "vocab_size": 1 << 21,
    "hidden_size": 1 << 15,
    "intermediate_size": 1 << 17,
    "num_hidden_layers": 256,
    "num_attention_heads": 1024,
    "max_position_embeddings": 1 << 20,
    "type_vocab_size": 1024,
}

#: Names in BERT's files, and ours, which are GTE's.
_BERT_NAMES = (
    (re.compile(r"\.attention\.output\.dense\."), ".attention.o_proj."),
    (re.compile(r"\.attention\.output\.LayerNorm\."), ".attn_ln."),
    (re.compile(r"\.intermediate\.dense\."), ".mlp.up_proj."),
    (re.compile(r"\.output\.dense\."), ".mlp.down_proj."),
    (re.compile(r"\.output\.LayerNorm\."), ".mlp_ln."),
)
_PARTS = ("query", "key", "value")


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes under the names of config.json, and the form of positions."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    rope_theta: float = 10000.0
    rope_factor: float = 1.0  # longest text, relative to pretraining (NTK scaling)

    @property
    def head_size(self) -> int:
        """Width of an attention head."""
        return self.hidden_size // self.num_attention_heads


def read_encoder_config(values: Mapping[str, object]) -> EncoderConfig:
    """Check a config.json's values; raises BaseModelError for unknown features."""
    model_type = values.get("model_type")
    if model_type not in (BERT, GTE):
        raise BaseModelError(
            f"embedders of type {str(model_type)[:40]!r} are not supported",
            hint=f"built in are {BERT!r} and {GTE!r} (gte-large-en-v1.5), and the base itself",
        )
    sizes = {}
    for name, high in _LIMITS.items():
        value = values.get(name)
        if type(value) is not int or not (0 if name == "type_vocab_size" else 1) <= value <= high:
            raise BaseModelError(f"{name} is not a number from 1 to {high}")
        sizes[name] = value
    if sizes["hidden_size"] % (2 * sizes["num_attention_heads"]):
        raise BaseModelError("hidden_size is not an even multiple of num_attention_heads")
    expected: dict[str, dict[str, object]] = {
        BERT: {"position_embedding_type": "absolute", "hidden_act": "gelu"},
        GTE: {
            "position_embedding_type": "rope",
            "hidden_act": "gelu",
            "layer_norm_type": "layer_norm",
            "logn_attention_scale": False,
            "pack_qkv": True,
        },
    }
    for name, wanted in expected[str(model_type)].items():
        if values.get(name, wanted) != wanted:
            raise BaseModelError(f"{name} is not {wanted!r}", hint="no such encoder is built in")
    eps = values.get("layer_norm_eps", 1e-12)
    if type(eps) is not float or not 0 < eps < 1:
        raise BaseModelError("layer_norm_eps is not a small number")
    theta, factor = _read_rope(values) if model_type == GTE else (10000.0, 1.0)
    return EncoderConfig(
        model_type=str(model_type),
        layer_norm_eps=eps,
        rope_theta=theta,
        rope_factor=factor,
        **sizes,
    )


def _read_rope(values: Mapping[str, object]) -> tuple[float, float]:
    """Read the base of the rotary frequencies, and the factor of their NTK scaling."""
    theta = values.get("rope_theta", 10000.0)
    scaling = values.get("rope_scaling")
    factor: object = 1.0
    if scaling is not None:
        if not isinstance(scaling, dict) or scaling.get("type") != "ntk" or scaling.get("mixed_b"):
            raise BaseModelError(
                "rope_scaling is not plain ntk", hint="no such encoder is built in"
            )
        factor = scaling.get("factor")
    for name, value in (("rope_theta", theta), ("factor of rope_scaling", factor)):
        if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value < 1e12:
            raise BaseModelError(f"{name} is not a number of 1 or more")
    assert isinstance(theta, int | float)
    assert isinstance(factor, int | float)
    return float(theta), float(factor)


class TextEncoder(nn.Module):
    """Embeddings, and layers that norm after each sum. One text at a time, so nothing is padded."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.hidden_size
        tables = {"word_embeddings": nn.Embedding(config.vocab_size, width)}
        if config.model_type == BERT:
            n_positions = config.max_position_embeddings
            tables["position_embeddings"] = nn.Embedding(n_positions, width)
        if config.type_vocab_size:
            tables["token_type_embeddings"] = nn.Embedding(config.type_vocab_size, width)
        norm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.embeddings = nn.ModuleDict({**tables, "LayerNorm": norm})
        layers = [_Layer(config) for _ in range(config.num_hidden_layers)]
        self.encoder = nn.ModuleDict({"layer": nn.ModuleList(layers)})

    def forward(self, token_ids: Tensor) -> Tensor:
        """Map (tokens,) to (tokens, hidden)."""
        embed = self.embeddings
        state: Tensor = embed["word_embeddings"](token_ids)
        rotation = None
        if self.config.model_type == BERT:
            positions = torch.arange(len(token_ids), device=state.device)
            state = state + embed["position_embeddings"](positions)
        else:
            rotation = make_rotation(self.config, len(token_ids), state.device)
        if self.config.type_vocab_size:
            state = state + embed["token_type_embeddings"](torch.zeros_like(token_ids))
        state = embed["LayerNorm"](state)
        for layer in self.encoder["layer"].children():
            state = layer(state, rotation)
        return state


class _Layer(nn.Module):
    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width, inner = config.hidden_size, config.intermediate_size
        self.n_heads = config.num_attention_heads
        self.gated = config.model_type == GTE
        self.attention = nn.ModuleDict(
            {"qkv_proj": nn.Linear(width, 3 * width), "o_proj": nn.Linear(width, width)}
        )
        up = (
            {"up_gate_proj": nn.Linear(width, 2 * inner, bias=False)}
            if self.gated
            else {"up_proj": nn.Linear(width, inner)}
        )
        self.mlp = nn.ModuleDict({**up, "down_proj": nn.Linear(inner, width)})
        self.attn_ln = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.mlp_ln = nn.LayerNorm(width, eps=config.layer_norm_eps)

    def forward(self, state: Tensor, rotation: Tensor | None) -> Tensor:
        """Map (tokens, hidden) to the same; `rotation` (2, tokens, head): cosines and sines."""
        n_tokens, width = state.shape
        packed = self.attention["qkv_proj"](state).view(n_tokens, 3, self.n_heads, -1)
        query, key, value = packed.permute(1, 2, 0, 3)  # (heads, tokens, head) each
        if rotation is not None:
            query, key = _rotate(query, rotation), _rotate(key, rotation)
        mixed = scaled_dot_product_attention(query[None], key[None], value[None])[0]
        state = self.attn_ln(
            state + self.attention["o_proj"](mixed.transpose(0, 1).reshape(n_tokens, width))
        )
        if self.gated:
            up, gate = self.mlp["up_gate_proj"](state).chunk(2, dim=-1)
            inner = up * gelu(gate)
        else:
            inner = gelu(self.mlp["up_proj"](state))
        result: Tensor = self.mlp_ln(state + self.mlp["down_proj"](inner))
        return result


def make_rotation(config: EncoderConfig, n_tokens: int, device: torch.device) -> Tensor:
    """Make cosines and sines of the rotary embedding, in float32: (2, tokens, head).

    NTK scaling with a fixed factor: theta times the factor, and all frequencies divided by
    factor^(2 / head) (Alibaba-NLP/new-impl, NTKScalingRotaryEmbedding).
    """
    size, factor = config.head_size, config.rope_factor
    powers = torch.arange(0, size, 2, dtype=torch.float32, device=device) / size
    frequencies = 1.0 / ((config.rope_theta * factor) ** powers) / factor ** (2 / size)
    angles = torch.arange(n_tokens, dtype=torch.float32, device=device)[:, None] * frequencies
    angles = torch.cat([angles, angles], dim=-1)  # (tokens, head)
    return torch.stack([angles.cos(), angles.sin()])


def _rotate(state: Tensor, rotation: Tensor) -> Tensor:
    first, second = state.chunk(2, dim=-1)
    return state * rotation[0] + torch.cat([-second, first], dim=-1) * rotation[1]


def rename_tensors(tensors: Mapping[str, Tensor], model_type: str) -> dict[str, Tensor]:
    """Rename a file's tensors to the encoder's names; heads for other tasks are left out."""
    renamed: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        name = name.removeprefix(f"{model_type}.")
        if not name.startswith(("embeddings.", "encoder.")) or name.endswith("position_ids"):
            continue
        if model_type == BERT:
            name = name.replace(".gamma", ".weight").replace(".beta", ".bias")  # the oldest files
            for pattern, ours in _BERT_NAMES:
                name = pattern.sub(ours, name)
        renamed[name] = tensor
    for name in [name for name in renamed if ".attention.self.query." in name]:
        parts = [renamed.pop(name.replace(".query.", f".{part}."), None) for part in _PARTS]
        found = [part for part in parts if part is not None]
        renamed[name.replace("self.query", "qkv_proj")] = torch.cat(found)
    return renamed


def build_encoder(
    config: EncoderConfig, tensors: Mapping[str, Tensor], *, device: str
) -> TextEncoder:
    """Make a frozen encoder of exactly these tensors in float32; raises CheckpointError."""
    owned = rename_tensors(tensors, config.model_type)
    encoder = make_empty(TextEncoder, config)
    return fill(encoder, owned, lambda _, tensor: tensor.to(device, torch.float32))
