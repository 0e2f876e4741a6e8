"""Documents → questions that a person might ask, with answers and where these stand.

The text is cut into passages. Rules choose the answers of a passage, the writer asks for them, and
the base must give them back with the passage in its prompt.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import BaseTokenizer
from d2l.documents.chunks import pack_sentences
from d2l.progress import Progress, silent
from d2l.questions.marks import AboutText, choose_answers, find_answers
from d2l.questions.writer import QuestionWriter, open_writer

_PASSAGE_TOKENS, _FEWEST_TOKENS = 240, 12
#: Of questions in other words than the likeliest ones.
_TEMPERATURE = 0.8
#: Time that each other wording takes at most, as part of the time for the likeliest questions.
_WORDING_TIME = 0.5


@dataclass(frozen=True)
class Excerpt:
    """A stretch of a document's text, as it stands there from character `start` on."""

    document: int
    start: int
    text: str


def ignore(n_written: int) -> None:
    """Report to nobody."""


@dataclass(frozen=True)
class Effort:
    """How much is asked. At the time `until` (`time.monotonic`) asking stops, and questions of an
    unfinished passage are lost. Each answer is asked for in `wordings` other ways, drawn by `seed`.
    If `checked`, only questions that pass the round trip count. `report` gets the number of
    questions that were written about a passage, before the round trip. Asking also stops where
    `needed` questions are out of reach, at the pace until then.
    """

    until: float | None = None
    wordings: int = 0
    seed: int = 0
    checked: bool = True
    report: Callable[[int], object] = ignore
    most: int | None = None
    needed: int = 0

    def is_hopeless(self, n_asked: int, begun: float) -> bool:
        """Whether so many questions since `begun` will not become half of those that are needed."""
        if self.until is None:
            return False
        pace = max(n_asked, 1) / max(time.monotonic() - begun, 1e-9)
        return 2 * pace * (self.until - begun) < self.needed

    def allows(self, seconds: float = 0.0) -> bool:
        """Whether there are so many seconds left."""
        return self.until is None or time.monotonic() + seconds <= self.until


_ONCE = Effort()


class _OutOfTime(Exception):
    """Ends asking in the middle of a passage."""


def write_about(
    causal: Any,
    tokenizer: BaseTokenizer,
    base: BaseFiles,
    texts: Sequence[str],
    *,
    effort: Effort = _ONCE,
    watch: Progress = silent,
) -> list[AboutText]:
    """Questions about documents, in text order; none if the base has no writer. If time is short,
    the passages that are asked about are evenly spread."""
    writer = open_writer(causal, tokenizer, base)
    if writer is None:
        return []

    def stop(*_: object) -> None:
        if not effort.allows():
            raise _OutOfTime

    asked: list[AboutText] = []
    begun = time.monotonic()
    hook = causal.model.register_forward_pre_hook(stop)
    try:
        with contextlib.suppress(_OutOfTime):
            for questions in _ask_all(writer, list(cut(texts, tokenizer)), effort, watch):
                asked += questions
                if effort.is_hopeless(len(asked), begun):
                    break
    finally:
        hook.remove()
    unique = {(item.document, item.question.casefold()): item for item in reversed(asked)}
    return sorted(unique.values(), key=lambda item: (item.document, item.start))


def _ask_all(
    writer: QuestionWriter, passages: Sequence[Excerpt], effort: Effort, watch: Progress
) -> Iterator[list[AboutText]]:
    """Questions, passage by passage. Other wordings come together with the likeliest questions,
    which saves reading the passage twice, if there is time for that everywhere; else at the end."""
    order, others = spread(len(passages))[: effort.most], (_TEMPERATURE,) * effort.wordings
    later: dict[int, float] = {}  # seconds for the likeliest questions alone, by passage number
    seconds = 0.0  # for a passage in all wordings, estimated by the last one
    for place, number in enumerate(watch(order, "asking questions")):
        left = len(order) - place
        enough = effort.allows(seconds * left) if place else effort.until is None
        start = time.monotonic()
        yield ask_about(writer, passages[number], effort, (0.0, *others) if enough else (0.0,))
        seconds = time.monotonic() - start
        if others and not enough:
            later[number] = seconds
            seconds *= 1 + effort.wordings * _WORDING_TIME
    for number, seconds in watch(list(later.items()), "asking in other words") if later else ():
        if not effort.allows(effort.wordings * _WORDING_TIME * seconds):
            break
        yield ask_about(writer, passages[number], effort, others)


def count_answers(texts: Sequence[str], tokenizer: BaseTokenizer) -> int:
    """How many answers of documents a writer would ask for; no model is needed."""
    passages = cut(texts, tokenizer)
    return sum(len(choose_answers(find_answers(passage.text))) for passage in passages)


def cut(texts: Sequence[str], tokenizer: BaseTokenizer) -> Iterator[Excerpt]:
    """Passages of whole sentences that a writer can read."""
    for number, text in enumerate(texts):
        packed = pack_sentences(
            text, tokenizer=tokenizer, limit=_PASSAGE_TOKENS, minimum=_FEWEST_TOKENS
        )
        for piece in packed:
            if len(piece.token_ids) >= _FEWEST_TOKENS:
                yield Excerpt(number, piece.start, text[piece.start : piece.stop])


def ask_about(
    writer: QuestionWriter, passage: Excerpt, effort: Effort, temperatures: Sequence[float]
) -> list[AboutText]:
    """Questions about one passage: one at each temperature for every answer."""
    text = passage.text
    answers = choose_answers(find_answers(text))
    asked = writer.write(text, answers, temperatures=temperatures, seed=effort.seed)
    effort.report(len(asked))
    return [
        AboutText(
            passage.document,
            passage.start + span.start,
            passage.start + span.stop,
            question,
            " ".join(span.of(text).split()),
        )
        for question, span in (writer.keep_answered(text, asked) if effort.checked else asked)
    ]


def spread(n: int) -> list[int]:
    """Numbers below `n` by their bits in reverse: every beginning of the list is evenly spread."""
    bits = max(n - 1, 1).bit_length()
    return [m for m in (int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits)) if m < n]
