"""Texts that the training of a text network embeds: descriptions of tasks, and other texts.

Random choices have fixed seeds, so that a continued run finds the same texts again.
"""

import random
import string
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from d2l.datasets.prompts import read_contrasts

_N_SALADS = 800  # of each kind, of training descriptions
_N_LETTERS = 240
#: Kinds of texts that are made of words or letters in random order.
SALADS = ("shuffled", "odd words", "letters")


def shuffle_words(text: str) -> str:
    """Shuffle the words of a text."""
    words = text.split()
    random.Random(text).shuffle(words)
    return " ".join(words)


def draw_letters(text: str) -> str:
    """Draw words of random letters, as many and as long as those of a text."""
    chance = random.Random(f"letters: {text}")
    return " ".join(
        "".join(chance.choices(string.ascii_lowercase, k=len(word))) for word in text.split()
    )


def draw_words(text: str, pool: Sequence[str]) -> str:
    """Draw three to eight unrelated words of a pool."""
    chance = random.Random(f"words: {text}")
    return " ".join(chance.sample(pool, min(chance.randint(3, 8), len(pool))))


class Contrasts(NamedTuple):
    """Texts for a network's familiarity, beside the training descriptions: new `descriptions`, and,
    by kind, texts that describe no task: some to fit it (`known`), some to calibrate it (`new`)."""

    descriptions: tuple[str, ...]
    known: Mapping[str, tuple[str, ...]]
    new: Mapping[str, tuple[str, ...]]


def make_contrasts(training: Sequence[str], held_out: Sequence[str]) -> Contrasts:
    """Make contrasts for descriptions of training tasks and of held-out tasks.

    Each kind of `contrasts.txt` is halved; salads mix the words of a description, words of all
    descriptions, and random letters.
    """
    chosen = random.Random("salads").sample(training, min(len(training), _N_SALADS))
    kinds = read_contrasts()
    new = (*held_out, *kinds.pop("hurried"))
    return Contrasts(
        new,
        _mix(chosen, training) | {kind: texts[::2] for kind, texts in kinds.items()},
        _mix(new, new) | {kind: texts[1::2] for kind, texts in kinds.items()},
    )


def _mix(texts: Sequence[str], all_texts: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Make the `SALADS` of some texts; only texts of four words or more are shuffled."""
    pool = sorted({word for text in all_texts for word in text.split() if word.isalpha()})
    salads = (
        tuple(shuffle_words(text) for text in texts if len(text.split()) > 3),
        tuple(draw_words(text, pool) for text in texts),
        tuple(map(draw_letters, texts[:_N_LETTERS])),
    )
    return dict(zip(SALADS, salads, strict=True))
