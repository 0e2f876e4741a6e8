"""Question → the parts of an adapter that are asked.

Texts in, indices of parts out; needs no model and no torch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from d2l.adapters.parts import Parts
from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.selectors import select
from d2l.datasets.silence import is_silence
from d2l.errors import AdapterError, OptionError
from d2l.inference.parts.answer import Answer, Citation, Finish, explain, refuse
from d2l.inference.parts.asked import find_scope, stands_alone
from d2l.inference.parts.passage import share_words, split_content
from d2l.inference.parts.router import Router, find_stop_words

if TYPE_CHECKING:
    from d2l.inference.chat_prompts import Turns

#: Number of parts that are read together: public Doc-to-LoRA networks saw eight chunks together in
#: training.
JOINED_PARTS = 8
#: Tokens of parts that are read one behind another, at most.
_MOST_TOGETHER = 2_000
#: Nats that no certainty makes up for.
_OUT = 1e3
#: Weight of the turns before, for questions such as "And how often?".
_EARLIER = 0.5


@dataclass(frozen=True)
class Judging:
    """Judging of parts that are read apart, by the answer that the model begins behind each.

    `usual`: number of parts. `n_refusal`: tokens of SILENCE whose likelihood counts. `words`: nats
    of the first token's entropy that weigh as much as all words of a question. `most_silent`: a
    part is silent if its answer is the refusal with this probability. `drops`: a silent part comes
    after all others. `full`: the answer is read off the two best parts, and refuses no more.
    `answer`: weight of the log-probability that the answer is no refusal. `least`: share of a
    question's words in a part, below which the model need not read it.
    """

    usual: int
    n_refusal: int
    words: float
    most_silent: float
    drops: bool = False
    full: bool = True
    answer: float = 0.0
    least: float = 0.0


#: Networks that learned to refuse. The threshold holds back 2 right answers to 100 questions to
#: four manuals, and 13 invented ones to 32 unanswerable.
TRAINED = Judging(
    usual=4, n_refusal=1, words=12.0, answer=1.0, most_silent=0.18, full=False, least=0.05
)
#: Bases that an instruction asks to refuse.
INSTRUCTED = Judging(usual=8, n_refusal=4, words=10.0, most_silent=0.5, drops=True)
SHORT = replace(INSTRUCTED, full=False)


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
    that the question allows. `named`: the question or the user names the parts, so they answer.
    `together`: they are read one behind another, in their order. `silent`: the probability that the
    answer to the first part begins with the refusal, once the model has read it. `n_speaking`:
    number of parts that are not silent.
    """

    indices: tuple[int, ...]
    scores: tuple[float, ...]
    margin: float
    most: float
    judging: Judging = TRAINED
    named: bool = False
    together: bool = False
    silent: float | None = None
    n_speaking: int = 0

    def weigh(self, entropies: Sequence[float], silent: Sequence[float]) -> tuple["Choice", int]:
        """Order the parts by their words and by how certain the model is of its answer to each:
        the entropy of the first token, in nats, and the probability of the refusal.

        Also returns the old position of the first part.
        """
        judging = self.judging
        values = [
            judging.words * score / self.most
            - entropy
            + judging.answer * math.log(max(1 - chance, 1e-6))
            - _OUT * (judging.drops and chance > judging.most_silent)
            for score, entropy, chance in zip(self.scores, entropies, silent, strict=True)
        ]
        order = sorted(range(len(values)), key=lambda n: (-values[n], n))
        indices = tuple(self.indices[n] for n in order)
        scores = tuple(self.scores[n] for n in order)
        first, n_speaking = order[0], sum(chance <= judging.most_silent for chance in silent)
        judged = replace(self, silent=silent[first], n_speaking=n_speaking)
        return replace(judged, indices=indices, scores=scores), first

    @property
    def coverage(self) -> float:
        """Score of the first part as a share of the highest that the question allows, 0 to 1."""
        return (*self.scores, 0.0)[0] / self.most

    @property
    def best(self) -> tuple[int, ...]:
        """The parts that the answer is read off, in their order in the document: two for a full
        answer, unless one of them is silent, or was not read."""
        both = self.judging.full and self.silent is not None and self.n_speaking > 1
        return tuple(sorted(self.indices[: 1 + both]))

    @property
    def must_answer(self) -> bool:
        """True if the base may not refuse any more: its refusal was judged for a full answer, or
        the question is about the parts that it reads."""
        return self.judging.drops and (
            self.together or (self.judging.full and self.silent is not None)
        )

    @property
    def is_answered(self) -> bool:
        """True if the first part answers: judged by the model once it has read, before by words."""
        if self.named:
            return True
        if self.silent is not None:
            return self.silent < self.judging.most_silent
        return self.coverage >= self.judging.least


