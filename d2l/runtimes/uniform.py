"""LoRA weights → the same deltas as engines want them that fuse projections into one weight.

They take one rank and one scale, and of a fused weight they take all parts or none.
"""

import torch

from d2l.adapters.module_names import parse
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.runtimes.facts import BaseFacts

#: What SGLang takes for granted beside a module of the same layer (sglang 0.5.23, srt/lora/lora.py:
#: LoRAAdapter.normalize_qkv_proj and normalize_gate_up_proj).
PARTNERS = {
    "q_proj": ("v_proj",),
    "k_proj": ("q_proj", "v_proj"),
    "v_proj": ("q_proj",),
    "up_proj": ("gate_proj",),
}


def make_uniform(weights: LoraWeights, base: BaseFacts) -> LoraWeights:
    """The same deltas at one rank, with factors of zeros where a module lacks a partner."""
    even = weights.even_ranks()
    factors = dict(even.factors)
    for module, own in even.factors.items():
        short = parse(module).short
        for partner in PARTNERS.get(short, ()):
            a = torch.zeros_like(own.a)  # (rank, d_in): partners read the same input
            b = own.b.new_zeros(base.shapes[partner][1], even.rank)  # (d_out, rank)
            factors.setdefault(module.removesuffix(short) + partner, LoraFactors(a, b))
    return LoraWeights(even.base, even.scale, factors)
