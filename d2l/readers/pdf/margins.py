"""Find the running headers, footers and page numbers of a paged document, and drop them.

Takes the lines of all pages, gives those of the bodies. A line goes only for what other pages
show at the same height: text that appears once always stays.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import product, takewhile

from d2l.readers.pdf.layout import Line

MIN_PAGES = 3
N_MARGIN_LINES = 3  # looked at from the top and from the bottom
MIN_SHARE = 0.25  # of pages that repeat a line: half of them may alternate, some have none
NUMBERED_SHARE = 0.4  # of pages that carry their number, for a number to count as one
BAND_SHARE = 0.5  # of pages whose first or last line stands at one height
BAND_GAP = 1.4  # times the font size, between a running line and the body
MOST_NUMBERS = 9  # of a line; one of them may be that of the page
ROMAN = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}

Place = tuple[int, int]  # page index, index of the line on it


def drop_running_lines(pages: Sequence[Sequence[Line]]) -> list[list[Line]]:
    """Give each page without its running lines; a single page comes back as it is."""
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
    if 2 * n_emptied > sum(map(bool, pages)):  # what repeats is all there is: no margin
        dropped = peel_margins(pages, numbered)
    return without(pages, dropped)


def without(pages: Sequence[Sequence[Line]], dropped: set[Place]) -> list[list[Line]]:
    """Give the pages without the lines at some places."""
    return [
        [line for index, line in enumerate(lines) if (number, index) not in dropped]
        for number, lines in enumerate(pages)
    ]


def peel_margins(pages: Sequence[Sequence[Line]], running: set[Place]) -> set[Place]:
    """Keep of the lines found those that no other line stands outside of."""
    return {
        place
        for number, lines in enumerate(pages)
        for indices in margin_indices(lines)
        for place in takewhile(running.__contains__, [(number, i) for i in indices])
    }


def margin_indices(lines: Sequence[Line]) -> tuple[list[int], list[int]]:
    """Give the indices of the highest and the lowest lines, outermost first."""
    order = sorted(range(len(lines)), key=lambda index: -lines[index].y)
    return order[:N_MARGIN_LINES], order[::-1][:N_MARGIN_LINES]


def margin_places(pages: Sequence[Sequence[Line]]) -> Iterator[tuple[Place, Line]]:
    """Yield every line near the top or bottom of its page."""
    for number, lines in enumerate(pages):
        top, bottom = margin_indices(lines)
        for index in sorted({*top, *bottom}):
            yield (number, index), lines[index]


def height_bins(line: Line) -> tuple[float, float]:
    """Give the two overlapping bins of a height: lines within two points share one of them."""
    return round(line.y / 4), round(line.y / 4 + 0.5) - 0.5


def find_repeated(pages: Sequence[Sequence[Line]]) -> set[Place]:
    """Find lines that many pages show at one height, but for the number of the page."""
    places: dict[tuple[str, float], set[Place]] = defaultdict(set)
    for place, line in margin_places(pages):
        numbers = list(re.finditer(r"\d{1,5}", line.text))[:MOST_NUMBERS]
        others = (
            f"{line.text[: n.start()]}#{int(n[0]) - place[0]}{line.text[n.end() :]}"
            for n in numbers
        )
        for key, height in product((line.text, *others), height_bins(line)):
            places[key, height].add(place)
    least = max(MIN_PAGES, MIN_SHARE * sum(bool(lines) for lines in pages))
    return {
        place
        for repeated in places.values()
        if len({page for page, _ in repeated}) >= least
        for place in repeated
    }


def read_numbers(text: str) -> set[int]:
    """Give the numbers that a line begins or ends with, or counts by: "Page 3 of 12", "iv"."""
    words = re.findall(r"\w+", text)
    return {
        int(word) if word.isdecimal() else read_roman(word)
        for word in {*words[:1], *words[-3:-2], *words[-1:]}
        if (word.isdecimal() and len(word) < 6) or re.fullmatch("[ivxlc]{1,8}|[IVXLC]{1,8}", word)
    }


def read_roman(word: str) -> int:
    """Read a roman number: a smaller letter before a larger one counts against it."""
    values = [ROMAN[letter] for letter in word.lower()]
    return sum(
        -value if value < max(values[index:]) else value for index, value in enumerate(values)
    )


def find_numbered(pages: Sequence[Sequence[Line]]) -> set[Place]:
    """Find lines with the page's number: it grows from page to page, at one height."""
    offsets: dict[tuple[int, int], set[Place]] = defaultdict(set)
    for (number, index), line in margin_places(pages):
        if not is_outermost(pages[number], index):
            continue
        for value in read_numbers(line.text):
            offsets[value - number, round(line.y)].add((number, index))
    heights: Counter[int] = Counter()
    for (_, height), places in offsets.items():
        if len(places) >= MIN_PAGES:
            heights[height] += len(places)
    n_pages = sum(bool(lines) for lines in pages)
    numbered: set[Place] = set()
    for (_, height), places in offsets.items():
        near = sum(heights[height + delta] for delta in (-1, 0, 1))
        if len(places) >= 2 and near >= max(MIN_PAGES, NUMBERED_SHARE * n_pages):
            numbered |= places
    return numbered


