"""Seat network in training: its data as exercises, its loss, its checkpoint."""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from d2l.bases.activations import ActivationEncoder
from d2l.bases.models import load_causal
from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.prompts import read_prompts
from d2l.errors import RecipeError
from d2l.hypernets.formats import native
from d2l.hypernets.network import Network
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import SeatNetwork
from d2l.hypernets.seats.second_moments import write_statistics
from d2l.hypernets.seats.sharing import count_seats, set_density
from d2l_lab.training.learners.document_data import (
    Asked,
    Drawn,
    Exercise,
    Mixture,
    Passage,
    choose_questions,
)
from d2l_lab.training.learners.general_prompts import (
    add_references,
    general_path,
    keep_general,
    make_general,
    sample_prompts,
)
from d2l_lab.training.learners.learner import (
    Figure,
    LossShare,
    Materials,
    Row,
    count_lessons,
    gather_documents,
    list_documents,
)
from d2l_lab.training.learners.recipes import Length, MisfitError, Recipe, Tasks
from d2l_lab.training.learners.seats.lessons import TaskLesson, make_lessons
from d2l_lab.training.learners.seats.loss import (
    Batch,
    ReadChunk,
    SeatedDecoder,
    batch_loss,
    measure_moments,
)
from d2l_lab.training.learners.seats.start import change_config, load_start, read_own_statistics
from d2l_lab.training.learners.tasks import gather_tasks

_QUESTION_TOKENS, _ANSWER_TOKENS = 64, 32
_STATISTICS = "statistics.safetensors"


@dataclass(frozen=True)
class DrawnMemory:
    """Passages that share a memory, the seats of each, and exercises about them; general prompts
    count `general_weight` times. Of a `task`, the passages are its description."""

    passages: tuple[Passage, ...]
    seats: tuple[int, ...]
    exercises: tuple[Exercise, ...]
    general_weight: float = 1.0
    task: bool = False


@dataclass(frozen=True)
class SeatsLearner:
    """Learner: the seat network of a checkpoint on its frozen base."""

    network: SeatNetwork
    config: SeatsConfig
    causal: Any  # the base with its head; general prompts are compared with it
    decoder: SeatedDecoder
    read: ActivationEncoder
    mixture: Mixture
    tokenizer: BaseTokenizer
    statistics: Path  # the file of second moments that seats are made with

    def draw(self, step: int) -> list[DrawnMemory]:
        """Draw the memories of a step, all with the same number of seats."""
        return plan_memories(self.mixture.draw(step), config=self.config, tokenizer=self.tokenizer)

    def describe(self, drawn: Sequence[DrawnMemory]) -> Row:
        """Count the memories or tasks, the most chunks of one, and the seats of each."""
        return {
            "tasks" if drawn[0].task else "memories": len(drawn),
            "chunks": max(len(memory.passages) for memory in drawn),
            "seats": sum(drawn[0].seats),
        }

    def measure(self, drawn: Sequence[DrawnMemory]) -> Iterator[LossShare]:
        """Measure the loss, the mean over all of a step's exercises."""
        exercises = [exercise for memory in drawn for exercise in memory.exercises]
        if not exercises:
            return
        loss = batch_loss(
            self.network,
            self.decoder,
            [self._read_all(memory) for memory in drawn],
            self._refer(drawn),
            general_weight=drawn[0].general_weight,
        )
        figures = [
            Figure("general" if exercise.general else "answers", mean, right)
            for exercise, mean, right in zip(
                exercises, loss.losses.tolist(), loss.right.tolist(), strict=True
            )
        ]
        yield LossShare(loss.total, tuple(figures))

    def draw_texts(self, number: int) -> Iterator[Batch]:
        """Draw batches of no step, and for each memory a text that it does not hold."""
        for step in range(1, number + 1):
            drawn = self.draw(-step)
            texts = [memory.passages[0].token_ids for memory in self.draw(-number - step)]
            end = (self.config.end_token,)
            exercises = [
                [*referred, Exercise((*self.config.after_opening, *texts[index % len(texts)]), end)]
                for index, referred in enumerate(self._refer(drawn))
            ]
            yield [self._read_all(memory) for memory in drawn], exercises

    def _read_all(self, memory: DrawnMemory) -> list[ReadChunk]:
        opening = self.config.read_opening
        return [
            (self.read([*opening, *passage.token_ids]), n_seats)
            for passage, n_seats in zip(memory.passages, memory.seats, strict=True)
        ]

    def _refer(self, memories: Sequence[DrawnMemory]) -> list[list[Exercise]]:
        groups = [memory.exercises for memory in memories]
        return add_references(self.causal, groups, config=self.config)

    def write(self, folder: Path) -> None:
        """Write config.json, statistics.safetensors and model.safetensors into an empty folder."""
        values = json.dumps(asdict(self.config), indent=1) + "\n"
        (folder / native.CONFIG_FILE).write_text(values, "utf-8")
        shutil.copyfile(self.statistics, folder / _STATISTICS)
        tensors = {name: t.detach().cpu().clone() for name, t in self.network.state_dict().items()}
        save_file(tensors, folder / native.WEIGHTS_FILE)


