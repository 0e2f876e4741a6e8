"""Find the running headers, footers and page numbers of a paged document, and drop them.

A running line lies in the margin of its page, apart from the body. Other pages have the same line,
but for the page's number, or the body has the same title. Text that stands once stays.
"""

import re
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, pairwise, takewhile
from statistics import median
from typing import NamedTuple

from pypdf import PageObject

from d2l.readers.findings import Finding
from d2l.readers.parsing import CELL
from d2l.readers.pdf.layout import Line

MIN_PAGES = 3
MIN_SHARE = 0.25  # of pages that repeat a line: two lines may alternate, and some pages have none
REACH = 0.125  # of the page's height; LaTeX's headers lie at 9 to 12 %
NUMBER_REACH = 0.17  # of a page number that stands alone
N_MARGIN_ROWS = 3  # at the top, and at the bottom
BODY_SHARE = 0.1  # of pages whose body may reach as far out as a running line
TITLE_SHARE = 0.5  # of pages with a row at the same height, for changing titles
BODY_GAP = 1.2  # times the usual distance of the body's rows, between a running line and the body
SIZE_GAP = 1.4  # times the font size, the least such gap
TITLE_SIZE = 1.15  # times the usual font size; running lines are smaller
SAME_Y = 2.0  # points between lines of a row
MAX_SHOWN = 60  # characters of a dropped line in a finding
NUMBER = r"(\d{1,5}|[ivxlc]{1,8}|[IVXLC]{1,8})"
PAGE = r"pages?|p\.|seite|s\.|página|pagina|pág\.|sida|side|strona|strana|страница|стр\.|第"
LONE_NUMBER = re.compile(
    rf"([-–—\[( ]*){NUMBER}((?: ?(?:/|of|von|de|sur|di|van|av|из) ?\d+)?[-–—\]) ]*)"
)
NAMED_NUMBER = re.compile(rf"(|.*\W)(?i:{PAGE}) ?{NUMBER}(|\W.*)")
END_NUMBER = re.compile(r"(\d{1,5}) (.+)|(.+) (\d{1,5})")
ROMAN = {
    ten + one: 10 * n_tens + n_ones
    for n_tens, ten in enumerate(("", "x", "xx", "xxx", "xl", "l", "lx", "lxx", "lxxx", "xc"))
    for n_ones, one in enumerate(("", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix"))
}
CHAPTER = re.compile(r"^(?:\w+ )?(?:\d+|[IVXLC]+|[A-Z])(?:\.\d+)*[.:]? +")  # before its title

Bounds = tuple[float, float]  # the lowest and the highest position on a page


class Row(NamedTuple):
    """Lines at the same height of a page."""

    page: int
    indices: list[int]  # of the lines
    cells: list[str]
    size: float
    depth: float  # distance from the edge of the page
    is_apart: bool = False  # a gap is between the row and the next


def measure_page(page: PageObject) -> Bounds:
    """Measure a page upward, as its text stands if the page is rotated."""
    left, bottom, right, top = map(float, page.cropbox)
    rotated = ((bottom, top), (-right, -left), (-top, -bottom), (left, right))
    return rotated[page.rotation // 90 % 4]


def drop_running_lines(
    pages: Sequence[Sequence[Line]], bounds: Sequence[Bounds]
) -> tuple[list[list[Line]], list[Finding]]:
    """Drop the running lines of each page; return the other lines, and findings about those."""
    sides = [find_margins(pages, bounds, is_top=is_top) for is_top in (True, False)]
    titles = read_titles(pages, [row for margins in sides for rows in margins for row in rows])
    n_pages = sum(map(bool, pages))
    running = [row for margins in sides for row in Repeats(margins, titles, n_pages).find_running()]
    dropped: dict[int, set[int]] = defaultdict(set)
    for row in running:
        dropped[row.page].update(row.indices)
    whole = {page for page, indices in dropped.items() if len(indices) == len(pages[page])}
    alike: dict[str, list[Row]] = defaultdict(list)
    for row in running:
        if row.page not in whole:  # the only text of a page is no margin
            alike["|".join(split_number(cell).rest for cell in row.cells)].append(row)
    kept = [
        [line for index, line in enumerate(lines) if page in whole or index not in dropped[page]]
        for page, lines in enumerate(pages)
    ]
    return kept, [describe_rows(rows) for rows in alike.values()]


def describe_rows(rows: Sequence[Row]) -> Finding:
    """Describe dropped rows that are alike: the first of them, and their pages."""
    texts = [CELL.join(row.cells) for row in rows]
    shown = texts[0] if len(texts[0]) <= MAX_SHOWN else texts[0][:MAX_SHOWN] + " …"
    return Finding("furniture", shown, sum(map(len, texts)), tuple(row.page + 1 for row in rows))


def find_margins(
    pages: Sequence[Sequence[Line]], bounds: Sequence[Bounds], *, is_top: bool
) -> list[list[Row]]:
    """Find the margin of each page: the outermost rows, a gap between them and the body, and
    further out than the bodies of nearly all pages."""
    max_size = TITLE_SIZE * median([line.size for lines in pages for line in lines] or [0.0])
    heights = [high - low for low, high in bounds]
    rows = [
        list_rows(page, lines, bounds[page][is_top], is_top=is_top)
        for page, lines in enumerate(pages)
    ]
    gaps = [
        below.depth - above.depth
        for own, height in zip(rows, heights, strict=True)
        for above, below in pairwise(own)
        if REACH * height < above.depth < below.depth < (1 - REACH) * height
    ]
    least_gap = BODY_GAP * median(gaps or [0.0])
    margins = [
        mark_gaps(own, least_gap, height, max_size)
        for own, height in zip(rows, heights, strict=True)
    ]
    inner = [own[len(margin) :] for own, margin in zip(rows, margins, strict=True)]
    bodies = sorted(body[0].depth for body in inner if body)
    limit = bodies[int(BODY_SHARE * len(bodies))] if bodies else 0.0
    return [[row for row in margin if row.depth < limit] for margin in margins]


def list_rows(page: int, lines: Sequence[Line], edge: float, *, is_top: bool) -> list[Row]:
    """List the rows of a page, from an edge inward."""
    depths = [edge - line.y if is_top else line.y - edge for line in lines]
    groups: list[list[int]] = []
    for index in sorted(range(len(lines)), key=depths.__getitem__):
        if groups and depths[index] - depths[groups[-1][0]] < SAME_Y:
            groups[-1].append(index)
        else:
            groups.append([index])
    return [
        Row(
            page,
            group,
            [cell for index in group for cell in lines[index].text.split(CELL)],
            max(lines[index].size for index in group),
            depths[group[0]],
        )
        for group in groups
    ]


def mark_gaps(rows: Sequence[Row], least: float, height: float, max_size: float) -> list[Row]:
    """Mark rows with a gap before the next; return the rows near the edge up to the last such."""
    margin: list[Row] = []
    for row, inner in pairwise(rows[: N_MARGIN_ROWS + 1]):
        reach = NUMBER_REACH if LONE_NUMBER.fullmatch(CELL.join(row.cells)) else REACH
        if row.depth > reach * height or row.size > max_size:
            break
        gap = max(least, SIZE_GAP * max(row.size, inner.size))
        margin.append(row._replace(is_apart=inner.depth - row.depth > gap))
    while margin and not margin[-1].is_apart:
        margin.pop()
    return margin


class Numbered(NamedTuple):
    """A cell with a number: the rest of the text, the number, and whether it is surely a page's."""

    rest: str
    value: int
    is_sure: bool


class Repeats:
    """Margins at one edge of all pages, and how many pages repeat their cells."""

    def __init__(self, margins: Sequence[list[Row]], titles: list[str], n_pages: int) -> None:
        self._margins, self._titles = margins, titles
        self._least = max(MIN_PAGES, MIN_SHARE * n_pages)
        self._n_titled = max(MIN_PAGES, TITLE_SHARE * n_pages)
        rows = [row for margin in margins for row in margin]
        cells = {(row.page, cell) for row in rows for cell in row.cells}
        self._texts = Counter(cell for _, cell in cells)
        self._depths = Counter(round(row.depth) for row in rows)
        offsets: dict[int, list[Numbered]] = defaultdict(list)  # by number less page
        for page, cell in cells:
            offsets[split_number(cell).value - page].append(split_number(cell))
        self._rests = Counter(number.rest for numbers in offsets.values() for number in numbers)
        self._offsets = {
            offset: len(numbers)
            for offset, numbers in offsets.items()
            if len(numbers) > 1
            and (any(n.is_sure for n in numbers) or len({n.rest for n in numbers}) > 1)
        }
        if sum(self._offsets.values()) < min(self._least, n_pages):
            self._offsets = {}

    def find_running(self) -> Iterator[Row]:
        """Yield the outermost running rows of each margin, a gap behind them."""
        for margin in self._margins:
            running = list(takewhile(self._is_running, margin))
            while running and not running[-1].is_apart:
                running.pop()
            yield from running

    def _is_running(self, row: Row) -> bool:
        """True if each cell repeats, has the page's number, or is a title of the body."""
        n_near = sum(self._depths[round(row.depth) + delta] for delta in (-1, 0, 1))
        return all(
            self._texts[cell] >= self._least
            or self._has_page_number(row.page, cell)
            or (n_near >= self._n_titled and is_title(cell, self._titles))
            for cell in row.cells
        )

    def _has_page_number(self, page: int, cell: str) -> bool:
        """True if a cell has the page's number, and the rest repeats, or is a title."""
        rest, value, is_sure = split_number(cell)
        repeats = self._rests[rest] > 1 if is_sure else is_title(rest, self._titles)
        return value - page in self._offsets and repeats


def split_number(cell: str) -> Numbered:
    """Split a cell into its page number and the rest."""
    if match := LONE_NUMBER.fullmatch(cell) or NAMED_NUMBER.fullmatch(cell):
        before, number, after = match.groups()
        value = int(number) if number.isdecimal() else ROMAN.get(number.lower(), -1)
        return Numbered(f"{before}#{after}", value, True)
    if match := END_NUMBER.fullmatch(cell):
        return Numbered(match[2] or match[3], int(match[1] or match[4]), False)
    return Numbered(cell, -1, False)


def read_titles(pages: Sequence[Sequence[Line]], margins: Iterable[Row]) -> list[str]:
    """Read each line of the bodies, and each pair of lines, as a title; sorted."""
    outside = {(row.page, index) for row in margins for index in row.indices}
    body = [
        line.text
        for page, lines in enumerate(pages)
        for index, line in enumerate(lines)
        if (page, index) not in outside
    ]
    pairs = (f"{text} {more}" for text, more in pairwise(body))
    return sorted({reduce_title(text) for text in chain(body, pairs)})


def reduce_title(text: str) -> str:
    """Reduce a title to its words, in small letters, without the number of its chapter."""
    return CHAPTER.sub("", text, count=1).casefold()


def is_title(text: str, titles: Sequence[str]) -> bool:
    """True if each title in a text is one of some titles, or their beginning and an ellipsis."""
    for piece in re.split(r" (?=\d+\.\d+\.? )", text):
        title = reduce_title(piece)
        start = title.removesuffix("…").rstrip()
        index = bisect_left(titles, start)
        after = titles[index] if index < len(titles) else ""
        if not start or not after.startswith(start) or after != title == start:
            return False
    return True
