"""Find the running headers, footers and page numbers of a paged document, and drop them.

A line is dropped only if other pages have a similar line at the same height.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import product, takewhile

from d2l.readers.pdf.layout import Line

MIN_PAGES = 3
N_MARGIN_LINES = 3  # at the top, and at the bottom
MIN_SHARE = 0.25  # of pages that repeat a line: two lines may alternate, and some pages have none
NUMBERED_SHARE = 0.4  # of pages with a number, for it to be the page number
BAND_SHARE = 0.5  # of pages whose first or last line is at the same height
BAND_GAP = 1.4  # times the font size, between a running line and the body
MOST_NUMBERS = 9  # of a line; one of them may be that of the page
ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}

Position = tuple[int, int]  # index of a page, index of the line on it


def drop_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Drop the running lines of each page; a single page keeps all lines."""
    if sum(bool(lines) for lines in pages) < MIN_PAGES:
        return without(pages, peel_margins(pages, find_numbered_pair(pages)))
    numbered = find_numbered(pages)
    running = numbered | find_repeated(pages)
    dropped = peel_margins(pages, running | find_bands(pages, running))
    n_emptied = sum(
        all((number, index) in dropped for index in range(len(lines)))
        for number, lines in enumerate(pages)
        if lines
    )
    if 2 * n_emptied > sum(map(bool, pages)):  # pages of repeated lines alone: no margins
        dropped = peel_margins(pages, numbered)
    return without(pages, dropped)


def without(pages: Sequence[Sequence[Line]], dropped: set[Position]) -> list[list[Line]]:
    """Drop the lines at some positions."""
    return [
        [line for index, line in enumerate(lines) if (number, index) not in dropped]
        for number, lines in enumerate(pages)
    ]


def peel_margins(pages: Sequence[Sequence[Line]], running: set[Position]) -> set[Position]:
    """Select running lines with no other line between them and the edge of the page."""
    return {
        position
        for number, lines in enumerate(pages)
        for indices in margin_indices(lines)
        for position in takewhile(running.__contains__, [(number, i) for i in indices])
    }


def margin_indices(lines: Sequence[Line]) -> tuple[list[int], list[int]]:
    """List the indices of the highest and the lowest lines, outermost first."""
    order = sorted(range(len(lines)), key=lambda index: -lines[index].y)
    return order[:N_MARGIN_LINES], order[::-1][:N_MARGIN_LINES]


def list_margin_lines(pages: Sequence[Sequence[Line]]) -> Iterator[tuple[Position, Line]]:
    """Yield every line near the top or bottom of its page."""
    for number, lines in enumerate(pages):
        top, bottom = margin_indices(lines)
        for index in sorted({*top, *bottom}):
            yield (number, index), lines[index]


def height_bins(line: Line) -> tuple[float, float]:
    """Compute two overlapping bins of a height: lines within two points share a bin."""
    return round(line.y / 4), round(line.y / 4 + 0.5) - 0.5


def find_repeated(pages: Sequence[Sequence[Line]]) -> set[Position]:
    """Find lines that many pages have at the same height, equal but for the page number."""
    positions: dict[tuple[str, float], set[Position]] = defaultdict(set)
    for position, line in list_margin_lines(pages):
        numbers = list(re.finditer(r"\d{1,5}", line.text))[:MOST_NUMBERS]
        others = (
            f"{line.text[: n.start()]}#{int(n[0]) - position[0]}{line.text[n.end() :]}"
            for n in numbers
        )
        for key, height in product((line.text, *others), height_bins(line)):
            positions[key, height].add(position)
    least = max(MIN_PAGES, MIN_SHARE * sum(bool(lines) for lines in pages))
    return {
        position
        for repeated in positions.values()
        if len({page for page, _ in repeated}) >= least
        for position in repeated
    }


def read_numbers(text: str) -> set[int]:
    """Read the numbers at the ends of a line, and in "Page 3 of 12"; Roman ones, too."""
    words = re.findall(r"\w+", text)
    return {
        int(word) if word.isdecimal() else read_roman(word)
        for word in {*words[:1], *words[-3:-2], *words[-1:]}
        if (word.isdecimal() and len(word) < 6) or re.fullmatch("[ivxlc]{1,8}|[IVXLC]{1,8}", word)
    }


