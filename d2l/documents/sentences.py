"""Sentences of a text by two rules: for people and for chunks.

- `find_sentences` serves readers: it rejoins wrapped lines, "e.g. this" ends no sentence, and marks
  of list items and headings are left out.
- `split_sentences` cuts chunks: it leaves nothing out, and a line's end is always a border.
  Adapters depend on it, and so do the passages of training and evaluation.
"""

import re
from collections.abc import Iterator

_SENTENCE_END = re.compile(r"(?<=[.!?])(?<!\bp\.)(?<!\bFig\.)[\"'”’)\]]*\s+(?![a-z])")
_CUT = re.compile(r"(?<=[.!?])\s+|\n+")
_LIST_MARK = re.compile(r"\s*(?:[-*+•·>#|=]+|\d+[.)]|\^?\[\d+\])\s+")
#: Length, in characters, of lines that the width of the page broke.
_WRAPPED = range(50, 121)


def find_sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield [start, stop) of sentences without the marks of list items and headings."""
    for start, stop in _find_paragraphs(text):
        begin = start
        ends = [m.span() for m in _SENTENCE_END.finditer(text, start, stop)]
        for end, following in [*ends, (stop, stop)]:
            mark = _LIST_MARK.match(text, begin, end)
            yield (mark.end() if mark else begin), end
            begin = following


def split_sentences(text: str) -> list[tuple[str, int]]:
    """List sentences without surrounding white space, with their positions."""
    sentences, start = [], 0
    ends = [(match.start(), match.end()) for match in _CUT.finditer(text)]
    for stop, following in [*ends, (len(text), len(text))]:
        raw = text[start:stop]
        stripped = raw.strip()
        if stripped:
            sentences.append((stripped, start + raw.index(stripped)))
        start = following
    return sentences


def _find_paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """Yield [start, stop) of lines that belong together.

    A line continues in the next if it looks wrapped: about as long as a line of a page, not at a
    sentence's end, and the next line is neither empty nor an item of a list.
    """
    begin, wrapped = 0, False
    start = 0
    for line in text.splitlines(keepends=True):
        goes_on = wrapped and line.strip() and not _LIST_MARK.match(line)
        if not goes_on:
            if begin < start:
                yield begin, start
            begin = start
        bare = line.strip()
        wrapped = len(bare) in _WRAPPED and bare[-1] not in ".!?:"
        start += len(line)
    if begin < start:
        yield begin, start
