"""Familiarity in training: descriptions, and what is none, are embedded and a measure is fitted.

Tasks and what embeds texts in, a `Familiarity` out; for every kind of network that reads
descriptions.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from d2l.datasets.task_texts import (
    SALADS,
    Contrasts,
    choose_descriptions,
    make_contrasts,
)
from d2l.datasets.tasks import Task, TaskSplit
from d2l.hypernets.familiarity import Familiarity, fit
from d2l.learners.embedding_cache import EmbedAll, load_embeddings

#: The file of a run that keeps them.
EMBEDDINGS = "embeddings.safetensors"


@dataclass(frozen=True)
class EmbeddedContrasts:
    """Embeddings (texts, embedding_size) of training descriptions, and of
    `datasets.task_texts.Contrasts`."""

    training: Tensor
    descriptions: Tensor
    known: dict[str, Tensor]
    new: dict[str, Tensor]


@dataclass(frozen=True)
class Texts:
    """The texts that familiarity is made with: training descriptions, and their contrasts."""

    training: Sequence[str]
    contrasts: Contrasts

    def all(self) -> list[str]:
        """One after the other, as `split` wants their embeddings."""
        return list(itertools.chain.from_iterable(self._parts()))

    def split(self, embeddings: Tensor) -> EmbeddedContrasts:
        """Embeddings (texts, embedding_size) of `all`, by what they are of."""
        training, descriptions, *kinds = torch.split(
            embeddings, [len(part) for part in self._parts()]
        )
        known, new = self.contrasts.known, self.contrasts.new
        return EmbeddedContrasts(
            training,
            descriptions,
            dict(zip(known, kinds[: len(known)], strict=True)),
            dict(zip(new, kinds[len(known) :], strict=True)),
        )

    def _parts(self) -> list[Sequence[str]]:
        known, new = self.contrasts.known.values(), self.contrasts.new.values()
        return [self.training, self.contrasts.descriptions, *known, *new]


def list_texts(tasks: TaskSplit, most: int) -> Texts:
    """The texts that familiarity is made with, of at most so many descriptions of each task."""
    training = list_descriptions([task for task, _ in tasks.training], most)
    return Texts(training, make_contrasts(training, list_descriptions(tasks.held_out, most)))


def embed_contrasts(
    tasks: TaskSplit, *, most: int, folder: Path, embedder: str, embed: EmbedAll
) -> EmbeddedContrasts:
    """Embed what familiarity is made with, or find it in `folder`, which keeps it.

    At most `most` descriptions of each task. `embedder` names what `embed` reads with, and how.
    """
    texts = list_texts(tasks, most)
    return texts.split(load_embeddings(folder / EMBEDDINGS, texts.all(), embedder, embed))


def list_descriptions(tasks: Sequence[Task], most: int) -> list[str]:
    """At most so many descriptions of each task, in order."""
    return [text for task in tasks for text in choose_descriptions(task, most)]


def fit_familiarity(found: EmbeddedContrasts) -> Familiarity:
    """The measure of how alike a text is to the training descriptions."""
    return fit(
        found.training,
        found.descriptions,
        torch.cat(list(found.new.values())),
        known_unlike=[found.known[kind] for kind in found.known if kind not in SALADS],
        salads=torch.cat([found.known[kind] for kind in SALADS]),
    )
