"""Question → the parts of an adapter that are asked, and the part that an answer came from.

Texts in, indices of parts out; needs no model and no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from d2l.adapters.parts import PartRecord, Parts
from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.selectors import select
from d2l.errors import AdapterError, OptionError
from d2l.inference.parts.router import Router, split_grams

if TYPE_CHECKING:
    from d2l.inference.chat_prompts import Turns

#: Default number of parts that are read apart, and that are read together: public Doc-to-LoRA
#: networks saw eight chunks together in training.
READ_PARTS, JOINED_PARTS = 4, 8
#: Nats of a first token's entropy that weigh as much as all words of a question.
_WORDS = 12.0
#: A part is silent if the answer begins with SILENCE's first token with this probability. It holds
#: back 2 right answers to 100 questions to four manuals, and 13 invented ones to 32 unanswerable.
MOST_SILENT = 0.18
#: Least share of a question's words in a part that answers, where the model has not read it.
LEAST_COVERAGE = 0.05
#: Weight of the turns before, for questions such as "And how often?".
_EARLIER = 0.5


@dataclass(frozen=True)
class PartOptions:
    """Choice of the parts that are asked: the `count` best, those of a `page` ("p. 12", a heading,
    "#3"), or with `whole` none: the whole adapter answers."""

    count: int | None = None
    page: str | None = None
    whole: bool = False


@dataclass(frozen=True)
class Choice:
    """Indices of the chosen parts, best first, with their scores.

    `margin`: (first - second) / first score of all parts, from 0 to 1. `most`: the highest score
    that the question allows. `silent`: the probability that the answer to the first part begins
    with SILENCE's first token, once the model has read it.
    """

    indices: tuple[int, ...]
    scores: tuple[float, ...]
    margin: float
    most: float
    by_hand: bool = False
    silent: float | None = None

    def weigh(self, entropies: Sequence[float], silent: Sequence[float]) -> tuple["Choice", int]:
        """Order the parts by their words and by how certain the model is of its answer to each:
        the entropy of the first token, in nats, and the probability that it is SILENCE's.
        Also returns the old position of the first part."""
        values = [
            _WORDS * score / self.most - entropy + math.log(max(1 - chance, 1e-6))
            for score, entropy, chance in zip(self.scores, entropies, silent, strict=True)
        ]
        order = sorted(range(len(values)), key=lambda n: (-values[n], n))
        indices = tuple(self.indices[n] for n in order)
        scores = tuple(self.scores[n] for n in order)
        first = order[0]
        return replace(self, indices=indices, scores=scores, silent=silent[first]), first

    @property
    def coverage(self) -> float:
        """Score of the first part as a share of the highest that the question allows, 0 to 1."""
        return (*self.scores, 0.0)[0] / self.most

    @property
    def is_answered(self) -> bool:
        """True if the first part answers: judged by the model once it has read, before by words."""
        if self.by_hand:
            return True
        if self.silent is not None:
            return self.silent < MOST_SILENT
        return self.coverage >= LEAST_COVERAGE


@dataclass(frozen=True)
class Citation:
    """Part that an answer came from, as far as its words show, and how it was chosen."""

    index: int
    part: PartRecord
    score: float
    margin: float

    def to_json(self) -> dict[str, object]:
        """Values of `--json` and of the server."""
        return {
            "part": self.index,
            "document": self.part.document,
            "page": self.part.page,
            "heading": list(self.part.headings),
            "place": self.part.place,
            "score": round(self.score, 3),
            "margin": round(self.margin, 3),
        }


def list_parts(citations: Sequence[Citation], *, answered: bool = True) -> dict[str, object]:
    """Fields of `--json` and of the server: the keys of the first part, the answer's source, or
    a null if no part answered; then all parts that were asked, the closest first."""
    rows = [citation.to_json() for citation in citations]
    return {**(rows[0] if rows and answered else {"part": None}), "parts": rows}


class PartChooser:
    """Chooser among the parts of one adapter."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @cached_property
    def _router(self) -> Router:
        return Router([record.searched for record in self.parts.records])

    def choose(self, turns: "Turns", options: PartOptions, *, usual: int) -> Choice:
        """Choose parts for the last of several turns, `usual` of them if the options name no
        number; raises OptionError for a page that the adapter does not have."""
        question = next((t["content"] for t in reversed(turns) if t["role"] == "user"), "")
        scores, most = self._router.score(question), self._router.best(question)
        if len(turns) > 1:  # a follow-up has few words of its own
            before = "\n".join(turn["content"] for turn in turns[-3:-1] if turn["role"] != "system")
            scores = scores + _EARLIER * self._router.score(before)
            most = min(most, float(scores.max(initial=0.0)))
        order = np.argsort(-scores, kind="stable")
        first, second = (*scores[order[:2]], 0.0, 0.0)[:2]
        margin = float((first - second) / first) if first > 0 else 0.0
        indices = [int(n) for n in order]
        if options.page is not None:
            allowed = set(self._find_page(options.page))
            indices = [n for n in indices if n in allowed]
        chosen = tuple(indices[: options.count or usual])
        chosen_scores = tuple(float(scores[n]) for n in chosen)
        return Choice(chosen, chosen_scores, margin, max(most, 1e-9), options.page is not None)

    def _find_page(self, page: str) -> list[int]:
        """Find the parts below a heading, else those of a selector; raises OptionError."""
        records = self.parts.records
        heading = page.removeprefix("§").strip().casefold()
        below = [n for n, r in enumerate(records) if heading in map(str.casefold, r.headings)]
        if below:
            return below
        chunks = [
            ChunkRecord(index=n, document=r.document, source=r.source, n_tokens=r.n_tokens)
            for n, r in enumerate(records)
        ]
        selector = page if ":" in page else f":{page}"
        try:
            return select(selector, chunks)[0]
        except AdapterError as error:
            raise OptionError(f"{page}: no such page or heading", hint=error.hint) from error

    def cite(self, choice: Choice, answer: str | None) -> tuple[Citation, ...]:
        """List the chosen parts, best first. With an `answer`, of parts read together, the part
        nearest to it comes first. If no part answered: parts that share words, by score."""
        cited = [
            Citation(index, self.parts.records[index], score, choice.margin)
            for index, score in zip(choice.indices, choice.scores, strict=True)
        ]
        if not choice.is_answered:
            near = (part for part in cited if part.score > 0)
            return tuple(sorted(near, key=lambda part: -part.score))
        if answer is not None:
            wanted = split_grams(answer)
            cited.sort(key=lambda c: -int(np.isin(wanted, split_grams(c.part.searched)).sum()))
        return tuple(cited)
