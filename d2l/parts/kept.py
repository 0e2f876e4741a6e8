"""Parts that an adapter keeps of its document: a question chooses, reads and judges them.

`ranks`, `seats` and `kv` have a class for each kind of parts. Needs no torch.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import ClassVar, NamedTuple, Protocol

import numpy as np

from d2l.adapters.parts import PartRecord, Parts
from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.selectors import select
from d2l.errors import AdapterError, OptionError
from d2l.parts.engine import Cache, Engine, Judged
from d2l.parts.judging import Choice, Judging
from d2l.parts.router import Router, find_stop_words, share_words, split_content

#: A conversation, as chat templates take it.
Turns = list[dict[str, str]]
#: Most tokens of parts that are read one behind another; higher: more context, slower answers.
MOST_TOGETHER = 2_000
#: First tokens of the refusal, banned once a part was judged to answer: "The document does".
N_BANNED = 3
#: Weight of the turns before a question such as "And how often?": score of the question + weight ·
#: score of the turns. Higher: earlier words choose more.
_EARLIER = 0.5


@dataclass(frozen=True)
class PartOptions:
    """Choice of parts: the `count` best, or the parts of a `page` ("p. 12", a heading, "#3"). With
    `whole` the whole adapter answers."""

    count: int | None = None
    page: str | None = None
    whole: bool = False


class Question(NamedTuple):
    """The last question of a conversation. `earlier`: text of the turns that it refers to; `whole`:
    the question, behind the question that it refers to."""

    text: str
    earlier: str
    whole: str


class Prompt(NamedTuple):
    """Ids of a conversation behind its parts. `judged`: ids that judge a part, by asking for a few
    words; `full`: ids of the answer; `few`: of the answer in few words, behind the same parts, if
    it has that form. `lead`: ids before the parts, None: the parts' own. `refusal`: ids of the
    refusal. `n_left_out`: tokens of a document that did not fit."""

    judged: list[int]
    full: list[int]
    few: Sequence[int] = ()
    lead: tuple[int, ...] | None = None
    refusal: tuple[int, ...] = ()
    n_left_out: int = 0


class Context(NamedTuple):
    """Beginning of an answer: a cache, the ids to read behind it, and a sequence of ids that the
    answer may not have. `few`: beginnings of the same answer in few words, behind the best part and
    behind all that answer, if parts were judged. `is_instructed`: an untrained base answers."""

    cache: Cache
    ids: Sequence[int]
    banned: tuple[int, ...] = ()
    few: "tuple[Context, ...]" = ()
    is_instructed: bool = False


class PromptWriter(Protocol):
    """Writer of an adapter's prompts, by its chat template and the base's tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Encode a text, without special tokens."""
        ...

    def write_behind(self, turns: Turns) -> list[int]:
        """Encode a conversation by the adapter's template, without the opening's ids."""
        ...


class Kept(ABC):
    """Parts that an adapter keeps, for questions; `chooses`: a question chooses among parts."""

    chooses: ClassVar[bool]

    @property
    @abstractmethod
    def records(self) -> tuple[PartRecord, ...]:
        """Places and texts of the chunks; none if the adapter keeps no text."""

    @abstractmethod
    def route(self, question: Question, options: PartOptions, named: Sequence[int]) -> Choice:
        """Choose parts for a question: the `named`, else by words. Raises OptionError for a page
        that is not there."""

    @abstractmethod
    def write(self, writer: PromptWriter, judged: Turns, full: Turns) -> Prompt:
        """Write the prompt behind the parts, for judging them and for the answer."""

    def read(self, engine: Engine, choice: Choice, prompt: Prompt) -> list[Judged]:
        """Read the question behind each chosen part, side by side; empty if there is nothing to
        compare."""
        del engine, choice, prompt
        return []

    @abstractmethod
    def settle(
        self, engine: Engine, choice: Choice, verdict: Choice, prompt: Prompt, read: list[Judged]
    ) -> Context:
        """Put the answering parts into a cache; `choice` before and `verdict` after the judging."""

    @abstractmethod
    def count_read(self, choice: Choice) -> int:
        """Count the first parts of a choice that the answer is read off."""

    def forget(self) -> None:  # noqa: B027
        """Drop caches of parts: the next question reads its parts from their files."""

    def count_before(self, opening: Sequence[int]) -> int:
        """Count the most tokens in front of a question, beyond those of the adapter's opening."""
        del opening
        return 0


@dataclass(frozen=True)
class KeptParts(Kept):
    """Parts of one adapter; all kinds choose parts by the question's words. `judging`: constants of
    the kind of network."""

    judging: ClassVar[Judging]
    parts: Parts
    chooses: ClassVar[bool] = True

    @property
    def records(self) -> tuple[PartRecord, ...]:
        """Records of the parts, in their order."""
        return self.parts.records

    @cached_property
    def _router(self) -> Router:
        return Router([record.searched for record in self.records])

    def route(self, question: Question, options: PartOptions, named: Sequence[int]) -> Choice:
        """Choose parts for a question: the `named`, as many as are read together, else by words."""
        judging, records = self.judging, self.records
        if named and options == PartOptions():
            sizes = accumulate(records[n].n_tokens for n in named)
            pairs = zip(named, sizes, strict=True)
            if kept := tuple(n for n, size in pairs if size <= MOST_TOGETHER):
                zeros = (0.0,) * len(kept)
                return Choice(kept, zeros, 0.0, 1.0, judging, named=True, together=True)
        scores, most = self._router.score(question.text), self._router.best(question.text)
        if question.earlier:
            scores = scores + _EARLIER * self._router.score(question.earlier)
            most = min(most, float(scores.max(initial=0.0)))
        order = np.argsort(-scores, kind="stable")
        indices = [int(n) for n in order if not records[n].is_overview]
        first, second = (*scores[indices[:2]], 0.0, 0.0)[:2]
        margin = float((first - second) / first) if first > 0 else 0.0
        if options.page is not None:
            allowed = set(self._find_page(options.page))
            indices = [n for n in indices if n in allowed]
        chosen = tuple(indices[: options.count or judging.n_parts])
        own = tuple(float(scores[n]) for n in chosen)
        choice = Choice(chosen, own, margin, max(most, 1e-9), judging, options.page is not None)
        return self._spare(choice, question.text)

    def _spare(self, choice: Choice, question: str) -> Choice:
        """Read parts in spite of a low score if the first has half of the question's words: words
        that no part has weigh most in the highest score."""
        if not choice.indices or choice.is_answered:
            return choice
        content = split_content(question, find_stop_words(question))
        words = split_content(self.records[choice.indices[0]].searched, frozenset())
        least = choice.judging.least_overlap
        return choice.read_anyway() if share_words(content, {*words}) >= max(0.5, least) else choice

    def _find_page(self, page: str) -> list[int]:
        """Find the parts below a heading, else the parts of a selector; raises OptionError."""
        records = self.records
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

    def count_read(self, choice: Choice) -> int:
        """Count the first parts of a choice that the answer is read off."""
        return len(choice.best)
