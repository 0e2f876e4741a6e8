"""Headings of a PDF: bookmarks at their positions in pages, and paragraphs that look like headings.

Bookmarks, and the paragraphs of pages in, headings out.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from d2l.readers.parsing import CELL, MAX_TITLE_CHARS, Heading
from d2l.readers.pdf.layout import HAS_LEADER, Line, Paragraph, same_size

LONGEST_HEADING = 80  # characters
MIN_LETTERS = 3  # of a heading without a number
#: "3 Title", "3.2 Title", "A.1 Title", "Chapter 3: Title", "Chapter 3"
NUMBERED = re.compile(
    r"(?:(?:Chapter|Part|Section|Appendix) (?P<named>[\dA-Z]{1,4}(?:\.\d{1,3})*)(?=$|[.: ])"
    r"|(?P<bare>\d{1,3}(?:\.\d{1,3})*|[A-Z](?:\.\d{1,3})+)\.?(?= ))[.:]? ?(?P<title>.*)"
)
#: Beginnings of captions, ends of sentences, and page numbers; a heading may be a question.
NOT_HEADING = re.compile(
    r"^(?:Fig\.|Figure|Table|Listing) ?\d|[.:;,。：；，…]$|^[\W\d]*+[^\W\d].* \d{1,4}$"
)


class Bookmark(NamedTuple):
    """An entry of a document's outline; level 1 is the topmost."""

    level: int
    title: str


def place_bookmarks(bookmarks: Sequence[Bookmark], text: str) -> Iterator[Heading]:
    """Yield a heading for each bookmark of a page, in order, at most as many as the page has lines.

    Its position is the line that equals the bookmark's title, else the title inside the text, else
    the position of the heading before. Case, spaces and signs do not matter.
    """
    start = stop = 0
    for level, title in bookmarks[: text.count("\n") + 1]:
        words = r"\W{1,9}".join(re.findall(r"\w+", title[:MAX_TITLE_CHARS]))
        end = r"[^\w\n]*$" if len(title) <= MAX_TITLE_CHARS else ""
        for pattern in (rf"^(?:\S{{1,12}} ){{0,2}}{words}{end}", rf"\b{words}") if words else ():
            if match := re.compile(pattern, re.I | re.M).search(text, stop):
                start, stop = match.span()
                break
        yield Heading(start, level, title)


class _Candidate(NamedTuple):
    """A paragraph that looks like a heading; `page` counts from 1."""

    page: int
    start: int
    title: str
    size: int  # points
    depth: int  # of its number; 0: without a number


def recognize_headings(pages: Sequence[Sequence[Paragraph]]) -> dict[int, list[Heading]]:
    """Recognize the headings of each page, counted from 1, by their type.

    A heading is a short separate paragraph, larger than the body or bold. Its level is the depth of
    its number, or depends on the size if it has no number.
    """
    sizes: Counter[float] = Counter()
    for line in (line for page in pages for paragraph in page for line in paragraph.lines):
        sizes[round(line.size, 1)] += len(line.text)
    body = Line("", 0.0, 0.0, max(sizes, key=sizes.__getitem__, default=0.0))
    candidates = [c for number, page in enumerate(pages, 1) for c in _search(number, page, body)]
    levels = _rank_sizes(candidates)
    headings: defaultdict[int, list[Heading]] = defaultdict(list)
    for page, start, title, size, depth in candidates:
        headings[page].append(Heading(start, depth or levels[size], title))
    return headings


def _search(number: int, page: Sequence[Paragraph], body: Line) -> Iterator[_Candidate]:
    """Yield the paragraphs of a page that are separate and look like headings; `body` has the size
    of the body."""
    inner = (
        below.gap != "\n" or not same_size(above.lines[-1], below.lines[0])
        for above, below in pairwise(page)
    )
    apart = [True, *inner, True]  # the borders of paragraphs
    start = 0
    for index, paragraph in enumerate(page):
        start += len(paragraph.gap)
        depth = _read_depth(paragraph, body) if apart[index] and apart[index + 1] else None
        if depth is not None:
            yield _Candidate(number, start, paragraph.text, round(paragraph.lines[0].size), depth)
        start += len(paragraph.text)


def _read_depth(paragraph: Paragraph, body: Line) -> int | None:
    """Read the depth of a heading's number, 0 without a number; None for other paragraphs."""
    text, lines = paragraph.text, paragraph.lines
    if len(text) > LONGEST_HEADING or CELL in text or HAS_LEADER.search(text):
        return None
    number = NUMBERED.match(text)
    title = number["title"] if number else text
    if (title and not (title[0].isalpha() and not title[0].islower())) or NOT_HEADING.search(title):
        return None
    is_larger = all(line.size > body.size and not same_size(line, body) for line in lines)
    is_bold = all(line.bold and line.size > 0.95 * body.size for line in lines)
    if number:
        depth = (number["named"] or number["bare"]).count(".") + 1
        return depth if is_larger or is_bold else None
    is_code = any(line.mono for line in lines)
    is_set_off = is_larger or (is_bold and not is_code)
    return 0 if is_set_off and sum(map(str.isalpha, text)) >= MIN_LETTERS else None


def _rank_sizes(candidates: Sequence[_Candidate]) -> dict[int, int]:
    """Find the level of headings without a number for each size: the deepest number of this size,
    else one below the next larger size."""
    depths: defaultdict[int, int] = defaultdict(int)
    for candidate in candidates:
        depths[candidate.size] = max(depths[candidate.size], candidate.depth)
    level = 0
    return {size: (level := depths[size] or level + 1) for size in sorted(depths, reverse=True)}