class PartChooser:
    """Chooser among the parts of one adapter."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts

    @cached_property
    def _router(self) -> Router:
        return Router([record.searched for record in self.parts.records])

    @property
    def most_tokens(self) -> int:
        """Most tokens of parts in front of a question: of one part, or of several together."""
        sizes = [record.n_seats for record in self.parts.records]
        return min(sum(sizes), _MOST_TOGETHER) if self.parts.index.turns else max(sizes)

    def pick_judging(self, *, short: bool) -> Judging:
        """Pick the judging of the parts: bases with texts of turns are asked by an instruction."""
        if not self.parts.index.turns:
            return TRAINED
        return SHORT if short else INSTRUCTED

    def choose(self, turns: "Turns", options: PartOptions, *, short: bool = False) -> Choice:
        """Choose parts for the last of several turns, for a `short` answer or a full one; raises
        OptionError for a page that the adapter does not have."""
        judging, records = self.pick_judging(short=short), self.parts.records
        usual = JOINED_PARTS if self.parts.stored is None else judging.usual
        question = next((t["content"] for t in reversed(turns) if t["role"] == "user"), "")
        if options == PartOptions() and (asked := self._find_scope(question)) is not None:
            return asked
        scores, most = self._router.score(question), self._router.best(question)
        if len(turns) > 1 and not stands_alone(question):
            before = "\n".join(turn["content"] for turn in turns[-3:-1] if turn["role"] != "system")
            scores = scores + _EARLIER * self._router.score(before)
            most = min(most, float(scores.max(initial=0.0)))
        order = np.argsort(-scores, kind="stable")
        indices = [int(n) for n in order if not records[n].is_overview]
        first, second = (*scores[indices[:2]], 0.0, 0.0)[:2]
        margin = float((first - second) / first) if first > 0 else 0.0
        if options.page is not None:
            allowed = set(self._find_page(options.page))
            indices = [n for n in indices if n in allowed]
        chosen = tuple(indices[: options.count or usual])
        chosen_scores = tuple(float(scores[n]) for n in chosen)
        named = options.page is not None
        choice = Choice(chosen, chosen_scores, margin, max(most, 1e-9), judging, named)
        if chosen and not choice.is_answered:  # words that no part has weigh most
            content = split_content(question, find_stop_words(question))
            words = split_content(records[chosen[0]].searched, frozenset())
            if share_words(content, {*words}) >= max(0.5, judging.least):
                choice = replace(choice, judging=replace(judging, least=0.0))
        return choice

    def _find_scope(self, question: str) -> Choice | None:
        """Choose the parts that a question about a whole document or a chapter names, which are
        read together; None if it asks for a fact, or the adapter has no overview."""
        records = self.parts.records
        wholes = [n for n, record in enumerate(records) if record.is_overview]
        if not wholes:
            return None
        plain = [record for record in records if not record.is_overview]
        title = records[wholes[0]].text.partition("\n")[0].removeprefix("Title: ")
        scope = find_scope(question, plain, title=title)
        indices = wholes
        if scope.kind != "whole":
            own = [n for n, record in enumerate(records) if not record.is_overview]
            indices = [own[n] for n in scope.indices]
        sizes = accumulate(records[n].n_tokens for n in indices)
        kept = tuple(n for n, size in zip(indices, sizes, strict=True) if size <= _MOST_TOGETHER)
        if not kept:
            return None
        return Choice(kept, (0.0,) * len(kept), 0.0, 1.0, INSTRUCTED, named=True, together=True)

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

    def explain(
        self, choice: Choice, question: str, text: str, finish: Finish = "stop", *, n_read: int = 0
    ) -> Answer:
        """Name the parts behind an answer: first the part that its passage stands in, of the first
        `n_read` or of those that were read; if no part answered, parts that share words, by score.
        """
        cited = [
            Citation(index, self.parts.records[index], score, choice.margin)
            for index, score in zip(choice.indices, choice.scores, strict=True)
        ]
        if not choice.is_answered or is_silence(text):
            near = sorted((c for c in cited if c.score), key=lambda c: -(c.score or 0))
            return refuse(question, text, near, finish)
        n_read = n_read or (len(cited) if choice.together else len(choice.best))
        question = "" if choice.together else question  # it names parts, and asks for no words
        return explain(question, text, cited, finish, n_read=n_read, named=choice.named)
