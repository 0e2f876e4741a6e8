"""Words for an opening that no text holds: what a tokenizer's vocabulary has left over.

A byte-pair vocabulary is built by joining pieces, and keeps the pieces: " includ" is in it, and
stands in no text, since "includ" is always a part of a longer word that has a token of its own. A
seat with an address needs such a word, for a word in a text would be taken for the seat.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from d2l.bases.tokenizers import BaseTokenizer

_PIECE = re.compile(r" ([a-z]{4,9})")
_WORD = re.compile(r" ([a-z]{2,14})")
_MOST_ADDED = 4  # letters that a whole word has more
_SELDOM = 10  # of ten million tokens: pieces that stand in no text
_OFTEN, _LESS_OFTEN = 300, 100  # of as many: words that leave pieces behind
_PER = 10_000_000
_ALIKE = 5  # letters that no two words of an opening begin with together


def count_tokens(texts: Sequence[str], tokenizer: BaseTokenizer) -> tuple[Counter[int], int]:
    """How often each token stands in these texts, and how many tokens there are."""
    counts = Counter[int]()
    for text in texts:
        counts.update(tokenizer.encode(text))
    return counts, counts.total()


def list_leftovers(pieces: Sequence[str], counts: Mapping[int, int], total: int) -> list[int]:
    """Ids of pieces that texts next to never hold, and that begin words which they often do; the
    rarest first, and behind these pieces of words that are less frequent. `pieces` is the text of
    each id, `counts` of how many there are in texts of `total` tokens."""
    share = max(total, 1) / _PER
    words = {found[1]: n for n, piece in enumerate(pieces) if (found := _WORD.fullmatch(piece))}
    often: dict[str, int] = {}
    for word, number in words.items():
        for start in _beginnings(word):
            often[start] = often.get(start, 0) + counts.get(number, 0)
    left = [
        number
        for word, number in words.items()
        if _PIECE.fullmatch(pieces[number])
        and counts.get(number, 0) <= _SELDOM * share
        and often.get(word, 0) >= max(_LESS_OFTEN * share, 1)
    ]

    def rank(number: int) -> tuple[bool, int, int]:
        word = pieces[number].strip()
        return often[word] < _OFTEN * share, counts.get(number, 0), number

    return sorted(left, key=rank)


def _beginnings(word: str) -> Iterator[str]:
    for added in range(1, _MOST_ADDED + 1):
        if len(word) > added:
            yield word[:-added]


def choose_leftovers(
    candidates: Sequence[int], *, pieces: Sequence[str], before: str, tokenizer: BaseTokenizer
) -> list[int]:
    """Those that begin differently from all before them, and that stand as one token each behind
    the text `before` and one another."""
    words: list[int] = []
    text, begun = before, set[str]()
    head = tokenizer.encode(before)
    for number in candidates:
        start = pieces[number].strip()[:_ALIKE]
        if start in begun:
            continue
        if tokenizer.encode(text + pieces[number]) == [*head, *words, number]:
            words.append(number)
            text += pieces[number]
            begun.add(start)
    return words
