"""Tasks as a seat network is trained on them: descriptions as passages, examples as exercises.

Tasks and the base's tokenizer in; for a step, descriptions with what is asked out. A description is
cut as `t2l make` cuts it, and an example stands behind the opening as a question of a document
does. As for documents, seed and step alone decide what is drawn.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.task_texts import choose_descriptions, choose_examples
from d2l.datasets.tasks import Example, Task, TaskSplit
from d2l.documents.chunks import pack_sentences
from d2l.errors import RecipeError
from d2l.hypernets.seats.config import SeatsConfig
from d2l.learners.document_data import DrawnTask, Exercise, Passage
from d2l.learners.learner import Row
from d2l.learners.recipes import Length, Recipe


@dataclass(frozen=True)
class Lesson:
    """A task in training: its descriptions, each in the passages that it is read in, and its
    examples, each with its length in tokens."""

    weight: float
    descriptions: tuple[tuple[Passage, ...], ...]
    exercises: tuple[tuple[int, Exercise], ...]

    def fit(self, length: Length) -> "Lesson":
        """What a class of steps may draw of it."""
        return Lesson(
            self.weight,
            tuple(one for one in self.descriptions if len(one) <= length.chunks),
            tuple(one for one in self.exercises if one[0] <= length.tokens),
        )

    @property
    def can_be_drawn(self) -> bool:
        """Whether there is something to read and something to ask."""
        return bool(self.descriptions and self.exercises)


@dataclass(frozen=True)
class Lessons:
    """The tasks of a run, by the class of steps that may draw them."""

    by_length: dict[Length, tuple[Lesson, ...]]

    def draw(self, length: Length, chance: random.Random) -> Iterator[DrawnTask]:
        """Tasks of one step, none twice; fewer where fewer have examples so short."""
        left = list(self.by_length[length])
        for _ in range(min(length.memories, len(left))):
            number = chance.choices(range(len(left)), [one.weight for one in left])[0]
            lesson = left.pop(number)
            description = chance.choice(lesson.descriptions)
            n_asked = min(length.questions, len(lesson.exercises))
            asked = chance.sample(lesson.exercises, n_asked)
            yield DrawnTask(description, tuple(exercise for _, exercise in asked))


def make_lessons(
    tasks: TaskSplit, recipe: Recipe, config: SeatsConfig, tokenizer: BaseTokenizer
) -> Lessons:
    """The training tasks as passages and exercises; raises RecipeError for a class of steps that
    could draw none."""
    made = [
        Lesson(
            weight,
            tuple(_read(task, config, tokenizer, recipe.seats.descriptions)),
            tuple(
                (len(one.prompt) + len(one.answer), one)
                for one in (
                    make_example(example, config, tokenizer)
                    for example in choose_examples(task, recipe.seats.examples)
                )
            ),
        )
        for task, weight in tasks.training
    ]
    by_length = {}
    for length in recipe.lengths_of(tasks=True):
        fitting = (lesson.fit(length) for lesson in made)
        by_length[length] = tuple(lesson for lesson in fitting if lesson.can_be_drawn)
        if not by_length[length]:
            raise RecipeError(
                f"no task of the sources has an example of at most {length.tokens} tokens and a "
                f"description of at most {length.chunks} chunks"
            )
    return Lessons(by_length)


def _read(
    task: Task, config: SeatsConfig, tokenizer: BaseTokenizer, most: int
) -> Iterator[tuple[Passage, ...]]:
    """Descriptions in passages; those without a word that the tokenizer knows are left out."""
    for text in choose_descriptions(task, most):
        pieces = pack_sentences(
            text, tokenizer=tokenizer, limit=config.chunk_tokens, minimum=config.min_chunk_tokens
        )
        read = [Passage(one.text, one.token_ids, (), task.name) for one in pieces if one.token_ids]
        if read:
            yield tuple(read)


def make_example(example: Example, config: SeatsConfig, tokenizer: BaseTokenizer) -> Exercise:
    """An example behind the opening: its input alone as the question, and its first output."""
    return Exercise(
        (*config.after_opening, *tokenizer.encode(example.input), *config.before_answer),
        (*tokenizer.encode(example.outputs[0]), config.end_token),
    )


def count_lessons(tasks: TaskSplit, recipe: Recipe, lessons: Lessons) -> Iterator[Row]:
    """What all sources of tasks together give for each class of steps."""
    source = ", ".join(source.path for source in recipe.sources_of(tasks=True))
    for length, fitting in lessons.by_length.items():
        yield {
            "source": source,
            "tokens": length.tokens,
            "tasks": len(fitting),
            "examples": sum(len(lesson.exercises) for lesson in fitting),
            "held_out": len(tasks.held_out),
        }
