"""The same adapter at the lowest rank that its modules have room for.

A seat takes a rank of its own, but what a LoRA adds to a module never has more ranks than the
module has outputs: 128 of k_proj and v_proj in Qwen2.5-0.5B, however many seats there are. So an
adapter of seats is written with one rank for each output, and its b is the identity: as many
numbers for 512 seats as for 128, and in bf16 half the rounding error or less, as only a is rounded.

Where modules may differ in rank (`LoraWeights.ranks`), each gets its own.
"""

from dataclasses import replace

import torch
from torch import Tensor

from d2l.adapters.module_names import parse
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.weights import LoraFactors, LoraWeights, pad_factors


def lower_content(content: AdapterContent) -> AdapterContent:
    """An adapter of seats with its weights at their lowest rank, and its provenance with both
    numbers; any other as it is: its ranks are its own chunks'."""
    made, n_seats = content.provenance, content.weights.rank
    weights = content.weights if content.memory is None else lower_rank(content.weights)
    content = replace(content, weights=weights)
    if weights.rank == n_seats or made is None:
        return content
    said = {"format": 2, "rank": weights.rank, "seats": n_seats}
    if made.rank_before_max_rank is not None:  # which bounded the seats already
        said["rank_before_max_rank"] = weights.rank
    return replace(content, provenance=made.model_copy(update=said))


def lower_rank(weights: LoraWeights) -> LoraWeights:
    """The same deltas, but for rounding in fp32, at the rank that `find_lowest` gives, and in each
    module no more of it in use than its own."""
    rank, own = find_lowest(weights), weights.ranks
    if rank == weights.rank and not own:
        return weights
    factors = {
        name: pad_factors(_lower(one, own.get(parse(name).short, rank)), rank)
        for name, one in weights.factors.items()
    }
    return replace(weights, factors=factors)


def find_lowest(weights: LoraWeights) -> int:
    """The highest of modules' own ranks. Without those the lowest rank that no module's delta
    exceeds, where some have more ranks than inputs or outputs: that of these, or what the others
    use, if that is more."""
    if weights.ranks:
        return max(weights.ranks.values())
    rank, factors = weights.rank, list(weights.factors.values())
    sides = [min(one.a.shape[1], one.b.shape[0]) for one in factors]
    if min(sides) >= rank:
        return rank
    used = (len(_used(f)) if side >= rank else side for f, side in zip(factors, sides, strict=True))
    return max(used)


def _used(factors: LoraFactors) -> Tensor:
    """Indices of ranks that add something."""
    return (factors.a.any(dim=1) & factors.b.any(dim=0)).nonzero()[:, 0]


def _lower(factors: LoraFactors, rank: int) -> LoraFactors:
    """Factors of this rank at most, which is a module's outputs or inputs, if not what it uses."""
    used = _used(factors)
    kept = LoraFactors(factors.a[used], factors.b[:, used])
    if kept.rank <= rank:
        return kept
    delta = (kept.b.double() @ kept.a.double()).to(kept.a.dtype)  # (d_out, d_in)
    d_out, d_in = delta.shape
    eye = torch.eye(min(d_out, d_in), dtype=delta.dtype)
    return LoraFactors(delta, eye) if d_out <= d_in else LoraFactors(eye, delta)
