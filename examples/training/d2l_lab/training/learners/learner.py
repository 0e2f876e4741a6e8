"""Learner: a kind of network in training, as the loop sees it, and the data of a recipe.

The loop knows nothing else of networks, and lists their kinds.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol

from torch import Tensor, nn

from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import BaseTokenizer
from d2l.hypernets.network import Config, Network
from d2l_lab.task_files import TaskSplit
from d2l_lab.training.learners.document_data import Pools
from d2l_lab.training.learners.passage_store import build_pools
from d2l_lab.training.learners.recipes import DataSource, Recipe
from d2l_lab.training.learners.tasks import Description, Example, Lesson

Row = dict[str, Any]


@dataclass(frozen=True)
class Materials(Generic[Config]):
    """Materials of a recipe: its network and data, without any weights.

    `config`: the checkpoint's own, as the recipe changes it.
    """

    recipe: Recipe
    network: Network[Config]
    config: Config
    pools: Pools = field(default_factory=dict)  # passages of documents; none for text networks
    tasks: TaskSplit | None = None  # of text networks, and of seat networks that read descriptions

    @property
    def source(self) -> Path:
        """Path of the checkpoint that training starts from."""
        return self.network.files.path

    @property
    def base(self) -> BaseFiles:
        """Frozen base."""
        return self.network.base

    @property
    def tokenizer(self) -> BaseTokenizer:
        """Tokenizer of the base."""
        return self.network.tokenizer


@dataclass(frozen=True)
class Figure:
    """Figures of one question: mean loss of its answer's tokens, and share of the likeliest."""

    kind: str  # "answers", or "general" for prompts that have nothing to do with a document
    loss: float
    right: float


@dataclass(frozen=True)
class LossShare:
    """Share of some items in a step's loss: `total`, differentiable. The loss is the sum of all
    shares."""

    total: Tensor
    figures: tuple[Figure, ...]


class Learner(Protocol):
    """Network on its frozen base, with its data."""

    @property
    def network(self) -> nn.Module:
        """Network that is trained."""

    def draw(self, step: int) -> Sequence[Any]:
        """Draw the items of a step, the same in every process: seed and step alone decide."""

    def describe(self, drawn: Sequence[Any]) -> Row:
        """Describe a step's items for the log."""

    def measure(self, drawn: Sequence[Any]) -> Iterator[LossShare]:
        """Measure a step's loss, piece by piece: the graph of a piece need not outlive it. Yields
        nothing if nothing is asked."""

    def write(self, folder: Path) -> None:
        """Write the network's checkpoint into an empty folder."""


def gather_documents(
    recipe: Recipe, network: Network[Config], config: Config, *, minimum: int
) -> Materials[Config]:
    """Gather passages of `minimum` tokens and more for a network that reads documents."""
    pools = build_pools(
        recipe.sources_of(tasks=False),
        sorted({length.tokens for length in recipe.lengths_of(tasks=False)}),
        folder=Path(recipe.data),
        tokenizer=network.tokenizer,
        minimum=minimum,
    )
    return Materials(recipe, network, config, pools)


def list_documents(materials: Materials[Config]) -> list[Row]:
    """Count the passages and questions of each source of documents for each length."""
    sources = materials.recipe.sources_of(tasks=False)
    return [
        {
            "source": source.path,
            "tokens": tokens,
            "passages": len(passages),
            "questions": sum(len(passage.questions) for passage in passages),
        }
        for tokens, pool in materials.pools.items()
        for source, (_, passages) in zip(sources, pool, strict=True)
    ]


def count_lessons(
    by_tokens: Iterable[tuple[int, Sequence[Lesson[Description, Example]]]],
    sources: Sequence[DataSource],
    *,
    n_held_out: int,
) -> list[Row]:
    """Count the tasks and examples of all sources together for each length."""
    source = ", ".join(source.path for source in sources)
    return [
        {
            "source": source,
            "tokens": tokens,
            "tasks": len(lessons),
            "examples": sum(len(lesson.examples) for lesson in lessons),
            "held_out": n_held_out,
        }
        for tokens, lessons in by_tokens
    ]
