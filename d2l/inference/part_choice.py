"""Question → the parts of an adapter that are asked, and the part that an answer came from.

Texts in, places out; needs no model and no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from d2l.adapters.parts import PartRecord, Parts
from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.selectors import select
from d2l.errors import AdapterError, OptionError
from d2l.inference.router import Router, split_grams

if TYPE_CHECKING:
    from d2l.inference.chat_prompts import Turns

#: What is said where no part shares enough with the question.
UNANSWERED = "The manual does not say."
#: Parts that a memory is joined of, where the options name no number.
USUAL_PARTS = 3
#: Least share of a question's weight in the best part. Chosen on `data/manuals`.
LEAST_COVERAGE = 0.2
#: Weight of the turns before, for questions such as "And how often?".
_EARLIER = 0.5


@dataclass(frozen=True)
class PartOptions:
    """Which parts are asked: the `count` best, those of a `page` ("p. 12", a heading, "#3"), or
    with `whole` none: the adapter of everything answers."""

    count: int | None = None
    page: str | None = None
    whole: bool = False


@dataclass(frozen=True)
class Choice:
    """Places of the chosen parts, best first, with their scores.

    `margin`: (first - second) / first score of all parts, from 0 to 1. `coverage`: the first score
    as a share of the highest that the question allows, from 0 to 1.
    """

    places: tuple[int, ...]
    scores: tuple[float, ...]
    margin: float
    coverage: float
    by_hand: bool = False

    def first(self, places: Sequence[int]) -> "Choice":
        """The same with some of the places alone."""
        left = tuple(n for n, place in enumerate(self.places) if place in places)
        scores = tuple(self.scores[n] for n in left)
        return replace(self, places=tuple(self.places[n] for n in left), scores=scores)

    @property
    def is_answered(self) -> bool:
        """Whether any part shares enough with the question to be asked."""
        return self.by_hand or self.coverage >= LEAST_COVERAGE


@dataclass(frozen=True)
class Citation:
    """The part that an answer came from, as far as the words tell, and how it was chosen."""

    place: int
    part: PartRecord
    score: float
    margin: float

    def to_json(self) -> dict[str, object]:
        """The values of `--json` and of the server."""
        return {
            "part": self.place,
            "document": self.part.document,
            "page": self.part.page,
            "heading": list(self.part.headings),
            "place": self.part.place,
            "score": round(self.score, 3),
            "margin": round(self.margin, 3),
        }


class PartChooser:
    """Chooses among the parts of one adapter."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @cached_property
    def _router(self) -> Router:
        return Router([record.searched for record in self.parts.records])

    def choose(self, turns: "Turns", options: PartOptions) -> Choice:
        """Choose parts for the last of several turns; raises OptionError where a page is named
        that the adapter does not have."""
        questions = [turn["content"] for turn in turns if turn["role"] == "user"] or [""]
        scores = self._router.score(questions[-1])
        coverage = float(scores.max(initial=0.0)) / max(self._router.best(questions[-1]), 1e-9)
        if len(turns) > 1:
            before = "\n".join(turn["content"] for turn in turns[-3:-1] if turn["role"] != "system")
            scores = scores + _EARLIER * self._router.score(before)
            coverage = 1.0 if scores.any() else 0.0  # a follow-up has few words of its own
        order = np.argsort(-scores, kind="stable")
        first, second = (*scores[order[:2]], 0.0)[:2]
        margin = float((first - second) / first) if first > 0 else 0.0
        places = [int(n) for n in order]
        if options.page is not None:
            here = set(self._find_page(options.page))
            places = [n for n in places if n in here]
        chosen = tuple(places[: options.count or USUAL_PARTS])
        picked = tuple(float(scores[n]) for n in chosen)
        return Choice(chosen, picked, margin, coverage, options.page is not None)

    def _find_page(self, page: str) -> list[int]:
        chunks = [
            ChunkRecord(index=n, document=r.document, source=r.source, n_tokens=r.n_tokens)
            for n, r in enumerate(self.parts.records)
        ]
        selector = page if page.startswith(("p", "#", "§")) or ":" in page else f":{page}"
        try:
            found: list[int] = select(selector, chunks)[0]
        except AdapterError as error:
            raise OptionError(error.message, hint=error.hint) from error
        if not found:
            raise OptionError(f"{page}: the adapter has no such page")
        return found

    def cite(self, answer: str, choice: Choice) -> tuple[Citation, ...]:
        """The chosen parts, the one that shares most with an answer first, then the best."""
        wanted = split_grams(answer)
        records = [self.parts.records[place] for place in choice.places]
        shared = [int(np.isin(wanted, split_grams(part.searched)).sum()) for part in records]
        cited = [
            Citation(place, part, score, choice.margin)
            for place, part, score in zip(choice.places, records, choice.scores, strict=True)
        ]
        source = int(np.argmax(shared)) if shared else 0
        return (*cited[source : source + 1], *cited[:source], *cited[source + 1 :])
