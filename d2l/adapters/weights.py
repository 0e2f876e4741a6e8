"""LoRA weights and seat memories as values, which are checked when they are made."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from d2l.adapters.module_names import parse
from d2l.errors import ShapeError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class LoraFactors:
    """Low-rank factors of a module, in PEFT's orientation: delta = scale * b @ a."""

    a: "Tensor"  # (rank, d_in)
    b: "Tensor"  # (d_out, rank)

    def __post_init__(self) -> None:
        if self.a.ndim != 2 or self.b.ndim != 2 or self.a.shape[0] != self.b.shape[1]:
            raise ShapeError(
                f"LoRA factors do not fit: a {tuple(self.a.shape)}, b {tuple(self.b.shape)}, "
                "expected (rank, d_in) and (d_out, rank)"
            )

    @property
    def rank(self) -> int:
        """Inner dimension shared by a and b."""
        return self.a.shape[0]

    def to(self, device: str) -> "LoraFactors":
        """Move the factors to a device."""
        return LoraFactors(self.a.to(device), self.b.to(device))


@dataclass(frozen=True)
class LoraWeights:
    """Factors of every targeted module, for one base model, at one uniform rank.

    `ranks` are the modules' own ranks, by short name ("k_proj"), if these differ: files hold no
    more, and the factors beyond are zero at the lowest rank (`lowest_rank`).
    """

    base: str  # model id these weights fit
    scale: float  # delta = scale * b @ a; "alpha" exists only in peft_folder.py
    #: "model.layers.3.mlp.down_proj" -> factors
    factors: Mapping[str, LoraFactors] = field(repr=False)
    ranks: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.factors:
            raise ShapeError("LoRA weights without any module")
        ranks = {factors.rank for factors in self.factors.values()}
        if len(ranks) != 1:
            raise ShapeError(f"LoRA weights of different ranks: {sorted(ranks)}")
        if not math.isfinite(self.scale):
            raise ShapeError(f"LoRA scale is not a finite number: {self.scale}")
        odd = {name: rank for name, rank in self.ranks.items() if not 0 < rank <= self.rank}
        if odd:
            raise ShapeError(f"modules of other ranks than 1 to {self.rank}: {odd}")

    @property
    def rank(self) -> int:
        """Rank of every module."""
        return next(iter(self.factors.values())).rank

    def trim(self, module: str) -> LoraFactors:
        """Cut a module's factors to its own rank; raises ShapeError if the rest is not zero."""
        factors = self.factors[module]
        rank = self.ranks.get(parse(module).short, self.rank)
        if rank == self.rank:
            return factors
        if bool((factors.a[rank:].any(dim=1) & factors.b[:, rank:].any(dim=0)).any()):
            raise ShapeError(f"{module}: more than rank {rank} is in use")
        return LoraFactors(factors.a[:rank], factors.b[:, :rank])

    def contiguous(self) -> "LoraWeights":
        """The same values, one after the other in memory."""
        pairs = self.factors.items()
        factors = {name: LoraFactors(f.a.contiguous(), f.b.contiguous()) for name, f in pairs}
        return LoraWeights(self.base, self.scale, factors, self.ranks)

    def even_ranks(self) -> "LoraWeights":
        """Give all modules the highest of their own ranks, filled up with zeros; deltas stay."""
        trimmed = {module: self.trim(module) for module in sorted(self.factors)}
        rank = max(factors.rank for factors in trimmed.values())
        filled = {module: pad_factors(factors, rank) for module, factors in trimmed.items()}
        return LoraWeights(self.base, self.scale, filled)


@dataclass(frozen=True)
class Memory:
    """Keys and values that the seat network writes for a chunk or a document.

    `keys` and `values`: tensors, or numpy's arrays, (layers, seats, kv_heads * head_dim); keys
    before rotary embedding.
    `claims_seats` is false for a chunk whose share of the seats rounds to 0: it is averaged into
    the seat before it.
    """

    keys: Any
    values: Any
    claims_seats: bool = True

    def __post_init__(self) -> None:
        if self.keys.ndim != 3 or self.keys.shape != self.values.shape:
            raise ShapeError(
                f"memory does not fit: keys {tuple(self.keys.shape)}, "
                f"values {tuple(self.values.shape)}, expected (layers, seats, kv_heads * head_dim)"
            )

    @property
    def n_seats(self) -> int:
        """Number of seats that this memory fills."""
        return int(self.keys.shape[1])

    def contiguous(self) -> "Memory":
        """The same values, one after the other in memory."""
        return Memory(self.keys.contiguous(), self.values.contiguous(), self.claims_seats)

    def first(self, n_seats: int | None) -> "Memory":
        """The memory of the first seats; of all but the last -n if `n_seats` is below 0."""
        return Memory(self.keys[:, :n_seats], self.values[:, :n_seats], self.claims_seats)

    def top(self, n_layers: int) -> "Memory":
        """The memory of the last `n_layers` layers."""
        if n_layers == len(self.keys):
            return self
        return Memory(self.keys[-n_layers:], self.values[-n_layers:], self.claims_seats)


def pad_factors(factors: LoraFactors, rank: int) -> LoraFactors:
    """Raise the rank without changing the delta: add rows of zeros to a, and columns to b."""
    import torch

    missing = rank - factors.rank
    if missing < 0:
        raise ShapeError(f"factors of rank {factors.rank} cannot be padded to rank {rank}")
    if not missing:
        return LoraFactors(factors.a.contiguous(), factors.b.contiguous())
    a, b = factors.a, factors.b
    return LoraFactors(
        torch.cat([a, a.new_zeros(missing, a.shape[1])], dim=0),  # (rank, d_in)
        torch.cat([b, b.new_zeros(b.shape[0], missing)], dim=1),  # (d_out, rank)
    )
