"""Merge the LoRA weights of many chunks into one adapter, and lower an adapter's rank.

Knows nothing of documents or files: LoraWeights in, LoraWeights out. `METHODS` at the foot lists
the ways to merge; `shared` is what a network adds once per adapter, whatever the document.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch

from d2l.adapters.weights import LoraFactors, LoraWeights, pad_factors
from d2l.errors import MergeError, OptionError

Method = Callable[[Sequence[LoraWeights], LoraWeights | None], LoraWeights]


def concat(parts: Sequence[LoraWeights], shared: LoraWeights | None = None) -> LoraWeights:
    """Stack parts along rank; the result's delta is the sum of theirs.

    Rank is the sum of ranks, so long documents give wide adapters; `compress` bounds it.
    """
    parts = [*parts, shared] if shared is not None else list(parts)
    _check_alike(parts)
    first = parts[0]
    # Adapters may differ in scale: fold the ratio into b, so one scale describes the result.
    # Scale multiplies b @ a as is, not over rank (SakanaAI/doc-to-lora, modeling/lora_layer.py).
    scale = next((part.scale for part in parts if part.scale != 0), first.scale)
    folded = [scaled(part, part.scale / scale if scale else 1.0) for part in parts]
    factors = {}
    for name in first.factors:
        a = torch.cat([part.factors[name].a for part in folded], dim=0)  # (rank, d_in)
        b = torch.cat([part.factors[name].b for part in folded], dim=1)  # (d_out, rank)
        factors[name] = LoraFactors(a, b)
    return LoraWeights(first.base, scale, factors)


def average(parts: Sequence[LoraWeights], shared: LoraWeights | None = None) -> LoraWeights:
    """Stack parts so that the result's delta is the mean of theirs; `shared` counts in full.

    As wide as `concat`: a mean of products has the sum of their ranks.
    """
    return concat([scaled(part, 1 / len(parts)) for part in parts], shared)


def scaled(weights: LoraWeights, factor: float) -> LoraWeights:
    """Multiply the delta by a factor, which goes into b; a factor of 1 changes nothing."""
    if not math.isfinite(factor):
        raise OptionError(f"strength is {factor}, expected a finite number")
    if factor == 1:
        return weights
    factors = {name: LoraFactors(f.a, f.b * factor) for name, f in weights.factors.items()}
    return replace(weights, factors=factors)


def compress(weights: LoraWeights, rank: int) -> tuple[LoraWeights, dict[str, float]]:
    """Give the nearest weights of a lower rank, and each module's relative error.

    The error is ‖delta - kept‖ / ‖delta‖ in the Frobenius norm; no other weights of that rank
    have a smaller one. Weights of this rank or less come back unchanged.
    """
    if rank < 1:
        raise OptionError(f"rank is {rank}, expected at least 1")
    if rank >= weights.rank:
        return weights, dict.fromkeys(weights.factors, 0.0)
    factors, errors = {}, {}
    for name, wide in weights.factors.items():
        if not (torch.isfinite(wide.a).all() and torch.isfinite(wide.b).all()):
            raise MergeError(f"{name} has values that are not finite numbers")
        factors[name], errors[name] = _truncate(wide, rank)
    return replace(weights, factors=factors, ranks={}), errors


def _truncate(wide: LoraFactors, rank: int) -> tuple[LoraFactors, float]:
    """Cut one module to a rank by the singular values of b @ a, without forming b @ a."""
    q_a, r_a = torch.linalg.qr(wide.a.float().T)  # (d_in, rank), (rank, rank)
    q_b, r_b = torch.linalg.qr(wide.b.float())  # (d_out, rank), (rank, rank)
    u, values, vt = torch.linalg.svd(r_b @ r_a.T)
    root = values[:rank].sqrt()
    b = q_b @ (u[:, : len(root)] * root)  # (d_out, rank)
    a = (vt[: len(root)] * root[:, None]) @ q_a.T  # (rank, d_in)
    # A singular pair is known up to its sign: make the largest entry of each column of b positive.
    sign = torch.where(b.gather(0, b.abs().argmax(dim=0, keepdim=True)) < 0, -1.0, 1.0)
    # Where a module is too narrow to have that rank, zeros fill it up: ranks are uniform.
    kept = pad_factors(LoraFactors(a * sign.T, b * sign), rank)
    energy = values.double().square()
    total = float(energy.sum())
    error = math.sqrt(float(energy[rank:].sum()) / total) if total > 0 else 0.0
    return LoraFactors(kept.a.to(wide.a.dtype), kept.b.to(wide.b.dtype)), error


def _check_alike(parts: Sequence[LoraWeights]) -> None:
    if not parts:
        raise MergeError("there is nothing to merge", hint="give at least one part")
    first = parts[0]
    hint = "merge only adapters made by the same hypernetwork checkpoint"
    for part in parts:
        if part.base != first.base:
            raise MergeError(
                f"parts are for different base models: {first.base} and {part.base}", hint=hint
            )
    odd = sorted(set().union(*(part.factors.keys() ^ first.factors.keys() for part in parts)))
    if odd:
        raise MergeError(f"parts do not target the same modules, for example {odd[0]}", hint=hint)
    for name, factors in first.factors.items():
        size = (factors.b.shape[0], factors.a.shape[1])
        for part in parts:
            other = (part.factors[name].b.shape[0], part.factors[name].a.shape[1])
            if other != size:
                raise MergeError(
                    f"parts differ in size at {name}: {other} and {size} (d_out, d_in)", hint=hint
                )


METHODS: Mapping[str, Method] = {
    "concat": concat,
    "average": average,
}
