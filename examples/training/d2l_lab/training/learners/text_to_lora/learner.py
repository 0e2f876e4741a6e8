"""Text-to-LoRA network in training: descriptions as embeddings, tasks as answers, its checkpoint.

The base answers a task's inputs without any description in its prompt, with the LoRA that the
network writes from one description. The loss is `loss`; the loop is `training.loop`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2l.bases.models import load_causal
from d2l.files.cache import cache_dir, keep_tensors
from d2l.files.tensors import find_tensors
from d2l.hypernets.formats import native
from d2l.hypernets.network import Network
from d2l.hypernets.networks import load_hypernet
from d2l.hypernets.text_to_lora.embedders import load_embedder
from d2l.hypernets.text_to_lora.network import TextToLora, TextToLoraConfig, build
from d2l_lab.task_files import TaskSplit
from d2l_lab.training.learners.learner import Figure, LossShare, Materials, Row, count_lessons
from d2l_lab.training.learners.recipes import Recipe
from d2l_lab.training.learners.tasks import choose_descriptions, gather_tasks
from d2l_lab.training.learners.text_to_lora.data import (
    DrawnTask,
    TaskLessons,
    check_tasks,
    draw_tasks,
    group_by_length,
    make_lessons,
)
from d2l_lab.training.learners.text_to_lora.loss import (
    Standardization,
    TaskBatch,
    draw_tensors,
    fold_standardization,
    measure_embeddings,
    measure_tasks,
    unfold_standardization,
)

_KEY, _DIGEST = "embeddings", "texts_sha256"


@dataclass(frozen=True)
class TextLearner:
    """Learner: a Text-to-LoRA network on its frozen base."""

    network: TextToLora
    causal: Any
    recipe: Recipe
    lessons: TaskLessons
    embeddings: Tensor  # of training descriptions, standardized (descriptions, embedding_size)
    standardization: Standardization

    def draw(self, step: int) -> list[DrawnTask]:
        """Draw the tasks of a step."""
        return draw_tasks(self.lessons, self.recipe, step)

    def describe(self, drawn: Sequence[DrawnTask]) -> Row:
        """Count the tasks and all their examples."""
        return {"tasks": len(drawn), "examples": sum(len(task.exercises) for task in drawn)}

    def measure(self, drawn: Sequence[DrawnTask]) -> Iterator[LossShare]:
        """Measure shares of the loss, the mean over a step's tasks; tasks of about the same length
        are one share, asked together."""
        for group in group_by_length(drawn):
            batches = [self._batch(task) for task in group]
            total, losses, right = measure_tasks(self.network, self.causal, batches)
            pairs = zip(losses.tolist(), right.tolist(), strict=True)
            yield LossShare(total / len(drawn), tuple(Figure("answers", *pair) for pair in pairs))

    def _batch(self, task: DrawnTask) -> TaskBatch:
        """Add a description's embedding, and noise on it, to a drawn task."""
        embedding = self.embeddings[task.description]
        deviation = self.recipe.text_to_lora.embedding_noise
        if deviation:
            chance = torch.Generator().manual_seed(task.seed)
            embedding = embedding + deviation * torch.randn(len(embedding), generator=chance)
        device = next(self.network.parameters()).device
        return TaskBatch(embedding.to(device), task.exercises, task.seed)

    def write(self, folder: Path) -> None:
        """Write config.json and model.safetensors into an empty folder."""
        config = self.network.config
        tensors = {name: t.detach().cpu() for name, t in self.network.state_dict().items()}
        folded = fold_standardization(tensors, self.standardization)
        native.write_folder(folder, config.kind, config.to_json(), folded)


def gather_text(recipe: Recipe, network: Network[TextToLoraConfig]) -> Materials[TextToLoraConfig]:
    """Gather the tasks of a recipe for a text network; raises D2LError."""
    check_tasks(network.config, recipe)
    return Materials(recipe, network, network.config, tasks=gather_tasks(recipe))


def count_text(materials: Materials[TextToLoraConfig]) -> list[Row]:
    """Count the tasks of all sources together for each length."""
    assert materials.tasks is not None  # `gather_text` read them
    lessons = make_lessons(materials.tasks, materials.recipe, materials.tokenizer)
    n_held_out = len(materials.tasks.held_out)
    return count_lessons(lessons.items(), materials.recipe.sources, n_held_out=n_held_out)


def prepare_text(materials: Materials[TextToLoraConfig], out: Path, device: str) -> TextLearner:
    """Embed all descriptions, or load cached embeddings, and base and network; raises D2LError."""
    del out  # the cache keeps the embeddings
    recipe, config, tasks = materials.recipe, materials.config, materials.tasks
    assert tasks is not None  # `gather_text` read them
    lessons = make_lessons(tasks, recipe, materials.tokenizer)
    embeddings = embed_descriptions(materials, tasks, device)
    standardization = measure_embeddings(embeddings)
    causal = load_causal(materials.base, device=device, dtype=getattr(torch, recipe.precision))
    network = load_start(materials.source, config, recipe, standardization).to(device)
    return TextLearner(
        network,
        causal,
        recipe,
        lessons,
        standardization.apply(embeddings),
        standardization,
    )


def embed_descriptions(
    materials: Materials[TextToLoraConfig], tasks: TaskSplit, device: str
) -> Tensor:
    """Embed training descriptions (descriptions, embedding_size), fp32 on the CPU; the user's cache
    keeps them, since thousands take minutes."""
    recipe, config = materials.recipe, materials.config
    encoder = None if config.embedder is None else materials.network.find_model(config.embedder)
    most = recipe.text_to_lora.descriptions
    texts = [text for task, _ in tasks.training for text in choose_descriptions(task, most)]
    decisive = [
        config.embedder or config.base,
        (encoder or materials.base).digest(),
        config.embeds_question,
        recipe.precision,
        *texts,
    ]
    digest = hashlib.sha256("\0".join(map(str, decisive)).encode()).hexdigest()
    path = cache_dir() / "descriptions" / f"{digest[:32]}.safetensors"
    cached = find_tensors(path)
    if cached is not None and cached[1].get(_DIGEST) == digest and _KEY in cached[0]:
        return cached[0][_KEY]
    dtype = getattr(torch, recipe.precision)
    embedder = load_embedder(
        materials.base, encoder, as_questions=config.embeds_question, device=device, dtype=dtype
    )
    embeddings = torch.stack([embedder.embed(text) for text in texts])
    keep_tensors(path, {_KEY: embeddings}, {_DIGEST: digest})
    return embeddings


def load_start(
    source: Path, config: TextToLoraConfig, recipe: Recipe, standardization: Standardization
) -> TextToLora:
    """Load the network that training starts from, a checkpoint's or a new one, for standardized
    embeddings."""
    if recipe.fresh:
        return build(config, draw_tensors(config, seed=recipe.seed), device="cpu")
    tensors = load_hypernet(source, device="cpu").state_dict()
    return build(config, unfold_standardization(tensors, standardization), device="cpu")
