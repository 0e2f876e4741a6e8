"""Uniform adapters: the same deltas for engines that fuse projections into one weight.

These engines take one rank and one scale, and of a fused weight all projections or none.
"""

import torch

from d2l.adapters.module_names import parse
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.runtimes.facts import BaseFacts
from d2l.runtimes.rules import PARTNERS


def make_uniform(weights: LoraWeights, base: BaseFacts) -> LoraWeights:
    """Bring deltas to one rank, and add factors of zeros for missing partners of modules."""
    even = weights.even_ranks()
    factors = dict(even.factors)
    for module, own in even.factors.items():
        short = parse(module).short
        for partner in PARTNERS.get(short, ()):
            a = torch.zeros_like(own.a)  # (rank, d_in): partners read the same input
            b = own.b.new_zeros(base.shapes[partner][1], even.rank)  # (d_out, rank)
            factors.setdefault(module.removesuffix(short) + partner, LoraFactors(a, b))
    return LoraWeights(even.base, even.scale, factors)
