"""Questions for a fact: their answers in few words, one off the best part, one off all that answer.

Where both agree, the answer is sure. Text in, text out; needs no model and no torch.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from d2l.adapters.parts import PartRecord
from d2l.answer.passage import find_passage, lacks_number
from d2l.answer.said import Said
from d2l.datasets.silence import is_silence
from d2l.parts.router import find_stop_words, is_like
from d2l.words import join

#: A question word stands first, or behind a few words: "Up to which voltage …?"
_FACT = re.compile(rf"\W*(?:\w+\W+){{0,3}}?(?:{join('asks_fact')})\b", re.IGNORECASE)
_YES_NO = re.compile(rf"\W*(?:{join('asks_yes_no')})\b", re.IGNORECASE)
_FULL = re.compile(rf"\b(?:{join('asks_full')})(?!\w)", re.IGNORECASE)
_WORD = re.compile(r"\w+(?:[.,]\d+)*")
_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
#: Least share of an answer's words in an answer that agrees.
_LEAST_SHARED = 0.8


class Fact(NamedTuple):
    """Choice between two answers to a question; `is_sure`: all that was compared speaks for it."""

    is_second: bool
    is_sure: bool


def is_fact(question: str) -> bool:
    """True if few words can answer a question: it asks who, which or how many, or for yes or no."""
    asks = _FACT.match(question) or _YES_NO.match(question)
    return asks is not None and _FULL.search(question) is None


def choose_fact(
    question: str, first: str, second: str, parts: Sequence[PartRecord], *, short: bool
) -> Fact | None:
    """Choose between two answers: `first` was read off the best part, `second` off all `parts`.
    None if neither answers. Of two that agree, `short` takes the first, else the longer answers."""
    said = Said(question, parts)

    def speaks(answer: str) -> bool:
        """True if an answer is no refusal, and does not only repeat the question."""
        return not is_silence(answer) and said.find_own(answer) != []

    def holds(answer: str) -> bool:
        """True if a part has an answer's words near the question's."""
        passages = (find_passage(question, answer, part.text, part.headings) for part in parts)
        return any(passage is not None and passage.supported for passage in passages)

    if not speaks(first):
        return Fact(True, holds(second)) if speaks(second) and said.has(second) else None
    if not speaks(second):
        return Fact(False, holds(first))
    if agree(first, second):
        is_longer = not short and len(second) > len(first)
        return Fact(is_longer, not lacks_number(question, first))
    return Fact(holds(second) and not holds(first), is_sure=False)


def agree(one: str, other: str) -> bool:
    """True if one of two answers has the words and numbers of the other, but for stop words."""
    words, others = _split(one), _split(other)
    return _has(words, others) or _has(others, words)


def _split(answer: str) -> list[str]:
    words = _WORD.findall(answer.casefold())
    return [str(_NUMBERS.index(word)) if word in _NUMBERS else word for word in words]


def _has(words: Sequence[str], others: Sequence[str]) -> bool:
    stops = find_stop_words(" ".join(others))
    own = [word for word in others if word not in stops] or others
    shared = [any(is_like(word, other) for other in words) for word in own]
    return sum(shared) >= _LEAST_SHARED * len(own)