def find_numbered_pair(pages: Sequence[Sequence[Line]]) -> set[Place]:
    """Find the running line of a document of two pages, where repetition alone proves little.

    Both pages must show the same words at one height, outside of everything else and apart from
    it, with a number that grows by one.
    """
    seen: dict[tuple[str, int, int], set[Place]] = defaultdict(set)
    for (number, index), line in margin_places(pages):
        others = [other for place, other in enumerate(pages[number]) if place != index]
        apart = all(stands_apart(line, other) for other in others)
        if others and apart and is_outermost(pages[number], index):
            key = re.sub(r"\d+", "#", line.text)
            for value in read_numbers(line.text):
                seen[key, round(line.y), value - number].add((number, index))
    return {place for places in seen.values() if len(places) == 2 for place in places}


def is_outermost(lines: Sequence[Line], index: int) -> bool:
    """Whether no line stands higher, or none lower."""
    heights = [line.y for line in lines]
    return lines[index].y in (max(heights), min(heights))


def find_bands(pages: Sequence[Sequence[Line]], dropped: set[Place]) -> set[Place]:
    """Find running titles that change with the chapter: one height, apart from the body.

    They share words with the running title of a page near by; the text of a body does not.
    """
    bands: set[Place] = set()
    for side in (0, 1):
        outermost: dict[float, list[Place]] = defaultdict(list)
        for number, lines in enumerate(pages):
            indices = [i for i in margin_indices(lines)[side] if (number, i) not in dropped]
            if len(indices) > 1 and stands_apart(lines[indices[0]], lines[indices[1]]):
                for height in height_bins(lines[indices[0]]):
                    outermost[height].append((number, indices[0]))
        for places in outermost.values():
            if len(places) < max(MIN_PAGES, BAND_SHARE * sum(map(bool, pages))):
                continue
            texts = [pages[number][index].text for number, index in places]
            n_alike = sum(
                any(share_start(text, other) for other in texts[max(0, i - 2) : i])
                or any(share_start(text, other) for other in texts[i + 1 : i + 3])
                for i, text in enumerate(texts)
            )
            if n_alike >= 0.6 * len(texts):
                bands |= set(places)
    return bands


def stands_apart(line: Line, body: Line) -> bool:
    """Whether the gap to the body is wider than between lines of a paragraph."""
    return abs(line.y - body.y) > BAND_GAP * max(line.size, body.size)


def share_start(text: str, other: str) -> bool:
    """Whether two titles begin or end with the same words, most of the shorter one."""
    words, others = text.split(), other.split()
    need = max(1, min(len(words), len(others)) // 3)
    return words[:need] == others[:need] or words[-need:] == others[-need:]
