"""A recipe and its network → the data that it trains on, and what the network is to become.

Reads documents and tasks; loads no weights.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic

from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.tasks import TaskSplit
from d2l.hypernets.network import Config, Network
from d2l.training.learners.document_data import Mixture, Pools
from d2l.training.learners.learner import Row
from d2l.training.learners.passage_store import build_pools
from d2l.training.learners.recipes import Recipe


@dataclass(frozen=True)
class Materials(Generic[Config]):
    """What a recipe names, without any weights.

    `config` is the network's as it will be: the checkpoint's own, with what the recipe changes.
    """

    recipe: Recipe
    network: Network[Config]
    config: Config
    pools: Pools = field(default_factory=dict)  # passages of documents; none for text networks
    tasks: TaskSplit | None = None  # of text networks, and of seat networks that read descriptions

    @property
    def source(self) -> Path:
        """The checkpoint that training starts from."""
        return self.network.files.path

    @property
    def base(self) -> BaseFiles:
        """The frozen base."""
        return self.network.base

    @property
    def tokenizer(self) -> BaseTokenizer:
        """The base's tokenizer."""
        return self.network.tokenizer


def gather_documents(
    recipe: Recipe, network: Network[Config], config: Config, *, minimum: int
) -> Materials[Config]:
    """Materials of a network that reads documents: passages of `minimum` tokens and more."""
    pools = build_pools(
        recipe.sources_of(tasks=False),
        sorted({length.tokens for length in recipe.lengths_of(tasks=False)}),
        folder=Path(recipe.data),
        tokenizer=network.tokenizer,
        minimum=minimum,
    )
    return Materials(recipe, network, config, pools)


def count_documents(materials: Materials[Config]) -> list[Row]:
    """What each source gives for each length; raises where there is nothing to ask."""
    recipe = materials.recipe
    Mixture(materials.pools, recipe, getattr(recipe, materials.config.kind)).draw(0)
    return list_documents(materials)


def list_documents(materials: Materials[Config]) -> list[Row]:
    """What each source of documents gives for each length."""
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