def plan_memories(
    drawn: Sequence[Drawn], *, config: SeatsConfig, tokenizer: BaseTokenizer
) -> list[DrawnMemory]:
    """Give every memory the seats that the longest needs; encode its questions."""
    density = drawn[0].tokens_per_seat
    chosen = set_density(config, density) if density else config
    sizes = [[len(passage.token_ids) for passage in memory.passages] for memory in drawn]
    n_seats = max(count_seats(sum(group), config=chosen) for group in sizes)
    return [
        DrawnMemory(
            memory.passages,
            tuple(share_seats(group, n_seats)),
            tuple(
                make_exercise(asked, config=config, tokenizer=tokenizer)
                if isinstance(asked, Asked)
                else asked
                for asked in memory.asked
            ),
            memory.general_weight,
            memory.task,
        )
        for memory, group in zip(drawn, sizes, strict=True)
    ]


def share_seats(sizes: Sequence[int], n_seats: int) -> list[int]:
    """Share `n_seats` among the passages of a memory by their tokens, at least one each."""
    ends = [0]
    for number, read in enumerate(accumulate(sizes), start=1):
        end = round(read * n_seats / sum(sizes))
        ends.append(min(max(end, ends[-1] + 1), n_seats - (len(sizes) - number)))
    return [stop - start for start, stop in pairwise(ends)]


def make_exercise(asked: Asked, *, config: SeatsConfig, tokenizer: BaseTokenizer) -> Exercise:
    """Put a question into the rest of the template, with its answer; ended if it is complete."""
    question = tokenizer.encode(asked.question)[:_QUESTION_TOKENS]
    answer = tokenizer.encode(asked.answer)[:_ANSWER_TOKENS]
    end = (config.end_token,) if asked.complete else ()
    prompt = (*config.after_opening, *question, *config.before_answer)
    return Exercise(prompt, (*answer, *end), weight=asked.weight)


def check_lengths(config: SeatsConfig, recipe: Recipe) -> None:
    """Refuse lengths that the network cannot read; raises RecipeError."""
    # Every passage has min_chunk_tokens and more, so a memory has as many seats as these need.
    for length in recipe.lengths:
        density = length.tokens_per_seat or config.tokens_per_seat
        most = config.max_seats if config.min_chunk_tokens >= density else config.min_seats
        reads = config.min_chunk_tokens <= length.tokens <= config.chunk_tokens
        if not length.tasks and not reads:  # of tasks, they are those of an example
            raise RecipeError(
                f"tokens of a length is {length.tokens}, but this network reads chunks of "
                f"{config.min_chunk_tokens} to {config.chunk_tokens}"
            )
        if length.chunks > most:
            raise RecipeError(
                f"chunks of a length is {length.chunks}, but there may be only {most} seats, and "
                "each chunk needs one"
            )


