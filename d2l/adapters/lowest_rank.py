"""Lower the rank of an adapter of seats to the lowest that represents its deltas.

A seat takes a rank of its own, but the rank of a module's delta is at most the number of its
outputs: 128 for k_proj and v_proj in Qwen2.5-0.5B, however many seats there are. So an adapter of
seats is written with one rank for each output, and its b is the identity: as many numbers for 512
seats as for 128, and in bf16 half the rounding error or less, as only a is rounded.

If modules may differ in rank (`LoraWeights.ranks`), each gets its own.
"""

from dataclasses import replace

import torch
from torch import Tensor

from d2l.adapters.module_names import parse
from d2l.adapters.peft_folder import AdapterContent
from d2l.adapters.weights import LoraFactors, LoraWeights, pad_factors


def lower_content(content: AdapterContent) -> AdapterContent:
    """Lower the weights of an adapter of seats to their lowest rank, and note both numbers in its
    provenance; other adapters stay the same: their ranks belong to chunks."""
    provenance, n_seats = content.provenance, content.weights.rank
    weights = content.weights if content.memory is None else lower_rank(content.weights)
    content = replace(content, weights=weights)
    if weights.rank == n_seats or provenance is None:
        return content
    update = {"rank": weights.rank, "seats": n_seats}
    if provenance.rank_before_max_rank is not None:  # which bounded the seats already
        update["rank_before_max_rank"] = weights.rank
    return replace(content, provenance=provenance.model_copy(update=update))


def lower_rank(weights: LoraWeights) -> LoraWeights:
    """Lower the rank to that of `find_lowest`, and each module's used ranks to its own; deltas
    change only by rounding in fp32."""
    rank, own = find_lowest(weights), weights.ranks
    if rank == weights.rank and not own:
        return weights
    factors = {
        name: pad_factors(_lower(factors, own.get(parse(name).short, rank)), rank)
        for name, factors in weights.factors.items()
    }
    return replace(weights, factors=factors)


def find_lowest(weights: LoraWeights) -> int:
    """Find the highest of modules' own ranks, or, without these, the lowest rank that represents
    all deltas: the most inputs or outputs of modules that have fewer of these than ranks, or the
    ranks in use of other modules, if these are more."""
    if weights.ranks:
        return max(weights.ranks.values())
    rank, factors = weights.rank, list(weights.factors.values())
    sides = [min(f.a.shape[1], f.b.shape[0]) for f in factors]
    if min(sides) >= rank:
        return rank
    used = (len(_used(f)) if side >= rank else side for f, side in zip(factors, sides, strict=True))
    return max(used)


def _used(factors: LoraFactors) -> Tensor:
    """Indices of ranks that are not zero."""
    return (factors.a.any(dim=1) & factors.b.any(dim=0)).nonzero()[:, 0]


def _lower(factors: LoraFactors, rank: int) -> LoraFactors:
    """Lower factors to their used ranks, or, if these exceed `rank`, to the module's outputs or
    inputs."""
    indices = _used(factors)
    used = LoraFactors(factors.a[indices], factors.b[:, indices])
    if used.rank <= rank:
        return used
    delta = (used.b.double() @ used.a.double()).to(used.a.dtype)  # (d_out, d_in)
    d_out, d_in = delta.shape
    eye = torch.eye(min(d_out, d_in), dtype=delta.dtype)
    return LoraFactors(delta, eye) if d_out <= d_in else LoraFactors(eye, delta)
