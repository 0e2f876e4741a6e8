"""Rules that decide if a question and a reply count, by their words and without a model."""

import re
from collections.abc import Iterator, Set

from d2l.questions.marks import Span

#: Words of a question; shorter ones name nothing, longer ones tell the answer.
_WORDS = range(4, 31)
_ARTICLES = re.compile(r"\b(?:the|a|an)\b")
_WORD = re.compile(r"\w+(?:[.,:]\d+)*")
#: Words that an answer neither begins nor ends with, unless they were marked.
_FILLERS = frozenset(
    ["as", "at", "by", "for", "from", "in", "is", "it", "of", "on", "that", "to", "was", "with"]
)
#: Counts, which bases write in digits whatever the passage does.
_UNITS = (
    "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty"
)
_TENS = "ten twenty thirty forty fifty sixty seventy eighty ninety"
_COUNTS = {word: str(n) for n, word in enumerate(_UNITS.split(), start=1)} | {
    word: str(10 * n) for n, word in enumerate(_TENS.split(), start=1)
}
#: Words that a quotation may have beyond the marked ones.
_MORE_QUOTED = 4


def is_question(text: str, *, answer: str) -> bool:
    """True if a text is a single question that does not tell its own answer."""
    return (
        len(text.split()) in _WORDS
        and text.endswith("?")
        and text.count("?") == 1
        and "[[" not in text
        and f" {' '.join(plain_words(answer))} " not in f" {' '.join(plain_words(text))} "
    )


def agrees(reply: str, answer: str, *, question: str = "") -> bool:
    """True if a reply gives the answer, apart from case, articles, punctuation and digits.

    The reply may add the question's words and a few others. Of a long answer most words suffice.
    """
    given, wanted = list(plain_words(reply)), list(plain_words(answer))
    if not given or not wanted:
        return False
    if f" {' '.join(wanted)} " in f" {' '.join(given)} ":
        known = set(plain_words(question))
        return sum(word not in known for word in given) <= 2 * len(wanted) + 6
    shared = len(set(given) & set(wanted))
    return len(wanted) > 3 and 2 * shared / (len(set(given)) + len(set(wanted))) >= 0.8


def quote(reply: str, text: str, span: Span, *, question: str = "") -> Span:
    """Widen a marked span to the words of the text that a reply quotes around it.

    Rules mark "5" of "5–8 bar", or one city of three, and the base replies with all of it. Words of
    the question and fillers at the reply's ends do not count.
    """
    words = [match for match in _WORD.finditer(text) if not _ARTICLES.fullmatch(_plain(match))]
    plain, known = [_plain(match) for match in words], set(plain_words(question))
    wanted = list(plain_words(span.of(text)))
    given = _strip(list(plain_words(reply)), (known | _FILLERS) - set(wanted))
    if not given or len(given) > len(wanted) + _MORE_QUOTED:
        return span
    for first in range(len(words) - len(given) + 1):
        start, stop = words[first].start(), words[first + len(given) - 1].end()
        if start < span.stop and span.start < stop and plain[first : first + len(given)] == given:
            return Span(min(start, span.start), max(stop, span.stop))
    return span


def _strip(words: list[str], ignored: Set[str]) -> list[str]:
    """Remove ignored words at either end."""
    while words and words[0] in ignored:
        words = words[1:]
    while words and words[-1] in ignored:
        words = words[:-1]
    return words


def plain_words(text: str) -> Iterator[str]:
    """Yield the words in small letters, without articles, counts in digits; numbers keep points."""
    for match in _WORD.finditer(text):
        if not _ARTICLES.fullmatch(_plain(match)):
            yield _plain(match)


def _plain(word: re.Match[str]) -> str:
    plain = word.group().casefold()
    return _COUNTS.get(plain, plain)
