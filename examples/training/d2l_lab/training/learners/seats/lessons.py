"""Lessons of a seat network: descriptions of tasks as passages, examples as exercises.

Tasks and the base's tokenizer in, lessons out. A description is cut as `t2l make` cuts it, and an
example follows the opening, as a question about a document does.
"""

from collections.abc import Iterator
from dataclasses import replace

from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.tasks import Example
from d2l.documents.chunks import pack_sentences
from d2l.errors import RecipeError
from d2l.hypernets.seats.config import SeatsConfig
from d2l_lab.task_files import Task, TaskSplit
from d2l_lab.training.learners.document_data import Exercise, Passage
from d2l_lab.training.learners.recipes import Length, Recipe
from d2l_lab.training.learners.tasks import Lesson, choose_descriptions, choose_examples

#: Descriptions are passages; examples are exercises behind the opening.
TaskLesson = Lesson[tuple[Passage, ...], Exercise]


def make_lessons(
    tasks: TaskSplit, recipe: Recipe, config: SeatsConfig, tokenizer: BaseTokenizer
) -> dict[Length, list[TaskLesson]]:
    """Make the training tasks, by the class of steps that may draw them; raises RecipeError for a
    class without any."""
    made = []
    for task, weight in tasks.training:
        read = tuple(_read(task, config, tokenizer, recipe.seats.descriptions))
        chosen = choose_examples(task, recipe.seats.examples)
        exercises = [make_example(example, config, tokenizer) for example in chosen]
        sized = [(len(e.prompt) + len(e.answer), e) for e in exercises]
        made.append(Lesson(weight, read, sized))
    by_length = {}
    for length in recipe.lengths_of(tasks=True):
        lessons = []
        for lesson in made:
            short = tuple(d for d in lesson.descriptions if len(d) <= length.chunks)
            lessons.append(replace(lesson.shorten(length.tokens), descriptions=short))
        by_length[length] = [own for own in lessons if own.descriptions and own.examples]
        if not by_length[length]:
            raise RecipeError(
                f"no task of the sources has an example of at most {length.tokens} tokens and a "
                f"description of at most {length.chunks} chunks"
            )
    return by_length


def _read(
    task: Task, config: SeatsConfig, tokenizer: BaseTokenizer, most: int
) -> Iterator[tuple[Passage, ...]]:
    """Cut descriptions into passages; descriptions without a known word are left out."""
    for text in choose_descriptions(task, most):
        pieces = pack_sentences(
            text, tokenizer=tokenizer, limit=config.chunk_tokens, minimum=config.min_chunk_tokens
        )
        read = tuple(Passage(p.text, p.token_ids, (), task.name) for p in pieces if p.token_ids)
        if read:
            yield read


def make_example(example: Example, config: SeatsConfig, tokenizer: BaseTokenizer) -> Exercise:
    """Make an exercise: an example's input alone is the question, its first output the answer."""
    return Exercise(
        (*config.after_opening, *tokenizer.encode(example.input), *config.before_answer),
        (*tokenizer.encode(example.outputs[0]), config.end_token),
    )
