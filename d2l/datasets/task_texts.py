"""The texts that a text network's training embeds: descriptions of tasks, and what is none.

Tasks in, texts out; everything is drawn by fixed rules, so that a run finds the same again.
"""

import random
import string
from collections.abc import Sequence

from d2l.datasets.tasks import Task


def choose_descriptions(task: Task, most: int) -> tuple[str, ...]:
    """At most so many descriptions of a task: its definition, and others by chance."""
    first, others = task.descriptions[:1], task.descriptions[1:]
    if len(task.descriptions) <= most:
        return task.descriptions
    return (*first, *random.Random(task.name).sample(others, most - 1))


def shuffle_words(text: str) -> str:
    """The words of a text in another order."""
    words = text.split()
    random.Random(text).shuffle(words)
    return " ".join(words)


def draw_letters(text: str) -> str:
    """Words of random letters, as many and as long as those of a text."""
    chance = random.Random(f"letters: {text}")
    return " ".join(
        "".join(chance.choices(string.ascii_lowercase, k=len(word))) for word in text.split()
    )


def make_unlike(texts: Sequence[str]) -> list[str]:
    """What is no description: each text's words shuffled, and random letters in their place."""
    return [*map(shuffle_words, texts), *map(draw_letters, texts)]
