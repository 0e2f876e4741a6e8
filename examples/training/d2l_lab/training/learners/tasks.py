"""Tasks in training: the split of a recipe's tasks, the texts of each, and the draws from them.

Each kind of network has its own form of a description and of an example.
"""

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Generic, TypeVar

from d2l.datasets import tasks as datasets
from d2l.errors import RecipeError
from d2l_lab.task_files import Task, TaskSplit, read_tasks, split_tasks
from d2l_lab.training.learners.recipes import Length, Recipe, Tasks

Description = TypeVar("Description")
Example = TypeVar("Example")


def gather_tasks(recipe: Recipe, *, only_held_out: bool = False) -> TaskSplit:
    """Read the sources of tasks and split them; raises D2LError. With `only_held_out`, only sources
    whose tasks may be held out are read; the others need not exist."""
    weighted: list[tuple[Task, float]] = []
    only_training: set[str] = set()
    sources = recipe.sources_of(tasks=True)
    wanted: Tasks = recipe.seats
    if not sources:  # of text networks, all sources hold tasks
        sources, wanted = recipe.sources, recipe.text_to_lora
    for source in sources:
        if only_held_out and not source.hold_out:
            continue
        tasks = read_tasks(Path(recipe.data) / source.path)
        random.Random(source.path).shuffle(tasks)
        weighted += [(task, source.weight) for task in tasks[: source.max_documents]]
        only_training.update(task.name for task in tasks if not source.hold_out)
    names = Counter(task.name for task, _ in weighted)
    for task, _ in weighted:
        if names[task.name] > 1:
            raise RecipeError(f"two sources have a task of the name {task.name!r}")
        if not task.descriptions:
            raise RecipeError(f"task {task.name!r} has no description")
    return split_tasks(
        weighted,
        excluded=[name for name in wanted.excluded if name in names or not only_held_out],
        n_held_out=wanted.held_out,
        only_training=only_training,
    )


def choose_descriptions(task: Task, most: int) -> tuple[str, ...]:
    """Choose at most so many descriptions of a task: its definition, and random others."""
    first, others = task.descriptions[:1], task.descriptions[1:]
    if len(task.descriptions) <= most:
        return task.descriptions
    return (*first, *random.Random(task.name).sample(others, most - 1))


def choose_examples(task: Task, most: int) -> tuple[datasets.Example, ...]:
    """Choose at most so many random examples of a task; 0: all."""
    if not most or len(task.examples) <= most:
        return task.examples
    return tuple(random.Random(f"examples: {task.name}").sample(task.examples, most))


@dataclass(frozen=True)
class Lesson(Generic[Description, Example]):
    """Task: its weight in draws, its descriptions, and its examples with their tokens."""

    weight: float
    descriptions: Sequence[Description]
    examples: Sequence[tuple[int, Example]]

    def shorten(self, tokens: int) -> "Lesson[Description, Example]":
        """Leave out examples of more tokens."""
        short = tuple(example for example in self.examples if example[0] <= tokens)
        return replace(self, examples=short)


def draw_lessons(
    lessons: Sequence[Lesson[Description, Example]], length: Length, chance: random.Random
) -> Iterator[tuple[Description, tuple[Example, ...]]]:
    """Draw the tasks of one step, none twice: a description of each, and some of its examples."""
    left = list(lessons)
    for _ in range(min(length.memories, len(left))):
        number = chance.choices(range(len(left)), [lesson.weight for lesson in left])[0]
        lesson = left.pop(number)
        description = chance.choice(lesson.descriptions)
        asked = chance.sample(lesson.examples, min(length.questions, len(lesson.examples)))
        yield description, tuple(example for _, example in asked)
