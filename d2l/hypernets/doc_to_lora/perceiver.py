"""The perceiver of Doc-to-LoRA: any number of hidden states of a text to a fixed number of latents.

Tensors in, tensors out. Module and parameter names are those of the released checkpoints
(SakanaAI/doc-to-lora, modeling/aggregator.py).

Shapes: `hidden` is the width of the states read, `latents` the width of the latent vectors. Texts
of the same length are read side by side, without attention to each other.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Fixed in the original's code, whatever the width of the latents; not stored in checkpoints.
N_HEADS = 16
N_KEY_VALUE_HEADS = 4
HEAD_DIM = 128
MLP_RATIO = 4
EPSILON = 1e-6


class RmsNorm(nn.Module):
    """Root-mean-square norm with a weight, computed in float32."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalize the last axis; the result is float32."""
        return F.rms_norm(x.float(), self.weight.shape, self.weight, EPSILON)


class GatedMlp(nn.Module):
    """SiLU-gated two-layer network, four times as wide inside, without biases."""

    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, MLP_RATIO * width, bias=False)
        self.up_proj = nn.Linear(width, MLP_RATIO * width, bias=False)
        self.down_proj = nn.Linear(MLP_RATIO * width, out_width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (texts, tokens, width) to (texts, tokens, out_width)."""
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Attention(nn.Module):
    """Grouped-query attention of latents to a source: no mask, no positions, no biases."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q_proj = nn.Linear(width, N_HEADS * HEAD_DIM, bias=False)
        self.k_proj = nn.Linear(width, N_KEY_VALUE_HEADS * HEAD_DIM, bias=False)
        self.v_proj = nn.Linear(width, N_KEY_VALUE_HEADS * HEAD_DIM, bias=False)
        self.o_proj = nn.Linear(N_HEADS * HEAD_DIM, width, bias=False)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """Attend from x (texts, modules * rank, latents) to source (texts, tokens, latents)."""
        n_texts, n_queries, _ = x.shape
        # Four query heads share keys: they become queries of one head, which saves repeating keys
        # and values four times.
        query = self.q_proj(x).view(n_texts, n_queries, N_HEADS, HEAD_DIM).transpose(1, 2)
        query = query.reshape(n_texts, N_KEY_VALUE_HEADS, -1, HEAD_DIM)
        key, value = (
            project(source).view(n_texts, -1, N_KEY_VALUE_HEADS, HEAD_DIM).transpose(1, 2)
            for project in (self.k_proj, self.v_proj)
        )  # (texts, heads, tokens, HEAD_DIM)
        mixed = F.scaled_dot_product_attention(query, key, value)
        mixed = mixed.reshape(n_texts, N_HEADS, n_queries, HEAD_DIM).transpose(1, 2)
        out: Tensor = self.o_proj(mixed.reshape(n_texts, n_queries, N_HEADS * HEAD_DIM))
        return out


class PerceiverLayer(nn.Module):
    """A layer: latents attend to a text (cross) or to themselves, then an MLP."""

    def __init__(self, width: int, *, cross: bool) -> None:
        super().__init__()
        self.input_latents_layernorm = RmsNorm(width)
        self.input_context_layernorm = RmsNorm(width) if cross else None
        self.self_attn = Attention(width)
        self.post_attention_layernorm = RmsNorm(width)
        self.pre_ff_layernorm = RmsNorm(width)
        self.post_ff_layernorm = RmsNorm(width)
        self.mlp = GatedMlp(width, width)

    def forward(self, x: Tensor, text: Tensor) -> Tensor:
        """Update latents x (texts, modules * rank, latents); self-attention ignores the text."""
        h = self.input_latents_layernorm(x)
        norm = self.input_context_layernorm
        source = h if norm is None else norm(text)
        x = x + self.post_attention_layernorm(self.self_attn(h, source))
        out: Tensor = x + self.post_ff_layernorm(self.mlp(self.pre_ff_layernorm(x)))
        return out


class Resampler(nn.Module):
    """Learned latents, layers that fill them from a text, and a final norm."""

    def __init__(self, n_latents: int, width: int, layers: list[PerceiverLayer]) -> None:
        super().__init__()
        self.latents_q = nn.Parameter(torch.zeros(n_latents, width))
        self.layers = nn.ModuleList(layers)
        self.layernorm = RmsNorm(width)

    def forward(self, text: Tensor) -> Tensor:
        """Read texts (texts, tokens, latents) into latents (texts, modules * rank, latents)."""
        x: Tensor = self.latents_q.expand(len(text), -1, -1)
        for layer in self.layers:
            x = layer(x, text)
        out: Tensor = self.layernorm(x)
        return out


class Perceiver(nn.Module):
    """Projects a text, reads it into latents, and these into the output latents."""

    def __init__(
        self, hidden: int, width: int, n_out: int, *, n_latents: int, layers: list[PerceiverLayer]
    ) -> None:
        super().__init__()
        self.modality_projection = GatedMlp(hidden, width)
        self.encoder = Resampler(n_latents, width, layers)
        self.decoder = Resampler(n_out, width, [PerceiverLayer(width, cross=True)])

    def forward(self, text: Tensor) -> Tensor:
        """Map (texts, tokens, hidden) to float32 latents (texts, modules * rank, latents)."""
        out: Tensor = self.decoder(self.encoder(self.modality_projection(text)))
        return out.float()


def make_layers(
    width: int, *, n_blocks: int, n_self_attention: int, shared: bool
) -> list[PerceiverLayer]:
    """Make the encoder's layers: per block one cross-attention layer, then self-attention layers.

    Shared weights: from the second block on, all cross-attention layers are one layer; all blocks
    have the same self-attention layers.
    """
    layers: list[PerceiverLayer] = []
    later_cross: PerceiverLayer | None = None
    own_self: list[PerceiverLayer] = []
    for block in range(n_blocks):
        if later_cross is None or not shared:
            cross = PerceiverLayer(width, cross=True)
            later_cross = cross if block > 0 else None
        else:
            cross = later_cross
        if not own_self or not shared:
            own_self = [PerceiverLayer(width, cross=False) for _ in range(n_self_attention)]
        layers += [cross, *own_self]
    return layers
