"""Sentences of a text, by the three rules that there are: for people, for chunks, for exercises.

Text in, places or sentences out. Knows no format and no model. The rules differ since they ask
different things of a text, and two of them are bound to what was made with them:

- `find_sentences` is for what people read: lines that a page broke are one again, "e.g. this" ends
  nothing, and marks of list items and headings are left out.
- `split_sentences` is where chunks may be cut: nothing of the text is left out, and a line's end
  always is a border. Which adapter a document gives depends on it, and which passages training and
  evaluation cut.
- `list_sentences` is what training draws exercises from: whatever a full stop or a line ends. What
  a step draws depends on it, so a run goes on as it began only while it stays as it is.
"""

import re
from collections.abc import Iterator

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'”’)\]]*\s+(?![a-z])")
_CUT = re.compile(r"(?<=[.!?])\s+|\n+")
_DRAWN = re.compile(r"[^.!?\n]+[.!?]?")
_DRAWN_WHOLE = re.compile(r"[^.!?\n]+(?:[.!?](?=\S)[^.!?\n]*)*[.!?]?")
_LIST_MARK = re.compile(r"\s*(?:[-*+•·>#|=]+|\d+[.)]|\^?\[\d+\])\s+")
#: Length of lines, in characters, that were broken where the page ended, not where they do.
_WRAPPED = range(50, 121)


def find_sentences(text: str) -> Iterator[tuple[int, int]]:
    """[start, stop) of sentences; marks of list items and headings are left out."""
    for start, stop in _find_paragraphs(text):
        begin = start
        ends = [m.span() for m in _SENTENCE_END.finditer(text, start, stop)]
        for end, following in [*ends, (stop, stop)]:
            mark = _LIST_MARK.match(text, begin, end)
            yield (mark.end() if mark else begin), end
            begin = following


def split_sentences(text: str) -> list[tuple[str, int]]:
    """Sentences without surrounding white space, each with its first character's position."""
    found, start = [], 0
    ends = [(match.start(), match.end()) for match in _CUT.finditer(text)]
    for stop, following in [*ends, (len(text), len(text))]:
        raw = text[start:stop]
        stripped = raw.strip()
        if stripped:
            found.append((stripped, start + raw.index(stripped)))
        start = following
    return found


def list_sentences(text: str, *, keep_points: bool) -> list[str]:
    """Sentences with the white space before them. With `keep_points` a point inside "3.5" ends
    none, so that the number can be asked for; words to recite may begin or end there."""
    return (_DRAWN_WHOLE if keep_points else _DRAWN).findall(text)


def _find_paragraphs(text: str) -> Iterator[tuple[int, int]]:
    """[start, stop) of lines that belong together.

    A line goes on with the next if it looks wrapped: about as long as a line of a page, not at a
    sentence's end, and the next is neither empty nor an item of a list.
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
