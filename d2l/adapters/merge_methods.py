"""Merge the LoRA weights of many chunks into one adapter, and lower an adapter's rank.

LoraWeights in, LoraWeights out. `METHODS` at the foot lists the ways to merge; `shared` is the LoRA
that a network adds to every adapter once.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Generic, TypeVar

import torch

from d2l.adapters.weights import LoraFactors, LoraWeights, pad_factors
from d2l.errors import MergeError, OptionError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Counted(Generic[Item]):
    """An iterator with a known length."""

    items: Iterator[Item]
    n: int

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[Item]:
        return self.items


Parts = Sequence[LoraWeights] | Counted[LoraWeights]
Method = Callable[[Parts, LoraWeights | None], LoraWeights]


def concat(parts: Parts, shared: LoraWeights | None = None) -> LoraWeights:
    """Stack parts along rank; the result's delta is the sum of the parts' deltas.

    The rank is the sum of ranks, so long documents give wide adapters; `compress` bounds it. An
    iterator's first part has the highest rank; its parts are not kept in memory.
    """
    first: LoraWeights | None = None
    whole, start, scale = dict[str, LoraFactors](), 0, 0.0
    for part in chain(parts, [] if shared is None else [shared]):
        if not isinstance(part, LoraWeights):
            raise MergeError("LoRA weights are merged along rank, not seat memories")
        if first is None:
            ranks = len(parts) * part.rank
            if isinstance(parts, Sequence):
                ranks = sum(weights.rank for weights in parts)
            ranks += 0 if shared is None else shared.rank
            whole = {name: _reserve(factors, ranks) for name, factors in part.factors.items()}
            first = replace(part, factors=whole, ranks={})
        _check_alike(first, part)
        # Adapters may differ in scale: fold the ratio into b, so one scale describes the result. It
        # multiplies b @ a as is, not over rank (SakanaAI/doc-to-lora, modeling/lora_layer.py).
        scale = scale or part.scale
        stop = start + part.rank
        for name, f in part.factors.items():
            # Unlike a copy, `mul` refuses factors on another device.
            torch.mul(f.b, part.scale / scale if scale else 0.0, out=whole[name].b[:, start:stop])
            whole[name].a[start:stop] = f.a
        start = stop
    if first is None:
        raise MergeError("there is nothing to merge", hint="give at least one part")
    whole = {name: LoraFactors(f.a[:start], f.b[:, :start]) for name, f in whole.items()}
    return replace(first, scale=scale, factors=whole)


def average(parts: Parts, shared: LoraWeights | None = None) -> LoraWeights:
    """Stack parts so that the result's delta is the mean of theirs; `shared` counts in full.

    The rank is that of `concat`: a mean of products has the sum of their ranks.
    """
    return concat(scaled_parts(parts, 1 / max(len(parts), 1)), shared)


def scaled_parts(parts: Sequence[Any] | Counted[Any], factor: float) -> Parts:
    """Multiply the parts' deltas by a factor; an iterator stays an iterator."""
    if isinstance(parts, Sequence):
        return [scaled(part, factor) for part in parts]
    return Counted((scaled(part, factor) for part in parts), len(parts))


def scaled(weights: LoraWeights, factor: float) -> LoraWeights:
    """Multiply the delta by a factor, which is folded into b."""
    if not math.isfinite(factor):
        raise OptionError(f"strength is {factor}, expected a finite number")
    if factor == 1:
        return weights
    factors = {name: LoraFactors(f.a, f.b * factor) for name, f in weights.factors.items()}
    return replace(weights, factors=factors)


def compress(
    weights: LoraWeights, rank: int, *, device: str = "cpu"
) -> tuple[LoraWeights, dict[str, float]]:
    """Compute the nearest weights of a lower rank, and each module's relative error.

    The error is ‖delta - nearest‖ / ‖delta‖ in the Frobenius norm, the smallest for that rank.
    Weights of this rank or less are returned unchanged. The `device` holds one module at a time;
    results are on the CPU.
    """
    if rank < 1:
        raise OptionError(f"rank is {rank}, expected at least 1")
    if rank >= weights.rank:
        return weights, dict.fromkeys(weights.factors, 0.0)
    factors, errors = {}, {}
    for name, wide in weights.factors.items():
        if not bool(wide.a.isfinite().all() and wide.b.isfinite().all()):
            raise MergeError(f"{name} has values that are not finite numbers")
        nearest, errors[name] = _truncate(wide.to(device), rank)
        factors[name] = nearest.to("cpu")
    return replace(weights, factors=factors, ranks={}), errors


def _truncate(wide: LoraFactors, rank: int) -> tuple[LoraFactors, float]:
    """Cut one module to a rank by the singular values of b @ a, without forming b @ a."""
    q_a, r_a = torch.linalg.qr(wide.a.float().T)  # (d_in, rank), (rank, rank)
    q_b, r_b = torch.linalg.qr(wide.b.float())  # (d_out, rank), (rank, rank)
    u, values, vt = torch.linalg.svd(r_b @ r_a.T)
    root = values[:rank].sqrt()
    b = q_b @ (u[:, : len(root)] * root)  # (d_out, rank)
    a = (vt[: len(root)] * root[:, None]) @ q_a.T  # (rank, d_in)
    # The sign of a singular pair is free: make the largest entry of each column of b positive.
    sign = torch.where(b.gather(0, b.abs().argmax(dim=0, keepdim=True)) < 0, -1.0, 1.0)
    # Zeros fill up the rank of narrow modules: all modules have the same rank.
    nearest = pad_factors(LoraFactors(a * sign.T, b * sign), rank)
    energy = values.double().square()
    total = float(energy.sum())
    error = math.sqrt(float(energy[rank:].sum()) / total) if total > 0 else 0.0
    return LoraFactors(nearest.a.to(wide.a.dtype), nearest.b.to(wide.b.dtype)), error


def _reserve(factors: LoraFactors, rank: int) -> LoraFactors:
    """Allocate factors of another rank."""
    a, b = factors.a, factors.b
    return LoraFactors(a.new_empty(rank, a.shape[1]), b.new_empty(b.shape[0], rank))


def _check_alike(first: LoraWeights, part: LoraWeights) -> None:
    hint = "merge only adapters made by the same hypernetwork checkpoint"
    if part.base != first.base:
        raise MergeError(
            f"parts are for different base models: {first.base} and {part.base}", hint=hint
        )
    odd = sorted(part.factors.keys() ^ first.factors.keys())
    if odd:
        raise MergeError(f"parts do not target the same modules, for example {odd[0]}", hint=hint)
    for name, factors in first.factors.items():
        size = (factors.b.shape[0], factors.a.shape[1])
        other = (part.factors[name].b.shape[0], part.factors[name].a.shape[1])
        if other != size:
            raise MergeError(
                f"parts differ in size at {name}: {other} and {size} (d_out, d_in)", hint=hint
            )


METHODS: Mapping[str, Method] = {"concat": concat, "average": average}
