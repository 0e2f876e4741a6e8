"""Question → the parts of a document that may answer it, best first: BM25 over character n-grams.

Text in, scores out; needs no model and no torch. Character 4-grams of words replace stems and need
no knowledge of the language (McNamee and Mayfield, "Character N-Gram Tokenization for European
Language Text Retrieval", 2004); texts without blanks are cut into pairs of characters. Libraries
for BM25 take lists of tokens; making these in Python takes ten times as long as this module.
"""

import functools
import math
import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from stop_words import AVAILABLE_LANGUAGES, get_stop_words

#: Constants of BM25, as Lucene has them (Robertson and Zaragoza, 2009): k1, higher: repeated words
#: count more; b, higher: long parts count less.
_K1, _B = 1.2, 0.75
#: A word, or a number with its decimals.
WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+")
_WORD = re.compile(r"\w+")
_NO_WORD = re.compile(r"[\W_]+")
#: Scripts without blanks between words: Thai, Lao, Khmer, kana, Han.
_PAIRED = (
    (0x0E00, 0x0EFF),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x3400, 0x9FFF),
    (0x20000, 0x3FFFF),
)
_MIX = np.uint64(0x9E3779B97F4A7C15)


class Router:
    """Router: scores of parts for questions. Equal texts and questions give equal scores."""

    def __init__(self, texts: Sequence[str]) -> None:
        grams = [split_grams(text) for text in texts]
        lengths = np.array([len(own) for own in grams], dtype=np.float64)
        owners = np.repeat(np.arange(len(texts)), lengths.astype(np.int64))
        codes = np.concatenate([*grams, np.empty(0, np.uint64)])
        order = np.lexsort((owners, codes))
        codes, owners = codes[order], owners[order]
        is_new = np.ones(len(codes), dtype=bool)
        is_new[1:] = (codes[1:] != codes[:-1]) | (owners[1:] != owners[:-1])
        starts = np.flatnonzero(is_new)
        counts = np.diff(np.append(starts, len(codes))).astype(np.float64)
        self.n_parts = len(texts)
        self._codes, self._owners = codes[starts], owners[starts]
        norm = (
            _K1 * (1 - _B + _B * lengths / max(float(lengths.mean()), 1.0))
            if len(texts)
            else lengths
        )
        self._weights = counts * (_K1 + 1) / (counts + norm[self._owners])

    def score(self, question: str) -> NDArray[np.float64]:
        """BM25 of every part (parts,): 0 where a part shares nothing with the question."""
        scores = np.zeros(self.n_parts)
        for start, stop, weight in self._look_up(question):
            scores[self._owners[start:stop]] += weight * self._weights[start:stop]
        return scores

    def best(self, question: str) -> float:
        """Upper bound of a part's score."""
        return sum(weight for _, _, weight in self._look_up(question)) * (_K1 + 1)

    def _look_up(self, question: str) -> Iterator[tuple[int, int, float]]:
        """Yield [start, stop) of each n-gram of a question among the rows, and its weight: idf."""
        asked = np.unique(split_grams(drop_stop_words(question)))
        starts, stops = (np.searchsorted(self._codes, asked, side) for side in ("left", "right"))
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            n = stop - start  # parts that have the n-gram
            yield start, stop, math.log(1 + (self.n_parts - n + 0.5) / (n + 0.5))


def drop_stop_words(question: str) -> str:
    """Drop the stop words of a question, in the language with most of them in it: words such as
    "how" are rare in manuals, and would weigh most. A question of stop words alone stays whole."""
    stops = find_stop_words(question)
    left = [word for word in _WORD.findall(question) if word.casefold() not in stops]
    return " ".join(left) or question


def find_stop_words(text: str) -> frozenset[str]:
    """Find the stop words of a text's language: the language with most stop words in the text."""
    words = [word.casefold() for word in _WORD.findall(text)]
    return max(_read_stop_words(), key=lambda own: sum(word in own for word in words))


def is_like(word: str, other: str) -> bool:
    """True for forms of a word: "licenses" and "licensing"."""
    if word[:1].isdigit() or other[:1].isdigit():
        return word == other
    n_same = max(4, math.ceil(0.55 * max(len(word), len(other))))
    return word == other or (len(word) >= n_same and word[:n_same] == other[:n_same])


def is_near(word: str, other: str) -> bool:
    """True for forms of a word, also with typing errors: "nodmon" and "nodemon". They begin alike,
    and share three tenths of their n-grams."""
    if is_like(word, other) or word[:3] != other[:3] or abs(len(word) - len(other)) > 1:
        return is_like(word, other)
    return word.isalpha() and np.isin(split_grams(word), split_grams(other)).mean() > 0.3


def split_content(text: str, stops: frozenset[str]) -> list[str]:
    """Split a text into words and numbers but stop words; into these if it has no others."""
    words = WORD.findall(text.casefold())
    return [word for word in words if word not in stops or word[0].isdigit()] or words


def share_words(words: Sequence[str], others: Collection[str]) -> float:
    """Share of words with a form among others; 0 without words."""
    return sum(any(is_like(word, other) for other in others) for word in words) / (len(words) or 1)


@functools.cache
def _read_stop_words() -> tuple[frozenset[str], ...]:
    languages = sorted(AVAILABLE_LANGUAGES, key=lambda name: (name != "english", name))
    return tuple(frozenset(get_stop_words(language)) for language in languages)


def split_grams(text: str) -> NDArray[np.uint64]:
    """Encode a text's n-grams, with repetitions: of words, whose ends count, and pairs of
    characters in scripts without blanks."""
    plain = f" {_NO_WORD.sub(' ', unicodedata.normalize('NFKC', text).casefold())} "
    points = np.frombuffer(plain.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    paired = np.zeros(len(points), dtype=bool)
    for low, high in _PAIRED:
        paired |= (points >= low) & (points <= high)
    words = np.where(paired, np.uint64(ord(" ")), points)
    blank = words == ord(" ")
    inner = ~blank[1:-2] & ~blank[2:-1]
    letter = blank[:-2] & ~blank[1:-1] & blank[2:]  # words of one character
    return np.concatenate(
        [
            _encode(words, np.flatnonzero(inner), 4),
            _encode(words, np.flatnonzero(letter), 3),
            _encode(points, np.flatnonzero(paired[:-1] & paired[1:]), 2),
        ]
    )


def _encode(points: NDArray[np.uint64], starts: NDArray[np.intp], n: int) -> NDArray[np.uint64]:
    """Encode each n-gram that begins at `starts` as a number."""
    codes = np.full(len(starts), n, dtype=np.uint64)
    for offset in range(n):
        codes = (codes ^ points[starts + offset]) * _MIX  # wraps around at 2⁶⁴
    return codes