def read_roman(word: str) -> int:
    """Read a Roman number: a smaller letter before a larger one is subtracted."""
    values = [ROMAN[letter] for letter in word.lower()]
    return sum(
        -value if value < max(values[index:]) else value for index, value in enumerate(values)
    )


def find_numbered(pages: Sequence[Sequence[Line]]) -> set[Position]:
    """Find lines with the page number, which grows from page to page at the same height."""
    offsets: dict[tuple[int, int], set[Position]] = defaultdict(set)
    for (number, index), line in list_margin_lines(pages):
        if not is_outermost(pages[number], index):
            continue
        for value in read_numbers(line.text):
            offsets[value - number, round(line.y)].add((number, index))
    heights: Counter[int] = Counter()
    for (_, height), positions in offsets.items():
        if len(positions) >= MIN_PAGES:
            heights[height] += len(positions)
    n_pages = sum(bool(lines) for lines in pages)
    numbered: set[Position] = set()
    for (_, height), positions in offsets.items():
        near = sum(heights[height + delta] for delta in (-1, 0, 1))
        if len(positions) >= 2 and near >= max(MIN_PAGES, NUMBERED_SHARE * n_pages):
            numbered |= positions
    return numbered


def find_numbered_pair(pages: Sequence[Sequence[Line]]) -> set[Position]:
    """Find the running line of a document of two pages, where repetition proves little.

    Both pages must have the same words at the same height, outermost and with a gap, and a number
    that grows by one.
    """
    seen: dict[tuple[str, int, int], set[Position]] = defaultdict(set)
    for (number, index), line in list_margin_lines(pages):
        others = [other for i, other in enumerate(pages[number]) if i != index]
        apart = all(stands_apart(line, other) for other in others)
        if others and apart and is_outermost(pages[number], index):
            key = re.sub(r"\d+", "#", line.text)
            for value in read_numbers(line.text):
                seen[key, round(line.y), value - number].add((number, index))
    return {p for positions in seen.values() if len(positions) == 2 for p in positions}


def is_outermost(lines: Sequence[Line], index: int) -> bool:
    """True if no line is higher, or no line is lower."""
    heights = [line.y for line in lines]
    return lines[index].y in (max(heights), min(heights))


def find_bands(pages: Sequence[Sequence[Line]], dropped: set[Position]) -> set[Position]:
    """Find running titles that change with the chapter: at the same height, with a gap to the body.

    They share words with the running title of a page near by, unlike the text of a body.
    """
    bands: set[Position] = set()
    for side in (0, 1):
        outermost: dict[float, list[Position]] = defaultdict(list)
        for number, lines in enumerate(pages):
            indices = [i for i in margin_indices(lines)[side] if (number, i) not in dropped]
            if len(indices) > 1 and stands_apart(lines[indices[0]], lines[indices[1]]):
                for height in height_bins(lines[indices[0]]):
                    outermost[height].append((number, indices[0]))
        for positions in outermost.values():
            if len(positions) < max(MIN_PAGES, BAND_SHARE * sum(map(bool, pages))):
                continue
            texts = [pages[number][index].text for number, index in positions]
            n_alike = sum(
                any(share_start(text, other) for other in texts[max(0, i - 2) : i])
                or any(share_start(text, other) for other in texts[i + 1 : i + 3])
                for i, text in enumerate(texts)
            )
            if n_alike >= 0.6 * len(texts):
                bands |= set(positions)
    return bands


def stands_apart(line: Line, body: Line) -> bool:
    """True if the gap to the body is wider than between lines of a paragraph."""
    return abs(line.y - body.y) > BAND_GAP * max(line.size, body.size)


def share_start(text: str, other: str) -> bool:
    """True if two titles begin or end with the same words, a third of the shorter title."""
    words, others = text.split(), other.split()
    need = max(1, min(len(words), len(others)) // 3)
    return words[:need] == others[:need] or words[-need:] == others[-need:]
