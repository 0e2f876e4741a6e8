"""Cards under test, rows of the proof's table, and the distance of two adapters."""

import gc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from d2l import AdaptedModel
from d2l.adapters.weights import LoraWeights
from d2l.answer.options import AskOptions
from d2l.api.compiler import Compiler
from d2l.hypernets.options import CompileOptions

#: Largest distance from the recorded deltas, beside their norm. Measured on CPUs: 7e-6 and 0.054.
BOUNDS = {"fp32": 1e-4, "bf16": 0.1}
LENGTHS = (512, 6_600, 8_192)


@dataclass(frozen=True)
class Row:
    """Row of the table: `passed` is None for what was skipped."""

    step: str
    name: str
    passed: bool | None
    note: str
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Machine:
    """Cards under test, and a folder for files; in a dry run the CPU is taken for a card."""

    cards: tuple[str, ...]
    folder: Path
    is_dry: bool

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of the chunks of the full size."""
        return (40, 60, 80) if self.is_dry else LENGTHS

    def make_compiler(self, files: tuple[Path, Path], **options: Any) -> Compiler:
        """A compiler on the first card, of a base and a network."""
        values = {"device": self.cards[0], "offline": True} | options
        return Compiler(CompileOptions(str(files[1]), str(files[0]), **values))

    def load(self, adapter: Path, base: Path) -> AdaptedModel:
        """An adapter on its base on the first card."""
        return AdaptedModel.load(adapter, AskOptions(str(base), self.cards[0], 8, offline=True))


def multiply(weights: LoraWeights) -> torch.Tensor:
    return torch.cat([(f.b @ f.a).flatten() for f in weights.factors.values()])


def measure_distance(got: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((got - wanted).norm() / wanted.norm())


def free_memory() -> None:
    gc.collect()
    torch.cuda.empty_cache()
