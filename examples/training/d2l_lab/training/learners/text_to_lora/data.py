"""Data of a text network in training: descriptions of tasks, and solved examples as ids.

Tasks and the base's chat in, draws out. As for documents, draws depend on seed and step alone.
Needs no network and no loss.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from d2l.bases.chat import Chat, make_chat
from d2l.bases.tokenizers import BaseTokenizer
from d2l.errors import RecipeError
from d2l.hypernets.text_to_lora.network import TextToLoraConfig
from d2l_lab.task_files import TaskSplit
from d2l_lab.training.learners.recipes import Recipe
from d2l_lab.training.learners.tasks import (
    Lesson,
    choose_descriptions,
    choose_examples,
    draw_lessons,
)

#: Token ids of a prompt, and of the answer with the token that ends it.
Exercise = tuple[tuple[int, ...], tuple[int, ...]]
#: Tasks by the most tokens of an example; a description is its number among those of all tasks.
TaskLessons = Mapping[int, Sequence[Lesson[int, Exercise]]]

#: Tokens, padding included, that one pass of the base takes: enough to keep two cores busy.
_TOKENS = 1024


@dataclass(frozen=True)
class DrawnTask:
    """Task of a step: the number of its description, and its exercises. `seed`: of the network's
    dropout."""

    description: int
    exercises: tuple[Exercise, ...]
    seed: int


def draw_tasks(lessons: TaskLessons, recipe: Recipe, step: int) -> list[DrawnTask]:
    """Draw distinct tasks of a step; fewer if fewer have examples that are short enough."""
    chance = random.Random(f"{recipe.seed}:{step}:tasks")
    length = chance.choices(recipe.lengths, [length.weight for length in recipe.lengths])[0]
    return [
        DrawnTask(description, exercises, chance.getrandbits(48))
        for description, exercises in draw_lessons(lessons[length.tokens], length, chance)
    ]


def group_by_length(drawn: Sequence[DrawnTask]) -> Iterator[list[DrawnTask]]:
    """Group tasks, short ones first, so that the padded lines of a group have at most `_TOKENS`
    tokens; a longer task is a group of its own."""
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
    """Count the tokens of the longest line."""
    return max(len(prompt) + len(answer) for prompt, answer in task.exercises)


def check_tasks(config: TextToLoraConfig, recipe: Recipe) -> None:
    """Refuse recipes that do not fit this kind of network; raises RecipeError."""
    if any(length.chunks != 1 for length in recipe.lengths):
        raise RecipeError("chunks of a length is not 1, and tasks have no chunks")
    if config.z_scores or config.delta_scaling != 1:
        raise RecipeError(
            f"{recipe.checkpoint}: was trained to give back other adapters",
            hint="train a network without z_scores and delta_scaling",
        )


def make_lessons(split: TaskSplit, recipe: Recipe, tokenizer: BaseTokenizer) -> TaskLessons:
    """Make the training tasks in the base's chat, by the most tokens of an example.

    Descriptions are numbered through all tasks, in the order of `list_descriptions`. Raises
    RecipeError if no example is short enough.
    """
    chat = make_chat(tokenizer)
    made, start = [], 0
    for task, weight in split.training:
        stop = start + len(choose_descriptions(task, recipe.text_to_lora.descriptions))
        examples = choose_examples(task, recipe.text_to_lora.examples)
        exercises = [make_exercise(chat, one.input, one.outputs[0]) for one in examples]
        sized = [(len(prompt) + len(answer), (prompt, answer)) for prompt, answer in exercises]
        made.append(Lesson(weight, range(start, stop), sized))
        start = stop
    lessons = {}
    for tokens in sorted({length.tokens for length in recipe.lengths}):
        lessons[tokens] = [one for lesson in made if (one := lesson.shorten(tokens)).examples]
        if not lessons[tokens]:
            raise RecipeError(f"no example of the sources has at most {tokens} tokens")
    return lessons


def make_exercise(chat: Chat, asked: str, answer: str) -> Exercise:
    """Encode an example: the input alone in the chat's user turn, no description beside it."""
    return chat.ask(asked), (*chat.tokenizer.encode(answer), chat.end_token)
