"""What a family of tasks says of one task, and how descriptions come of it.

A draft has asks (the same instruction in several ways, as imperatives without a full stop), the
name of what is given, and a maker of examples.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
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


def describe(draft: Draft, chance: Chance, _: Sequence[Pair]) -> Iterable[str]:
    """Descriptions of a task: every frame once."""
    return _describe(draft, chance)


def finish(
    draft: Draft,
    *,
    n_examples: int,
    describe: Callable[[Draft, Chance, Sequence[Pair]], Iterable[str]] = describe,
) -> dict[str, Any]:
    """A row of a file of tasks; seeded by the task's name."""
    chance = Chance(draft.name)
    drawn = dict.fromkeys(draft.make(chance) for _ in range(4 * n_examples))
    pairs = [pair for pair in drawn if all(part.strip() for part in pair)][:n_examples]
    first, *others = dict.fromkeys(describe(draft, chance, pairs))
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


def write_rows(target: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write a file of tasks, one a line, and say how many there are."""
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    target.write_text("\n".join(lines) + "\n", "utf-8")
    print(f"{len(rows)} tasks, {sum(len(row['examples']) for row in rows)} examples")


def read_lines(name: str) -> list[str]:
    """Lines of a file of texts beside this one."""
    return (Path(__file__).parent / "texts" / f"{name}.txt").read_text("utf-8").strip().split("\n")
