"""What the training loop needs of a kind of network, and what it gets back.

The loop knows nothing else of networks; `kinds` lists them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

Row = dict[str, Any]


@dataclass(frozen=True)
class Figure:
    """How one question went: mean loss of its answer's tokens, share that were the most likely."""

    kind: str  # "answers", or "general" for prompts that have nothing to do with a document
    loss: float
    right: float


@dataclass(frozen=True)
class LossShare:
    """What some items of a step add to its loss: `total`, differentiable; the step's loss is the
    sum over all shares, whoever computes them."""

    total: Tensor
    figures: tuple[Figure, ...]


class Learner(Protocol):
    """A network on its frozen base, with its data."""

    @property
    def network(self) -> nn.Module:
        """What is trained."""

    def draw(self, step: int) -> Sequence[Any]:
        """The items of one step, the same in every process: seed and step decide alone."""

    def describe(self, drawn: Sequence[Any]) -> Row:
        """What the log says of a step's items."""

    def measure(self, mine: Sequence[Any], drawn: Sequence[Any]) -> Iterator[LossShare]:
        """What `mine`, a part of `drawn`, adds to the loss of the step, piece by piece: one piece's
        graph need not outlive it. Nothing where nothing is asked about `mine`."""

    def write(self, folder: Path) -> None:
        """Put the checkpoint that the network is by now into an empty folder."""
