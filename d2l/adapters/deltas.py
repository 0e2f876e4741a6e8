"""Sums and slices of adapters' deltas, from their factors alone.

Weights in, weights out. Modules and ranks may differ.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from d2l.adapters import module_names
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.errors import MergeError


def combine(parts: Sequence[LoraWeights], shares: Sequence[float]) -> LoraWeights:
    """Make weights whose delta is Σ share · delta over the parts, exactly; scale 1.

    A part has the same rank indices in all modules: the rank is the sum of the parts' ranks, and
    zeros stand in modules that a part does not change. Raises MergeError for parts of different
    bases, or of different sizes.
    """
    if not parts or len(parts) != len(shares):
        raise MergeError(f"{len(parts)} adapters and {len(shares)} weights: one each is needed")
    if any(not math.isfinite(share) for share in shares):
        raise MergeError("a weight is not a finite number")
    bases = sorted({part.base for part in parts})
    if len(bases) > 1:
        raise MergeError(
            f"the adapters are for different bases: {bases[0]} and {bases[1]}",
            hint="a delta fits only the base that it was made for",
        )
    factors = {}
    for name in sorted(set().union(*(part.factors for part in parts))):
        if not module_names.parse(name).in_decoder:
            raise MergeError(
                f"{name} lies outside the decoder's layers, which cannot be merged",
                hint="merge it into its base: d2l export --to merged",
            )
        present = [part.factors[name] for part in parts if name in part.factors]
        sizes = {(f.b.shape[0], f.a.shape[1]) for f in present}
        if len(sizes) > 1:
            raise MergeError(f"{name} has different sizes (d_out, d_in): {sorted(sizes)}")
        d_out, d_in = sizes.pop()
        a, b = [], []
        for part, share in zip(parts, shares, strict=True):
            own = part.factors.get(name)
            a.append(torch.zeros(part.rank, d_in) if own is None else own.a)
            # In float64, so that a share is rounded once.
            scaled = None if own is None else (own.b.double() * (part.scale * share)).float()
            b.append(torch.zeros(d_out, part.rank) if scaled is None else scaled)
        factors[name] = LoraFactors(torch.cat(a, dim=0), torch.cat(b, dim=1))
    return fill_gaps(LoraWeights(bases[0], 1.0, factors))


def fill_gaps(weights: LoraWeights) -> LoraWeights:
    """Add zeros for every module in every layer that any module is adapted in.

    A PEFT config names modules and layers, but no pairs of them: loaders that miss a pair warn, or
    fill it with random numbers.
    """
    inside = [name for name in weights.factors if module_names.parse(name).in_decoder]
    examples = {module_names.parse(name).path: name for name in inside}
    factors = dict(weights.factors)
    for layer in module_names.list_layers(inside):
        for path, example in examples.items():
            name = module_names.join(layer, path)
            if name not in factors:
                like = weights.factors[example]
                factors[name] = LoraFactors(torch.zeros_like(like.a), torch.zeros_like(like.b))
    return replace(weights, factors=factors)


def keep_ranks(weights: LoraWeights, ranks: Tensor) -> LoraWeights:
    """Leave out all but some ranks (indices, in order), with their shares in the delta."""
    if not len(ranks):
        raise MergeError("nothing of the adapter would be left", hint="drop less")
    factors = {
        name: LoraFactors(f.a[ranks].contiguous(), f.b[:, ranks].contiguous())
        for name, f in weights.factors.items()
    }
    return replace(weights, factors=factors)
