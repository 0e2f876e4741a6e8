"""Familiarity in training: descriptions and their contrasts are embedded, and a measure is fitted.

Tasks and a function that embeds texts in, a `Familiarity` out; for every kind of network that reads
descriptions. The user's cache keeps the embeddings: some thousand take minutes on a CPU.
"""

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from safetensors.torch import save_file
from torch import Tensor

from d2l.datasets.task_texts import SALADS, choose_descriptions, make_contrasts
from d2l.datasets.tasks import Task, TaskSplit
from d2l.files.atomic import replace_file
from d2l.files.cache import cache_dir
from d2l.files.tensors import FILE_ERRORS, find_kept
from d2l.hypernets.familiarity import Familiarity, fit

_KEY, _DIGEST = "embeddings", "texts_sha256"
#: Texts in, (texts, embedding_size) fp32 on the CPU out.
EmbedAll = Callable[[Sequence[str]], Tensor]


@dataclass(frozen=True)
class EmbeddedContrasts:
    """Embeddings (texts, embedding_size) of training descriptions, and of
    `datasets.task_texts.Contrasts`."""

    training: Tensor
    descriptions: Tensor
    known: dict[str, Tensor]
    new: dict[str, Tensor]


def embed_contrasts(
    tasks: TaskSplit, *, most: int, embedder: str, embed: EmbedAll
) -> EmbeddedContrasts:
    """Embed training descriptions and their contrasts, of each task `most` descriptions at most.

    `embedder` names everything that decides the embeddings besides the texts.
    """
    training = list_descriptions([task for task, _ in tasks.training], most)
    contrasts = make_contrasts(training, list_descriptions(tasks.held_out, most))
    known, new = contrasts.known, contrasts.new
    parts = [training, contrasts.descriptions, *known.values(), *new.values()]
    embeddings = load_embeddings(list(itertools.chain.from_iterable(parts)), embedder, embed)
    first, second, *kinds = torch.split(embeddings, [len(part) for part in parts])
    return EmbeddedContrasts(
        first,
        second,
        dict(zip(known, kinds[: len(known)], strict=True)),
        dict(zip(new, kinds[len(known) :], strict=True)),
    )


def load_embeddings(texts: Sequence[str], embedder: str, embed: EmbedAll) -> Tensor:
    """(texts, embedding_size) fp32 on the CPU: from the cache, else computed and kept there if
    the cache can be written."""
    digest = hashlib.sha256("\0".join([embedder, *texts]).encode("utf-8")).hexdigest()
    path = cache_dir() / "descriptions" / f"{digest[:32]}.safetensors"
    kept = find_kept(path)
    if kept is not None and kept[1].get(_DIGEST) == digest and _KEY in kept[0]:
        return kept[0][_KEY]
    embeddings = embed(texts)
    with contextlib.suppress(*FILE_ERRORS):
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda target: save_file({_KEY: embeddings}, target, {_DIGEST: digest}))
    return embeddings


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
