"""A Text-to-LoRA network in training: descriptions as embeddings, tasks as answers, its checkpoint.

The base answers a task's inputs without any description in its prompt, with the LoRA that the
network writes from one description. The loss is `loss`; the loop is `training.loop`.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2l.bases.embedders import Embedder, load_embedders
from d2l.bases.models import load_causal
from d2l.datasets.task_texts import make_unlike
from d2l.datasets.tasks import TaskSplit
from d2l.hypernets.checkpoints import load_text_to_lora
from d2l.hypernets.fit import OpenNetwork
from d2l.hypernets.formats import native
from d2l.hypernets.text_to_lora.familiarity import (
    FAMILIARITY_FILE,
    Familiarity,
    fit,
    write_familiarity,
)
from d2l.hypernets.text_to_lora.network import TextToLora, TextToLoraConfig, build
from d2l.training.distributed import Team
from d2l.training.learner import Figure, Row, Share
from d2l.training.materials import Materials
from d2l.training.recipes import Recipe
from d2l.training.text_to_lora import loss as text_training
from d2l.training.text_to_lora.data import (
    Courses,
    DrawnTask,
    check_tasks,
    count_tasks,
    gather_tasks,
    group_by_length,
    list_descriptions,
    make_courses,
)
from d2l.training.text_to_lora.embedding_cache import load_embeddings
from d2l.training.text_to_lora.loss import (
    Lesson,
    Standard,
    draw_tensors,
    fold_standard,
    measure_tasks,
    unfold_standard,
)

_EMBEDDINGS = "embeddings.safetensors"
_QUESTIONS = "questions.safetensors"  # where the network reads descriptions as questions


@dataclass(frozen=True)
class Read:
    """What training knows of descriptions: standardized embeddings of the training tasks'
    (descriptions, embedding_size), their statistics, and how alike a new one is."""

    embeddings: Tensor
    standard: Standard
    familiarity: Familiarity | None  # None where no task is held out to calibrate it with


@dataclass(frozen=True)
class TextTrainee:
    """A `Trainee`: a Text-to-LoRA network on its frozen base."""

    network: TextToLora
    causal: Any
    courses: Courses
    read: Read

    def draw(self, step: int) -> list[DrawnTask]:
        """The tasks of one step."""
        return self.courses.draw(step)

    def describe(self, drawn: Sequence[DrawnTask]) -> Row:
        """How many tasks, and how many examples in all."""
        return {"tasks": len(drawn), "examples": sum(len(one.exercises) for one in drawn)}

    def measure(self, mine: Sequence[DrawnTask], drawn: Sequence[DrawnTask]) -> Iterator[Share]:
        """The mean over a step's tasks is the loss; tasks of about the same length are one share,
        asked together."""
        for group in group_by_length(mine):
            loss = measure_tasks(self.network, self.causal, [self._lesson(one) for one in group])
            figures = [
                Figure("answers", *pair)
                for pair in zip(loss.losses.tolist(), loss.right.tolist(), strict=True)
            ]
            yield Share(loss.total / len(drawn), tuple(figures))

    def _lesson(self, one: DrawnTask) -> Lesson:
        """A drawn task with its description's embedding, and noise on it."""
        embedding = self.read.embeddings[one.description]
        deviation = self.courses.recipe.text_to_lora.embedding_noise
        if deviation:
            chance = torch.Generator().manual_seed(one.seed)
            embedding = embedding + deviation * torch.randn(len(embedding), generator=chance)
        return Lesson(embedding.to(_device(self.network)), one.exercises, one.seed)

    def write(self, folder: Path) -> None:
        """Put config.json, model.safetensors and, where there is one, familiarity.safetensors
        into a folder."""
        config = self.network.config
        tensors = {name: t.detach().cpu() for name, t in self.network.state_dict().items()}
        names = [native.CONFIG_FILE, native.WEIGHTS_FILE]
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as temporary:
            made = Path(temporary)
            folded = fold_standard(tensors, self.read.standard)
            native.write_folder(made, config.kind, config.to_json(), folded)
            if self.read.familiarity is not None:
                write_familiarity(made / FAMILIARITY_FILE, self.read.familiarity)
                names.append(FAMILIARITY_FILE)
            for name in names:
                (made / name).replace(folder / name)


def _device(network: TextToLora) -> torch.device:
    return next(network.parameters()).device


def gather_text(
    recipe: Recipe, network: OpenNetwork[TextToLoraConfig]
) -> Materials[TextToLoraConfig]:
    """The tasks of a recipe that a text network can be trained by; raises D2LError."""
    check_tasks(network.config, recipe)
    return Materials(recipe, network, network.config, tasks=gather_tasks(recipe))


def count_text(materials: Materials[TextToLoraConfig]) -> list[Row]:
    """What all sources together give for each length."""
    assert materials.tasks is not None  # `gather_text` read them
    return count_tasks(materials.tasks, materials.recipe, materials.tokenizer)


def prepare_text(found: Materials[TextToLoraConfig], out: Path, team: Team) -> TextTrainee:
    """Embed all descriptions, or find them embedded, and load base and network; raises D2LError."""
    recipe, config, tasks = found.recipe, found.config, found.tasks
    assert tasks is not None  # `gather_text` read them
    courses = make_courses(tasks, recipe, found.tokenizer)
    embedders = cache(partial(_load_embedders, found, team.device))
    with team.main_first():
        read = read_descriptions(tasks, recipe, out, config, embedders)
    causal = load_causal(found.base, device=team.device, dtype=getattr(torch, recipe.precision))
    network = load_start(found.source, config, recipe, read.standard).to(team.device)
    return TextTrainee(team.prepare(network), causal, courses, read)


def read_descriptions(
    tasks: TaskSplit,
    recipe: Recipe,
    folder: Path,
    config: TextToLoraConfig,
    embedders: Callable[[], tuple[Embedder, Embedder]],
) -> Read:
    """Embeddings of training and held-out descriptions, and of what is none, with what follows
    from them; `folder` keeps the embeddings, `embedders` loads what makes them."""
    training = list_descriptions(
        [task for task, _ in tasks.training], recipe.text_to_lora.descriptions
    )
    held_out = list_descriptions(tasks.held_out, recipe.text_to_lora.descriptions)
    texts = [*training, *held_out, *make_unlike(held_out)]
    name = config.embedder or config.base
    embeddings = load_embeddings(folder / _EMBEDDINGS, texts, name, lambda: embedders()[1])
    sizes = [len(training), len(held_out), 2 * len(held_out)]
    known, new, unlike = torch.split(embeddings, sizes)
    familiarity = fit(known, new, unlike) if held_out else None
    if config.embeds_question:
        known = load_embeddings(folder / _QUESTIONS, training, name, lambda: embedders()[0])
    standard = text_training.take_standard(known)
    return Read(standard.apply(known), standard, familiarity)


def load_start(
    source: Path, config: TextToLoraConfig, recipe: Recipe, standard: Standard
) -> TextToLora:
    """The network that training starts from, reading standardized embeddings: a checkpoint's, or
    a new one."""
    if recipe.fresh:
        return build(config, draw_tensors(config, seed=recipe.seed), device="cpu")
    tensors = load_text_to_lora(source, device="cpu").state_dict()
    return build(config, unfold_standard(tensors, standard), device="cpu")


def _load_embedders(found: Materials[TextToLoraConfig], device: str) -> tuple[Embedder, Embedder]:
    config = found.config
    encoder = None if config.embedder is None else found.network.find_other(config.embedder)
    return load_embedders(found.base, encoder, as_questions=config.embeds_question, device=device)
