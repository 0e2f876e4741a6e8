"""Rows of tables in a PDF, each cell behind the head of its column, as in every format.

Paragraphs in, paragraphs out. A head is known by its type, or by the numbers below it.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from d2l.readers.parsing import CELL
from d2l.readers.pdf.layout import Line, Paragraph, same_size
from d2l.readers.tables import MAX_COLUMNS, Cell, Table

ALIGNED = 2.0  # times the font size, at most between a cell's and its head's left, middle or right
LEAST_PLAIN = 3  # cells of a head that is not bold: two may be a name and its value


class _Row(NamedTuple):
    """The cells of a row, and where each begins and ends."""

    texts: Sequence[str]
    spans: Sequence[tuple[float, float]]
    line: Line


def name_columns(pages: Iterable[Sequence[Paragraph]]) -> Iterator[list[Paragraph]]:
    """Yield the paragraphs of each page; rows below a head have its words before their cells.

    A table may go on at the top of the next page.
    """
    columns = _Columns()
    for page in pages:
        rows = [read_row(paragraph) for paragraph in page]
        heads = find_heads(rows)
        yield [
            paragraph._replace(text=columns.write(row, is_head=index in heads))
            if row
            else columns.pass_by(paragraph)
            for index, (paragraph, row) in enumerate(zip(page, rows, strict=True))
        ]


class _Columns:
    """The open table: its head, and its rows so far."""

    def __init__(self) -> None:
        self._head: _Row | None = None
        self._table = Table()
        self._follows_head = False

    def write(self, row: _Row, *, is_head: bool) -> str:
        """Write a row below the head; a row that does not fit it ends the table."""
        is_head = is_head and (self._head is None or all(map(has_letter, row.texts)))
        joins = self._follows_head or not is_head
        placed = place_cells(row, self._head) if self._head and joins else None
        if not placed:
            self._table, self._head = Table(), row if is_head else None
        self._follows_head = is_head
        if not self._head:
            return CELL.join(row.texts)
        return self._table.write([Cell(text, is_head) for text in placed or ["", *row.texts]])

    def pass_by(self, paragraph: Paragraph) -> Paragraph:
        """End the table at a paragraph that is neither close to its rows nor in a column."""
        line = paragraph.lines[0]
        starts = [start for start, _ in self._head.spans[1:]] if self._head else []
        is_close = self._follows_head or paragraph.gap == "\n"
        if not is_close and all(abs(line.x - start) > line.size for start in starts):
            self._head = None
        self._follows_head = False
        return paragraph


def read_row(paragraph: Paragraph) -> _Row | None:
    """Read a row of a table; None for other paragraphs, and where cells have no known positions."""
    line, texts = paragraph.lines[0], paragraph.text.split(CELL)
    if not 2 <= len(texts) <= MAX_COLUMNS or len(texts) != len(line.starts):
        return None
    cells = zip(texts, line.starts, strict=True)
    spans = [(x, line._replace(text=text, x=x, end=None).right) for text, x in cells]
    return _Row(texts, spans, line)


def find_heads(rows: Sequence[_Row | None]) -> set[int]:
    """Find the rows that name the columns of the row below: in bold type, or words above numbers.

    Several rows in bold are heads together, if a row in plain type follows.
    """
    heads: set[int] = set()
    found = [(index, row) for index, row in enumerate(rows) if row]
    for (index, row), (after, below) in reversed([*pairwise(found)]):
        # The name of a group may stand below a head in bold.
        if after > index + 1 + row.line.bold or not place_cells(below, row):
            continue
        if row.line.bold:
            is_head = not below.line.bold or after in heads
        else:
            are_names = not any(text[:1].islower() or has_digit(text) for text in row.texts)
            are_enough = len(row.texts) >= LEAST_PLAIN
            is_head = are_enough and are_names and any(map(has_digit, below.texts))
        if is_head and same_size(row.line, below.line):
            heads.add(index)
    return heads


def has_letter(text: str) -> bool:
    """True if a cell has a letter; bold numbers within a table are a sum."""
    return any(map(str.isalpha, text))


def has_digit(text: str) -> bool:
    """True if a cell has a digit."""
    return any(map(str.isdigit, text))


def place_cells(row: _Row, head: _Row) -> list[str] | None:
    """Place the cells of a row below their heads, "" where there is none; None if they differ.

    The first place is that of a cell left of all heads.
    """
    placed = [""] * (1 + len(head.texts))
    last = 0
    for text, (left, right) in zip(row.texts, row.spans, strict=True):
        if not any(placed) and right < head.spans[0][0]:
            placed[0] = text
            continue
        gaps = [
            min(abs(left - start), abs(right - end), abs(left + right - start - end) / 2)
            for start, end in head.spans
        ]
        nearest = 1 + min(range(len(gaps)), key=gaps.__getitem__)
        if nearest <= last or gaps[nearest - 1] > ALIGNED * row.line.size:
            return None
        placed[nearest], last = text, nearest
    return placed
