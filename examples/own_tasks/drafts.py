"""What a family of tasks says of one task, and how descriptions come of it.

A draft has asks (the same instruction in several ways, as imperatives without a full stop), the
name of what is given, and a maker of examples.
"""

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

Pair = tuple[str, str]  # input and output
Chance = random.Random

_FRAMES = (
    "{Ask}.",
    "In this task, you are given {given}. Your task is to {ask}.",
    "You will be given {given}. {Ask}.",
    "Given {given}, {ask}.",
    "The input is {given}. {Ask}, and answer with nothing else.",
    "Look at {given} and {ask}.",
    "Please {ask}.",
    "Take {given}, then {ask}. Do not explain your answer.",
)


@dataclass(frozen=True)
class Draft:
    """One task. `make` draws an example; where examples are few, it may draw one twice."""

    name: str
    asks: tuple[str, ...]
    given: str
    make: Callable[[Chance], Pair]


def from_pairs(name: str, asks: tuple[str, ...], given: str, pairs: Iterable[Pair]) -> Draft:
    """A task whose examples are a table."""
    known = list(pairs)
    return Draft(name, asks, given, lambda chance: chance.choice(known))


def finish(draft: Draft, *, n_examples: int) -> dict[str, Any]:
    """A row of a file of tasks; seeded by the task's name."""
    chance = Chance(draft.name)
    drawn = dict.fromkeys(draft.make(chance) for _ in range(4 * n_examples))
    pairs = [pair for pair in drawn if all(part.strip() for part in pair)][:n_examples]
    first, *others = dict.fromkeys(_describe(draft, chance))
    return {
        "task": f"own_{draft.name}",
        "definition": first,
        "descriptions": others,
        "examples": [{"input": given, "output": answer} for given, answer in pairs],
        "license_clear": True,
    }


def _describe(draft: Draft, chance: Chance) -> Iterator[str]:
    """Every frame once, with the asks in turn."""
    frames = chance.sample(_FRAMES, len(_FRAMES))
    for number, frame in enumerate(frames):
        ask = draft.asks[number % len(draft.asks)]
        yield frame.format(ask=ask, Ask=ask[0].upper() + ask[1:], given=draft.given)
