"""Familiarity in training: descriptions and their contrasts are embedded, and a measure is fitted.

Tasks and a function that embeds texts in, a `Familiarity` out; for every kind of network that reads
descriptions. The user's cache keeps the embeddings: thousands take minutes on a CPU.
"""

import hashlib
import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from d2l.datasets.task_texts import SALADS, choose_descriptions, make_contrasts
from d2l.datasets.tasks import Task, TaskSplit
from d2l.files.cache import cache_dir, keep_tensors
from d2l.files.tensors import find_tensors
from d2l.hypernets.familiarity import Familiarity, fit

_KEY, _DIGEST = "embeddings", "texts_sha256"
#: Texts in, (texts, embedding_size) fp32 on the CPU out.
EmbedAll = Callable[[Sequence[str]], Tensor]


def fit_familiarity(
    tasks: TaskSplit, *, most: int, embedder: str, embed: EmbedAll
) -> tuple[Tensor, Familiarity | None]:
    """Embed training descriptions, at most `most` of each task, and fit the measure.

    Returns their embeddings (texts, embedding_size), and the measure, None if no task is held out
    to calibrate it. `embedder` names all that embeddings depend on besides the texts.
    """
    training = list_descriptions([task for task, _ in tasks.training], most)
    contrasts = make_contrasts(training, list_descriptions(tasks.held_out, most))
    known, new = contrasts.known, contrasts.new
    parts = [training, contrasts.descriptions, *known.values(), *new.values()]
    embeddings = load_embeddings(list(itertools.chain.from_iterable(parts)), embedder, embed)
    own, held_out, *kinds = torch.split(embeddings, [len(part) for part in parts])
    if not tasks.held_out:
        return own, None
    unlike = dict(zip(known, kinds, strict=False))
    familiarity = fit(
        own,
        held_out,
        torch.cat(kinds[len(known) :]),
        known_unlike=[unlike[kind] for kind in known if kind not in SALADS],
        salads=torch.cat([unlike[kind] for kind in SALADS]),
    )
    return own, familiarity


def load_embeddings(texts: Sequence[str], embedder: str, embed: EmbedAll) -> Tensor:
    """Load embeddings (texts, embedding_size), fp32 on the CPU; compute and cache new ones."""
    digest = hashlib.sha256("\0".join([embedder, *texts]).encode("utf-8")).hexdigest()
    path = cache_dir() / "descriptions" / f"{digest[:32]}.safetensors"
    cached = find_tensors(path)
    if cached is not None and cached[1].get(_DIGEST) == digest and _KEY in cached[0]:
        return cached[0][_KEY]
    embeddings = embed(texts)
    keep_tensors(path, {_KEY: embeddings}, {_DIGEST: digest})
    return embeddings


def list_descriptions(tasks: Sequence[Task], most: int) -> list[str]:
    """List at most `most` descriptions of each task, in order."""
    return [text for task in tasks for text in choose_descriptions(task, most)]
