"""Tasks in training: their descriptions and examples, and the draws from them.

A description is what a network reads of it, an example is token ids: each kind of network has its
own form of both.
"""

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from d2l.training.learners.learner import Row
from d2l.training.learners.recipes import DataSource, Length

Description = TypeVar("Description")
Example = TypeVar("Example")


@dataclass(frozen=True)
class Lesson(Generic[Description, Example]):
    """A task: how often it is drawn, its descriptions, and its examples, each with its length in
    tokens."""

    weight: float
    descriptions: Sequence[Description]
    examples: Sequence[tuple[int, Example]]

    def shorten(self, tokens: int) -> "Lesson[Description, Example]":
        """Leave out examples of more tokens."""
        return replace(self, examples=tuple(one for one in self.examples if one[0] <= tokens))


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


def count_lessons(
    by_tokens: Iterable[tuple[int, Sequence[Lesson[Description, Example]]]],
    sources: Sequence[DataSource],
    *,
    n_held_out: int,
) -> list[Row]:
    """Count the tasks and examples that all sources together give for each length."""
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
