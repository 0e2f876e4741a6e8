"""Documents → questions that a person might ask, with answers and where these stand.

Answers to ask for are found by rules, a writer's LoRA on the base asks for them, and the base, with
the passage in its prompt, must give the answer back. Each passage stands for itself.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from d2l.adapters.peft_folder import read_adapter
from d2l.bases.catalog import BY_NAME
from d2l.bases.chat import make_chat
from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import BaseTokenizer
from d2l.documents.chunks import pack_sentences
from d2l.hypernets.registry import ALIASES
from d2l.progress import Progress, silent
from d2l.refining.answers import Answer, find_answers
from d2l.refining.writer_files import find_writer
from d2l.refining.writer_prompts import Span
from d2l.refining.writer_questions import Chance, QuestionWriter

_PASSAGE_TOKENS, _FEWEST_TOKENS = 240, 12
#: Answers asked for in a passage, so that long documents are asked about everywhere.
_MOST_ASKED = 24
#: What each other wording takes of the time of the likeliest questions, at most: all of a passage's
#: are written in one batch.
_WORDING_TIME = 0.5


@dataclass(frozen=True)
class AboutText:
    """A question about a document, by its number, with its answer at characters [start, stop)."""

    document: int
    start: int
    stop: int
    question: str
    answer: str


@dataclass(frozen=True)
class Passage:
    """A stretch of a document's text, as it stands there from character `start` on."""

    document: int
    start: int
    text: str


@dataclass(frozen=True)
class Effort:
    """How much is asked. Past `until` on the clock (`time.monotonic`) nothing more is asked; what
    a passage has no end of by then is lost. With a `chance`, answers are asked for in other words,
    too, but not before every passage can be asked about. Unless `checked`, questions count whatever
    the base answers."""

    until: float | None = None
    chance: Chance | None = None
    checked: bool = True

    def allows(self, seconds: float = 0.0) -> bool:
        """Whether there is time for something that takes so long."""
        return self.until is None or time.monotonic() + seconds <= self.until


_ONCE = Effort()


class _OutOfTime(Exception):
    """Ends asking in the middle of a passage."""


@contextlib.contextmanager
def _until(effort: Effort, causal: Any) -> Iterator[None]:
    """A block that ends when its time does, with the pass of the base that runs then."""

    def stop(*_: object) -> None:
        if not effort.allows():
            raise _OutOfTime

    handle = causal.model.register_forward_pre_hook(stop)
    try:
        with contextlib.suppress(_OutOfTime):
            yield
    finally:
        handle.remove()


def write_about(
    causal: Any,
    tokenizer: BaseTokenizer,
    base: BaseFiles,
    texts: Sequence[str],
    *,
    effort: Effort = _ONCE,
    watch: Progress = silent,
) -> list[AboutText]:
    """Questions about documents in order, those that passed the round trip, or all; none where
    there is no writer for the base. Passages are taken evenly spread."""
    writer = open_writer(causal, tokenizer, base)
    if writer is None:
        return []
    asked: list[AboutText] = []
    with _until(effort, causal):
        for found in _ask_all(writer, list(cut(texts, tokenizer)), effort, watch):
            asked += found
    once = {(item.document, item.question.casefold()): item for item in reversed(asked)}
    return sorted(once.values(), key=lambda item: (item.document, item.start))


def _ask_all(
    writer: QuestionWriter, passages: Sequence[Passage], effort: Effort, watch: Progress
) -> Iterator[list[AboutText]]:
    """Questions, passage by passage: the likeliest ones, and those in other words with them, which
    spares reading twice, where there is time for that everywhere, else behind all others."""
    order, chance = spread(len(passages)), effort.chance
    fewer: dict[int, float] = {}  # seconds for the likeliest alone, by the passage's number
    seconds = 0.0  # that a passage takes in all wordings, as the last one says
    for place, number in enumerate(watch(order, "asking questions")):
        left = len(order) - place
        enough = effort.allows(seconds * left) if place else effort.until is None
        whole = replace(chance, likeliest=True) if chance and enough else None
        start = time.monotonic()
        yield ask_about(writer, passages[number], chance=whole, checked=effort.checked)
        seconds = time.monotonic() - start
        if chance and not whole:
            fewer[number] = seconds
            seconds *= 1 + chance.wordings * _WORDING_TIME
    for number, seconds in watch(list(fewer.items()), "asking in other words") if fewer else ():
        assert chance is not None
        if not effort.allows(chance.wordings * _WORDING_TIME * seconds):
            break
        yield ask_about(writer, passages[number], chance=chance, checked=effort.checked)


