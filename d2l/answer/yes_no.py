"""Questions for yes or no: the odds of the two words decide, with the sentence that decides.

Text in, text out; needs no model and no torch.
"""

import re
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

from d2l.adapters.parts import PartRecord
from d2l.answer.passage import find_passage
from d2l.parts.router import find_stop_words, is_like, share_words, split_content
from d2l.words import LANGUAGES, read_words

#: Odds that decide, in nats, of yes against no and of no against yes. Bases say yes too easily.
#: Higher: more often the sentence alone answers. Chosen on 26 questions to three manuals;
#: d2l/hypernets/README.md has the figures.
_LEAST_YES, _LEAST_NO = 2.0, 0.7
#: Least share of a question's words in a part that decides; higher: more is not found.
_LEAST_ASKED = 0.6
#: Least share of pairs of words whose order turns: "Does B override A?", "A overrides B".
_LEAST_TURNED = 0.3


class YesNo(NamedTuple):
    """Yes and no in the language of a question."""

    yes: str
    no: str


class Decision(NamedTuple):
    """Yes or no, "" if the sentence alone answers, and the nearest sentence of the parts."""

    word: str
    sentence: str


def find_yes_no(question: str) -> YesNo | None:
    """Find the two words that can answer a question; None if it asks for more than yes or no."""
    lists = read_words()
    for code in LANGUAGES:
        begins = "|".join(lists["asks_yes_no"][code])
        if begins and re.match(rf"\W*(?:{begins})\b(?!.*\bor\b)", question, re.IGNORECASE):
            return YesNo(lists["yes"][code][0], lists["no"][code][0])
    return None


def decide(
    question: str, words: YesNo, odds: float, parts: Sequence[PartRecord]
) -> Decision | None:
    """Decide a question by the odds of yes against no, in nats. None if the parts have too few of
    the question's words."""
    asked = _split(question)
    near = [
        (passage.weight, passage.text)
        for part in parts
        if share_words(asked, _split(part.searched)) >= _LEAST_ASKED
        and (passage := find_passage(question, "", part.text, part.headings)) is not None
    ]
    if not near:
        return None
    sentence = " ".join(max(near)[1].split())
    if odds <= -_LEAST_NO:
        return Decision(f"{words.no}.", sentence)
    is_clear = odds >= _LEAST_YES and not turns_round(sentence, question)
    return Decision(f"{words.yes}." if is_clear else "", sentence)


def turns_round(sentence: str, question: str) -> bool:
    """True if a sentence has a question's words in another order."""
    words = _split(sentence)
    places = [_find(other, words) for other in dict.fromkeys(_split(question))]
    pairs = list(combinations([place for place in places if place is not None], 2))
    return sum(first > second for first, second in pairs) > _LEAST_TURNED * len(pairs)


def _find(word: str, words: Sequence[str]) -> int | None:
    """Find the place of a word, else of a form of it."""
    if word in words:
        return words.index(word)
    return next((n for n, other in enumerate(words) if is_like(word, other)), None)


def _split(text: str) -> list[str]:
    return split_content(text, find_stop_words(text))
