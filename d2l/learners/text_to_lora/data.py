"""What a text network's training asks: tasks, a description of each, and solved examples as ids.

Tasks and the base's chat in, draws out. As for documents, seed and step alone decide what is drawn.
Knows no network and no loss.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from d2l.bases.chat import Chat, make_chat
from d2l.bases.tokenizers import BaseTokenizer
from d2l.datasets.task_texts import choose_descriptions, choose_examples
from d2l.datasets.tasks import TaskSplit
from d2l.errors import RecipeError
from d2l.hypernets.text_to_lora.network import TextToLoraConfig
from d2l.learners.recipes import Recipe

#: Token ids of a prompt, and of the answer with the token that ends it.
Exercise = tuple[tuple[int, ...], tuple[int, ...]]

#: Tokens, padding included, that one pass of the base takes: enough to keep two cores busy.
_TOKENS = 1024


@dataclass(frozen=True)
class Course:
    """A task in training: which of all descriptions are its own, and its examples, each with its
    length in tokens."""

    weight: float
    descriptions: range
    exercises: tuple[tuple[int, Exercise], ...]


@dataclass(frozen=True)
class DrawnTask:
    """One task of a step: the number of its description, and what is asked. `seed` is for what
    the network draws itself, its dropout."""

    description: int
    exercises: tuple[Exercise, ...]
    seed: int


@dataclass(frozen=True)
class Courses:
    """All tasks of a run, and the draws from them."""

    recipe: Recipe
    all: tuple[Course, ...]

    def draw(self, step: int) -> list[DrawnTask]:
        """Tasks of one step, none twice; fewer where fewer have examples so short."""
        chance = random.Random(f"{self.recipe.seed}:{step}:tasks")
        weights = [length.weight for length in self.recipe.lengths]
        length = chance.choices(self.recipe.lengths, weights)[0]
        left = [(course, _fitting(course, length.tokens)) for course in self.all]
        left = [(course, fit) for course, fit in left if fit]
        drawn = []
        for _ in range(min(length.memories, len(left))):
            number = chance.choices(range(len(left)), [course.weight for course, _ in left])[0]
            course, fit = left.pop(number)
            asked = chance.sample(fit, min(length.questions, len(fit)))
            drawn.append(
                DrawnTask(chance.choice(course.descriptions), tuple(asked), chance.getrandbits(48))
            )
        return drawn


def group_by_length(drawn: Sequence[DrawnTask]) -> Iterator[list[DrawnTask]]:
    """Tasks in groups, short ones first, whose padded lines are at most `_TOKENS` tokens together;
    a task of more is a group of its own."""
    group: list[DrawnTask] = []
    n_lines = 0
    for task in sorted(drawn, key=_longest):
        n_lines += len(task.exercises)
        if group and n_lines * _longest(task) > _TOKENS:
            yield group
            group, n_lines = [], len(task.exercises)
        group.append(task)
    if group:
        yield group


def _longest(task: DrawnTask) -> int:
    """Tokens of its longest line."""
    return max(len(prompt) + len(answer) for prompt, answer in task.exercises)


def _fitting(course: Course, tokens: int) -> list[Exercise]:
    return [exercise for size, exercise in course.exercises if size <= tokens]


def check_tasks(config: TextToLoraConfig, recipe: Recipe) -> None:
    """Refuse what this kind of network cannot do; raises RecipeError."""
    if any(length.chunks != 1 for length in recipe.lengths):
        raise RecipeError("chunks of a length is not 1, and tasks have no chunks")
    if config.z_scores or config.delta_scaling != 1:
        raise RecipeError(
            f"{recipe.checkpoint}: was trained to give back other adapters",
            hint="train a network without z_scores and delta_scaling",
        )


def make_courses(split: TaskSplit, recipe: Recipe, tokenizer: BaseTokenizer) -> Courses:
    """The training tasks in the base's chat; numbers of descriptions count through all tasks, in
    order, as `list_descriptions` gives them. Raises RecipeError where no example is short enough.
    """
    chat = make_chat(tokenizer)
    longest = max(length.tokens for length in recipe.lengths)
    courses, start = [], 0
    for task, weight in split.training:
        stop = start + len(choose_descriptions(task, recipe.text_to_lora.descriptions))
        examples = choose_examples(task, recipe.text_to_lora.examples)
        exercises = [make_exercise(chat, one.input, one.outputs[0]) for one in examples]
        sized = ((len(prompt) + len(answer), (prompt, answer)) for prompt, answer in exercises)
        short = tuple(example for example in sized if example[0] <= longest)
        courses.append(Course(weight, range(start, stop), short))
        start = stop
    for length in recipe.lengths:
        if not any(_fitting(course, length.tokens) for course in courses):
            raise RecipeError(f"no example of the sources has at most {length.tokens} tokens")
    return Courses(recipe, tuple(courses))


def make_exercise(chat: Chat, asked: str, answer: str) -> Exercise:
    """An example as ids: the input alone in the chat's user turn, no description beside it."""
    return chat.ask(asked), (*chat.tokenizer.encode(answer), chat.end_token)


def count_tasks(split: TaskSplit, recipe: Recipe, tokenizer: BaseTokenizer) -> list[dict[str, Any]]:
    """What all sources together give for each length."""
    courses = make_courses(split, recipe, tokenizer)
    rows = []
    for tokens in sorted({length.tokens for length in recipe.lengths}):
        counts = [len(_fitting(course, tokens)) for course in courses.all]
        rows.append(
            {
                "source": ", ".join(source.path for source in recipe.sources),
                "tokens": tokens,
                "tasks": sum(n > 0 for n in counts),
                "examples": sum(counts),
                "held_out": len(split.held_out),
            }
        )
    return rows