def open_writer(causal: Any, tokenizer: BaseTokenizer, base: BaseFiles) -> QuestionWriter | None:
    """The writer that is shipped for a base; None where there is none."""
    folder = _find_folder(base.name)
    if folder is None:
        return None
    return QuestionWriter(causal, make_chat(tokenizer), read_adapter(folder))


def _find_folder(base: str) -> Path | None:
    known = BY_NAME.get(base)
    return None if known is None else find_writer(known.alias)


def explain_silence(base: str) -> tuple[str, str]:
    """Why nothing was asked of documents on a base, by its name: (reason, what to do about it)."""
    if _find_folder(base) is not None:
        return (
            "nothing that the writer asked was answered by the base with the passage in its prompt",
            "the writer asks for names, numbers and dates told in plain sentences: name a document "
            "that has some, or write questions yourself, for `d2l probe --qa`",
        )
    able = [alias.name for alias in ALIASES.values() if _find_folder(alias.base) is not None]
    way = f"compile the document with --checkpoint {' or '.join(able)}, whose base has one, or "
    return (
        f"there is no question writer for the base {base}",
        f"{way if able else ''}write questions yourself, for `d2l probe --qa`",
    )


def cut(texts: Sequence[str], tokenizer: BaseTokenizer) -> Iterator[Passage]:
    """Passages of whole sentences that a writer can read."""
    for number, text in enumerate(texts):
        packed = pack_sentences(
            text, tokenizer=tokenizer, limit=_PASSAGE_TOKENS, minimum=_FEWEST_TOKENS
        )
        for piece in packed:
            if len(piece.token_ids) >= _FEWEST_TOKENS:
                yield Passage(number, piece.start, text[piece.start : piece.stop])


def ask_about(
    writer: QuestionWriter,
    passage: Passage,
    *,
    chance: Chance | None = None,
    checked: bool = True,
) -> list[AboutText]:
    """Questions about one passage, those that passed the round trip unless not `checked`."""
    answers = choose(find_answers(passage.text))
    spans = [Span(one.start, one.stop) for one in answers]
    asked = writer.write(passage.text, spans, chance=chance)
    kept = writer.keep_answered(passage.text, asked) if checked else asked
    return [
        AboutText(
            passage.document,
            passage.start + one.span.start,
            passage.start + one.span.stop,
            one.question,
            " ".join(one.span.of(passage.text).split()),
        )
        for one in kept
    ]


def choose(answers: Sequence[Answer]) -> list[Answer]:
    """At most so many as are asked for, in order, evenly spread. Things come last: rules that know
    no parts of speech are wrong about them most often, and fewer of them pass the round trip."""
    sure = [one for one in answers if one.kind != "thing"]
    things = [one for one in answers if one.kind == "thing"]
    taken = _thin(sure, _MOST_ASKED)
    taken += _thin(things, _MOST_ASKED - len(taken))
    return sorted(taken, key=lambda one: one.start)


def _thin(answers: Sequence[Answer], most: int) -> list[Answer]:
    """At most so many, evenly spread."""
    n = min(len(answers), most)
    return [answers[index * len(answers) // n] for index in range(n)]


def spread(n: int) -> list[int]:
    """Numbers below `n`, in an order whose every beginning lies evenly among them: by their bits
    read from behind."""
    bits = max(n - 1, 1).bit_length()
    return [m for m in (int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits)) if m < n]
