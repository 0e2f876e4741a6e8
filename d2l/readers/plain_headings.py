"""Headings of plain text: numbered, underlined, or at the margin of an indented text.

A text in, headings out. A line that only stands alone is no heading: it may be any short paragraph.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate

from d2l.readers.parsing import Heading
from d2l.readers.pdf.headings import LONGEST_HEADING, NOT_HEADING, NUMBERED

UNDERLINE = re.compile(r"([=~^-])\1{2,}$")
LEVELS = {"=": 1, "-": 2, "~": 3, "^": 4}  # of an underlined title
#: Columns, leaders to a page's number, and code.
NO_TITLE = re.compile(r"\S {3,}\S|\.{4}|(?:\. ){3}|[{};=<>|]|\w\(|[({,]$|\"{3}$")
MOST_INDENTED = 0.6  # of the lines of a manual page or an RFC, at least
SUBSECTION = re.compile(r"\s*(\d{1,3})\.\d")


def find_plain_headings(text: str) -> Iterator[Heading]:
    """Yield the headings of a plain text.

    A numbered title that stands more than once is a heading where it stands last: before, it stands
    in the contents.
    """
    lines = text.split("\n")
    starts = accumulate((len(line) + 1 for line in lines[:-1]), initial=0)
    filled = [line for line in lines if line.strip()]
    indented = sum(line[0] in " \t" for line in filled) >= MOST_INDENTED * len(filled)
    chapters = {number[1] for line in filled if (number := SUBSECTION.match(line))}
    found = [
        Heading(start, *heading)
        for at, start in enumerate(starts)
        if (heading := _read(lines, at, chapters, indented=indented))
    ]
    last = {_key(title): start for start, _, title in found}
    yield from (h for h in found if last[_key(h.title)] == h.start or not NUMBERED.match(h.title))


def _key(title: str) -> tuple[str, ...]:
    """Number and name of a title, as contents have them: "Chapter 3: Care" is their "3. Care"."""
    number = NUMBERED.match(title)
    return (number["named"] or number["bare"], number["title"].strip()) if number else (title,)


def _read(
    lines: Sequence[str], at: int, chapters: Collection[str], *, indented: bool
) -> tuple[int, str] | None:
    """Read the level and title of a line that is one by itself; a text is `indented` but for these.

    A number without a point is an item's, unless one of the `chapters` with numbers below it.
    """
    line, title = lines[at], " ".join(lines[at].split())
    below = lines[at + 1] if at + 1 < len(lines) else ""
    number = NUMBERED.match(title)
    name = number["title"].strip() if number else title
    if not title or len(title) > LONGEST_HEADING or (at and lines[at - 1].strip()):
        return None
    if name[:1].islower() or NOT_HEADING.search(name) or NO_TITLE.search(line.strip()):
        return None
    underline = UNDERLINE.match(below.strip())
    if underline and abs(len(below.strip()) - len(line.strip())) <= 2:
        return LEVELS[underline[1]], title
    at_margin = indented and line[0].isalnum() and (not below.strip() or below[0] in " \t")
    if not number:
        return (1, title) if at_margin else None
    of_chapter = number["named"] or "." in number["bare"] or number["bare"] in chapters
    if at_margin or (of_chapter and not below.strip()):
        return (number["named"] or number["bare"]).count(".") + 1, title
    return None
