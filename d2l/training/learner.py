"""What the training loop needs of a kind of network, and what it gets back.

The loop knows nothing else of networks; `seats.learner`, `doc_to_lora.learner` and
`text_to_lora.learner` are the kinds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.tasks import TaskSplit
from d2l.hypernets.protocol import HypernetConfig
from d2l.training.document_data import Pools
from d2l.training.recipes import Recipe

Row = dict[str, Any]


@dataclass(frozen=True)
class Materials:
    """What a recipe names, without any weights."""

    recipe: Recipe
    source: Path  # the checkpoint that training starts from
    config: HypernetConfig
    base: BaseFiles
    tokenizer: BaseTokenizer  # of the base
    pools: Pools  # passages of documents; none for text networks
    tasks: TaskSplit | None = None  # what text networks have in their place


@dataclass(frozen=True)
class Figure:
    """How one question went: mean loss of its answer's tokens, share that were the most likely."""

    kind: str  # "answers", or "general" for prompts that have nothing to do with a document
    loss: float
    right: float


@dataclass(frozen=True)
class Share:
    """What some items of a step add to its loss: `total`, differentiable; the step's loss is the
    sum over all shares, whoever computes them."""

    total: Tensor
    figures: tuple[Figure, ...]


class Trainee(Protocol):
    """A network on its frozen base, with its data."""

    @property
    def network(self) -> nn.Module:
        """What is trained."""

    def draw(self, step: int) -> Sequence[Any]:
        """The items of one step, the same in every process: seed and step decide alone."""

    def describe(self, drawn: Sequence[Any]) -> Row:
        """What the log says of a step's items."""

    def measure(self, mine: Sequence[Any], drawn: Sequence[Any]) -> Iterator[Share]:
        """What `mine`, a part of `drawn`, adds to the loss of the step, piece by piece: one piece's
        graph need not outlive it. Nothing where nothing is asked about `mine`."""

    def write(self, folder: Path) -> None:
        """Put the checkpoint that the network is by now into a folder; each file whole or not."""