def gather_seats(recipe: Recipe, network: Network[SeatsConfig]) -> Materials[SeatsConfig]:
    """Change the configuration by the recipe, and gather the data; raises D2LError."""
    config = change_config(network.config, recipe, network.base.config)
    check_lengths(config, recipe)
    materials = gather_documents(recipe, network, config, minimum=config.min_chunk_tokens)
    if recipe.sources_of(tasks=True):
        return replace(materials, tasks=gather_tasks(recipe))
    refuse_idle(recipe)
    return materials


def refuse_idle(recipe: Recipe) -> None:
    """Refuse keys about tasks without sources of tasks; raises MisfitError."""
    for item in fields(Tasks):
        if getattr(recipe.seats, item.name) != item.default:
            raise MisfitError(
                f"seats: {item.name} is about tasks, and no source holds any",
                "write tasks = true into [[sources]] that hold tasks",
                item.name,
                ("seats", 0),
            )


def count_seats_data(materials: Materials[SeatsConfig]) -> list[Row]:
    """Count the data of each source for each length; raises RecipeError without any question."""
    recipe, lessons = materials.recipe, _make_lessons(materials)
    Mixture(materials.pools, recipe, recipe.seats, tasks=lessons).draw(0)
    rows = list_documents(materials)
    if lessons is not None and materials.tasks is not None:
        by_tokens = ((length.tokens, fitting) for length, fitting in lessons.items())
        sources, n_held_out = recipe.sources_of(tasks=True), len(materials.tasks.held_out)
        rows += count_lessons(by_tokens, sources, n_held_out=n_held_out)
    return rows


def _make_lessons(materials: Materials[SeatsConfig]) -> dict[Length, list[TaskLesson]] | None:
    if materials.tasks is None:
        return None
    return make_lessons(materials.tasks, materials.recipe, materials.config, materials.tokenizer)


def prepare_seats(materials: Materials[SeatsConfig], out: Path, device: str) -> SeatsLearner:
    """Load the base and the network, and make or load the general answers; raises D2LError."""
    recipe, config = materials.recipe, materials.config
    dtype = getattr(torch, recipe.precision)
    causal = load_causal(materials.base, device=device, dtype=dtype)
    seats = load_start(materials.source, config, causal.model, recipe)
    assert seats.network is not None
    assert seats.statistics is not None
    general: list[Exercise] = []
    if recipe.seats.general_share > 0:
        general = _answer_general(materials, causal)
    read = ActivationEncoder(causal.model, config.reading)
    learner = SeatsLearner(
        seats.network,
        config,
        causal,
        SeatedDecoder(causal, seats.statistics, config),
        read,
        Mixture(materials.pools, recipe, recipe.seats, tuple(general), _make_lessons(materials)),
        materials.tokenizer,
        materials.source / _STATISTICS,
    )
    if not recipe.seats.statistics_draws:
        return learner
    path = out / _STATISTICS
    if not path.is_file():
        batches = learner.draw_texts(recipe.seats.statistics_draws)
        write_statistics(path, measure_moments(learner.network, learner.decoder, batches))
    decoder = SeatedDecoder(causal, read_own_statistics(path, config), config)
    return replace(learner, decoder=decoder, statistics=path)


def _answer_general(materials: Materials[SeatsConfig], causal: Any) -> list[Exercise]:
    """Answer the general prompts of all three sources."""
    recipe, config = materials.recipe, materials.config
    base, tokenizer = materials.base.digest(), materials.tokenizer
    asked = choose_questions(materials.pools, recipe.seats.general_questions, seed=recipe.seed)
    given = [*read_prompts(), *asked]

    def make() -> list[Exercise]:
        number, seed = recipe.seats.general_sampled, recipe.seed
        own = sample_prompts(causal, number, tokenizer=tokenizer, config=config, seed=seed)
        return make_general(causal, [*given, *own], tokenizer=tokenizer, config=config)

    sampled = f"{recipe.seats.general_sampled} sampled from {recipe.seed}"
    decisive = [*given, *([sampled] if recipe.seats.general_sampled else [])]
    path = general_path(decisive, base=base, precision=recipe.precision, config=config)
    return keep_general(path, make)
