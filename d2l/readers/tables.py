"""Rows of tables as lines of text, in one form for every format: "Pin: 15 | Signal: trigger".

Cells in, a line out. Each cell stands behind the head of its column, so that a row is understood
alone, wherever a table is cut.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from d2l.readers.parsing import CELL

MAX_HEAD_CHARS = 60  # longer heads are not repeated, nor longer cells in the rows that they span
MAX_COLUMNS = 60  # of a table with heads
MAX_SPANNED = 1000  # rows of one cell


class Cell(NamedTuple):
    """A cell with its text; `continues`: it shows the text of the cell above it."""

    text: str
    is_head: bool = False
    n_columns: int = 1
    n_rows: int = 1
    continues: bool = False


class Table:
    """Writes the rows of a table one by one; rows of head cells name the columns below."""

    def __init__(self) -> None:
        self.n_rows = 0
        self._heads: dict[int, str] = {}
        self._above: dict[int, str] = {}  # texts of the row above by column
        self._left: dict[int, int] = {}  # rows below that a cell spans, by column
        self._follows_head = False

    def write(self, cells: Sequence[Cell]) -> str:
        """Write a row; "" if it is empty."""
        self.n_rows += 1
        row = dict(self._place(cells))
        own = [cell for cell in cells if cell.text]
        plain = CELL.join(cell.text for cell in own)
        is_head = len(own) > 1 and all(cell.is_head for cell in own)
        if is_head:
            above = self._heads if self._follows_head else {}
            self._heads = {
                column: join_heads(above.get(column, ""), text)
                for column, text in row.items()
                if column < MAX_COLUMNS
            }
        self._follows_head = is_head
        across = len(own) == 1 and own[0].n_columns > 1  # it names the rows below
        if is_head or not self._heads or not own or across:
            return plain
        return CELL.join(
            f"{head}: {text}" if (head := self._heads.get(column)) and head != text else text
            for column, text in row.items()
            if text
        )

    def _place(self, cells: Sequence[Cell]) -> Iterator[tuple[int, str]]:
        """Yield the texts of a row by column, those of cells that span it among them."""
        above, self._above, column = self._above, {}, 0
        for cell in (*cells, Cell("", n_columns=0)):
            while self._left.get(column, 0):
                self._left[column] -= 1
                self._above[column] = above.get(column, "")
                yield column, self._above[column]
                column += 1
            text = above.get(column, "") if cell.continues else cell.text
            for at in range(column, column + min(cell.n_columns, MAX_COLUMNS)):
                shown = text if cell.is_head or at == column else ""
                self._left[at] = min(cell.n_rows, MAX_SPANNED) - 1
                self._above[at] = shown if len(shown) <= MAX_HEAD_CHARS else ""
                yield at, shown
            column += min(cell.n_columns, MAX_COLUMNS)


def join_heads(above: str, text: str) -> str:
    """Join the heads of a column in two rows; "" if they are too long to repeat."""
    head = " ".join(dict.fromkeys(filter(None, (above, text)))).rstrip(":")
    return head if len(head) <= MAX_HEAD_CHARS else ""


def write_rows(rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Write rows; the first with several cells, all with letters, is the head, maybe of two."""
    table, is_open, head = Table(), True, list[str]()
    for row in rows:
        texts = [" ".join(text.split()) for text in row]
        named = [any(map(str.isalpha, text)) for text in texts if text]
        # Two rows are one head if each has cells where the other has none; rows may be ragged.
        pairs = {(bool(above), bool(text)) for above, text in zip(head, texts, strict=False)}
        is_head = (is_open or pairs >= {(True, False), (False, True)}) and all(named)
        if line := table.write([Cell(text, is_head) for text in texts]):
            yield line
        is_open = is_open and len(named) < 2
        head = texts if is_head and not head and len(named) > 1 else []
