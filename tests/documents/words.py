"""The words that d2l keeps of a document, against those that another program finds in it."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from d2l.documents.document import Document

_BROKEN = re.compile(r"(?<=\w)[-\u2010\u00ad]\s*\n\s*(?=\w)")  # a word at the end of a line
_DIRECTION = re.compile(r"[\u200e\u200f\u202a-\u202e\u2066-\u2069]")
_COUNT = re.compile(r"([\d,]+) characters? of")  # left out, as a remark says


class Tally(NamedTuple):
    """How many words another program finds, and what became of them; `left_out`: d2l says so."""

    words: int
    kept: int
    left_out: Counter[str]
    lost: Counter[str]


def split_words(text: str) -> list[str]:
    """Words in small letters, without hyphens, marks and control characters. Letters that are
    written from right to left stand in any order: some programs give them as they are painted."""
    text = _BROKEN.sub("", unicodedata.normalize("NFKC", text)).casefold()
    text = _DIRECTION.sub(" ", text)
    text = "".join(c for c in text if unicodedata.category(c) not in ("Mn", "Cf", "Pd"))
    return [
        "".join(sorted(word)) if unicodedata.bidirectional(word[0]) in ("R", "AL") else word
        for word in re.findall(r"[^\W_]+", text)
    ]


def tally(document: Document, readings: Iterable[str]) -> Tally:
    """Compare with the reading that has most of its words in the document; the first that has all
    of them is the last that is asked for.

    A word with other spaces in it counts as kept. Missing words are left out, and not lost, where
    the document tells of as many characters.
    """
    own = split_words(document.text)
    compared = []
    for words in map(split_words, readings):
        compared.append((find_missing(words, own), words))
        if not compared[-1][0]:
            break
    missing, words = min(compared, key=lambda pair: pair[0].total())
    n_told = sum(found.count for found in document.findings if found.kind == "hidden")
    n_told += sum(int(n.replace(",", "")) for n in _COUNT.findall("\n".join(document.remarks)))
    is_told = sum(len(word) * n for word, n in missing.items()) <= n_told
    left_out, lost = (missing, Counter[str]()) if is_told else (Counter[str](), missing)
    return Tally(len(words), len(words) - missing.total(), left_out, lost)


def find_missing(words: Sequence[str], own: Sequence[str]) -> Counter[str]:
    """Count the words that are missing among a document's own, in whatever way they are spaced."""
    run, own_run = "".join(words), "".join(own)
    missing = {
        word: min(n, run.count(word) - own_run.count(word))
        for word, n in (Counter(words) - Counter(own)).items()
    }
    return Counter({word: n for word, n in missing.items() if n > 0})
