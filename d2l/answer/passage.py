"""Answer → its passage: the sentences or rows of a text that carry it, and whether they do.

Text in, text out; needs no model and no torch.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from d2l.documents.sentences import find_sentences
from d2l.parts.router import WORD, find_stop_words, share_words, split_content, split_grams
from d2l.words import join

#: Characters and sentences of a passage, at most.
LONGEST: Final = 300
_MOST_SENTENCES = 4
#: Weight of the answer's words, where the question's have 1 (higher: nearer to the answer), and
#: penalty of a passage of `LONGEST` characters (higher: shorter passages).
_ANSWER, _LENGTH = 2.0, 0.3
#: Least shares of the answer's own words, and of the question's, in a passage that supports the
#: answer; higher: fewer answers count as supported.
#: Chosen on two manuals; d2l/hypernets/README.md has the figures of all four.
_LEAST_OWN, _LEAST_ASKED = 0.8, 0.34
_CELL = " | "  # between the cells of a row, as readers write tables
_ASKS_NUMBER = re.compile(rf"\W*(?:\w+\W+){{0,2}}(?:{join('asks_number')})\b", re.IGNORECASE)
_NUMBER = re.compile(rf"\d|\b(?:{join('number')})\b", re.IGNORECASE)
_MARK = re.compile(r"^\s*\d+[.)]\s", re.MULTILINE)  # of an item
_LEAD = re.compile(join("states"))
_ADDRESSES = re.compile(r"(?:[\s*•-]|<?(?:https?://|www\.)\S++)++")  # of a whole line

Grams = NDArray[np.uint64]


@dataclass(frozen=True)
class Passage:
    """Passage of a text; `weight`: of its words that the answer and the question have, too.
    `supported`: the answer's words stand near each other there, and some of the question's."""

    text: str
    weight: float
    supported: bool


def find_passage(
    question: str, answer: str, text: str, headings: Sequence[str] = ()
) -> Passage | None:
    """Find the passage of a text below `headings` that carries an answer to a question; None if
    the text has no sentence. Without an answer: the nearest to the question, but no addresses."""
    units = _list_units(text, headings)
    if not answer:
        units = [unit for unit in units if not _ADDRESSES.fullmatch(text[slice(*unit)])]
    own = [np.unique(split_grams(text[start:stop])) for start, stop in units]
    known, counts = np.unique(np.concatenate([*own, np.empty(0, np.uint64)]), return_counts=True)

    def weigh(words: str) -> tuple[Grams, NDArray[np.float64]]:
        """Weigh a text's n-grams by their rareness, as shares."""
        grams = np.unique(split_grams(words))
        n_units = np.zeros(len(grams))
        at = np.searchsorted(known, grams)
        found = at < len(known)
        found[found] = known[at[found]] == grams[found]
        n_units[found] = counts[at[found]]
        weights = np.log(1 + (len(units) + 0.5) / (n_units + 0.5))
        return grams, weights / max(float(weights.sum()), 1e-9)

    asked = weigh(" ".join(split_content(question, find_stop_words(question))))
    both = ((asked, 1.0), (weigh(answer), _ANSWER))
    best: tuple[float, int, int] | None = None
    for first in range(len(units)):
        for last in range(first, min(first + _MOST_SENTENCES, len(units))):
            length = units[last][1] - units[first][0]
            if last > first and length > LONGEST:
                break
            grams = np.concatenate(own[first : last + 1])
            shares = (factor * float(w[np.isin(g, grams)].sum()) for (g, w), factor in both)
            weight = sum(shares) - _LENGTH * length / LONGEST
            if best is None or weight > best[0] + 1e-9:
                best = weight, first, last
    if best is None:
        return None
    weight, first, last = best
    shown = _write(text, units, first, last)
    reach = 2 * len(answer)  # the rows of a list that it tells repeat their heads
    near = text[max(units[first][0] - reach, 0) : units[last][1] + reach]
    return Passage(shown, weight, is_supported(question, answer, near, text))


def _list_units(text: str, headings: Sequence[str]) -> list[tuple[int, int]]:
    """List [start, stop) of sentences and rows, long ones in pieces, without the headings above."""
    units = []
    for start, stop in (line for span in find_sentences(text) for line in _split_rows(text, *span)):
        while (line := text[start:stop].partition("\n"))[0].strip() and all(
            title.strip() in headings for title in line[0].split(" > ")
        ):
            start += len(line[0]) + len(line[1])
        while stop - start > LONGEST:
            cut = text.rfind(" ", start + 1, start + LONGEST)
            cut = cut if cut > 0 else start + LONGEST
            units.append((start, cut))
            start = cut
        if text[start:stop].strip():
            units.append((start, stop))
    return units


def _split_rows(text: str, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Yield the rows of a table, each with its line's end; else the whole stretch."""
    if _CELL not in text[start:stop]:
        yield start, stop
        return
    for line in text[start:stop].splitlines(keepends=True):
        yield start, start + len(line)
        start += len(line)


def _write(text: str, units: Sequence[tuple[int, int]], first: int, last: int) -> str:
    """Write some units, rows below the head of their table, unless they name their columns."""
    shown = [" ".join(text[start:stop].split()) for start, stop in units]
    head = first
    while head and _CELL in shown[first] and _CELL in shown[head - 1]:
        head -= 1
    is_head = head < first and ": " not in shown[first]
    written = shown[head] + "\n" if is_head else ""
    for n in range(first, last + 1):
        is_line = "\n" in text[units[n - 1][1] - 1 : units[n][0]] if n > first else False
        written += ("\n" if is_line else " ") * (n > first) + shown[n]
    return written


def lacks_number(question: str, answer: str) -> bool:
    """True if a question asks for a number, and the answer has none."""
    return _ASKS_NUMBER.match(question) is not None and not _NUMBER.search(answer)


def is_supported(question: str, answer: str, near: str, text: str) -> bool:
    """True if a stretch of the text has the answer's own words, its numbers exactly, and some of
    the question's words. The last is not asked of a text in another language."""
    stops = find_stop_words(f"{question} {answer}")
    asked, said = split_content(question, stops), WORD.findall(near.casefold())
    given = WORD.findall(question.casefold())
    words = WORD.findall(_MARK.sub("", _LEAD.sub("", answer)).casefold())
    own = split_content(" ".join(word for word in words if word not in given), stops)
    numbers = {word for word in own if word[0].isdigit()}
    if lacks_number(question, answer) or not own or not numbers <= set(said):
        return False
    if share_words(own, said) < _LEAST_OWN:
        return False
    language = find_stop_words(text)
    is_foreign = sum(word in language for word in given) < sum(word in stops for word in given)
    return is_foreign or not asked or share_words(asked, said) >= _LEAST_ASKED
