"""A PDF page of pypdf to lines of text with their positions; `layout` makes paragraphs of them."""

import math
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from itertools import pairwise
from typing import Any, NamedTuple

from pypdf import PageObject
from pypdf.generic import ArrayObject, ContentStream, DictionaryObject

from d2l.readers.parsing import CELL, joins_number
from d2l.readers.pdf.fonts import hides_text
from d2l.readers.pdf.layout import HAS_LEADER, ITEM_MARK, SAME_X, Line, clean_line, merge_rows
from d2l.readers.pdf.strings import Path, Shown, spell_out_strings
from d2l.readers.pdf.widths import Measure

CELL_GAP = 0.8  # times the font size, between cells of a table; justified words stand closer
SURE_GAP = 2.5  # times the font size, between cells that are not aligned with others
LONGEST_MARK = 100  # characters of a list item's or heading's mark; saves cleaning longer text
HEADING_MARK = re.compile(r"[A-Z]?\d*(?:\.\d+)*\.?$")
WIDE_GAP = 1500  # between cells of a table, in thousandths of the font size
BOLD = re.compile(r"bold|black|heavy|CMBX", re.I)  # in the name of a font
MONO = re.compile(r"mono|courier|consol|menlo|code|typewriter|NimbusMon|[a-z]tt\d|xtt", re.I)
SUBSET_TAG = re.compile(r"^/?(?:[A-Z]{6}\+)?")  # random letters before the name of a font


def read_lines(
    page: PageObject, stream: ContentStream, measures: Mapping[str, Measure], omitted: Set[Path]
) -> tuple[list[Line], bool]:
    """Extract the lines of a page without some text, cells of a row joined; and true if their
    letters are a guess."""
    collector = _PieceCollector()
    plain = spell_out_strings(page, stream, measures, omitted).extract_text(
        visitor_operand_before=collector.see_operand, visitor_text=collector.see_text
    )
    collector.end_row()
    is_guess = 2 * collector.n_hidden > collector.n_ink
    if collector.n_ink == count_ink(plain):
        aligned = find_columns([row.starts for row in collector.rows])
        hanging = find_hanging(collector.rows)
        uneven = find_uneven_rows([row.sure_starts for row in collector.rows])
        lines = (
            make_line(row, columns | beside, sure)
            for row, columns, beside, sure in zip(
                collector.rows, aligned, hanging, uneven, strict=True
            )
        )
        return merge_rows([line for line in lines if line.text]), is_guess
    # The callbacks saw other text than pypdf returns: use the returned text, without positions.
    rows = [clean_line(row) for row in plain.split("\n")]
    return [Line(row, 0.0, -12.0 * n, 10.0) for n, row in enumerate(rows) if row], is_guess


def count_ink(text: str) -> int:
    """Count the characters that are not spaces."""
    return sum(not char.isspace() for char in text)


class _Piece(NamedTuple):
    """Text that pypdf reports in one call, and its position."""

    text: str
    x: float = 0.0
    y: float = 0.0
    size: float = 0.0
    font: str = ""


class _Row(NamedTuple):
    """The pieces of a line, and the starts of pieces after a gap."""

    pieces: tuple[_Piece, ...]
    starts: frozenset[int]
    sure_starts: frozenset[int]
    has_wide_move: bool
    end: float | None  # of its last string, if exact


def find_longest(pieces: Sequence[_Piece]) -> _Piece:
    """Find the longest piece of a line: others may be raised or small."""
    return max(pieces, key=lambda piece: len(piece.text.strip()))


class _PieceCollector:
    """Callbacks of pypdf's text extraction: pieces of text, line by line."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self.n_ink = 0
        self.n_hidden = 0  # of these, in fonts that do not determine their characters
        self._hiding: dict[int, bool] = {}  # by font
        self._pieces: list[_Piece] = []
        self._starts: defaultdict[int, dict[int, bool]] = defaultdict(dict)  # by baseline
        self._wide_moves: set[int] = set()  # baselines
        self._font_size = 0.0
        self._pen = (0.0, 0.0)  # end of the last string
        self._shown = 0.0  # length of the strings since the last move, which pypdf does not add
        self._end = -math.inf  # end of this row's strings
        self._is_exact = True

    def see_operand(self, operator: bytes, operands: Any, cm: Any, tm: Any) -> None:
        """Note the starts of strings after a gap."""
        if operator == b"Tf" and len(operands) > 1 and isinstance(operands[1], (int, float)):
            self._font_size = abs(float(operands[1]))
        if operator in (b"BT", b"Td", b"TD", b"Tm", b"T*"):
            self._shown = 0.0
        if operator not in (b"Tj", b"TJ") or not operands:
            return
        along, across, scale = locate(cm, tm)
        along += self._shown
        size = self._font_size * scale
        end, baseline = self._pen
        if abs(baseline - across) < 0.3 * size and along > end + CELL_GAP * size:
            is_sure = self._is_exact and along > end + SURE_GAP * size
            self._starts[round(across)][round(along)] = is_sure
        shown = operands[0]
        items = shown if isinstance(shown, ArrayObject) else [shown]
        if any(item < -WIDE_GAP for item in items[1:] if isinstance(item, (int, float))):
            self._wide_moves.add(round(across))
        if isinstance(shown, Shown):
            length, inked = scale * shown.length, scale * shown.inked
        else:  # in a form, whose fonts are unknown here: somewhat more than half an em a character
            length = 0.6 * size * sum(len(x) for x in items if isinstance(x, (str, bytes)))
            inked = length
        self._is_exact &= isinstance(shown, Shown) and shown.is_exact
        self._shown += length
        self._pen = (along + inked, across)
        self._end = max(self._end, self._pen[0])

    def see_text(self, text: str, cm: Any, tm: Any, font: Any, size: float) -> None:
        """Add a piece of text; a newline at its end closes the line."""
        self.n_ink += count_ink(text)
        if text.strip():
            along, across, scale = locate(cm, tm)
            name = str(font.get("/BaseFont", "")) if isinstance(font, DictionaryObject) else ""
            name = SUBSET_TAG.sub("", name)
            if isinstance(font, DictionaryObject):
                hides = self._hiding.setdefault(id(font), hides_text(font))
                self.n_hidden += count_ink(text) * hides
            self._pieces.append(_Piece(text, along, across, abs(size) * scale, name))
        elif text and self._pieces:
            self._pieces.append(_Piece(text))
        if text.endswith("\n"):
            self.end_row()

    def end_row(self) -> None:
        """Make a row of the pieces since the last row."""
        if any(piece.text.strip() for piece in self._pieces):
            end = self._end if self._is_exact else None
            baseline = round(find_longest(self._pieces).y)
            starts = self._starts.get(baseline, {})
            sure = frozenset(start for start, is_sure in starts.items() if is_sure)
            wide = baseline in self._wide_moves
            self.rows.append(_Row(tuple(self._pieces), frozenset(starts), sure, wide, end))
        self._pieces, self._end, self._is_exact = [], -math.inf, True


def find_columns(starts: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """Select the starts after a gap that form columns.

    Widths are guesses, so a single start proves nothing: two rows must share two of them, or three
    rows one.
    """
    near = [row | {x - 1 for x in row} | {x + 1 for x in row} for row in starts]
    columns: list[set[int]] = [set() for _ in starts]
    for row in range(len(starts) - 1):
        pair = starts[row] & near[row + 1]
        if len(pair) > 1:
            columns[row] |= pair
            columns[row + 1] |= starts[row + 1] & near[row]
        triple = pair & near[row + 2] if row + 2 < len(starts) else frozenset()
        for other in range(row, row + 3) if triple else ():
            columns[other] |= {x for x in starts[other] if any(abs(x - y) < 3 for y in triple)}
    return [frozenset(row) for row in columns]


def find_hanging(rows: Sequence[_Row]) -> list[frozenset[int]]:
    """Select the starts of texts that are set beside their terms.

    The text's next line begins below its first one, to the right of the term.
    """
    firsts = [next(piece.x for piece in row.pieces if piece.text.strip()) for row in rows]
    hanging = {
        below
        for row, below in zip(rows, [*firsts, math.inf][1:], strict=True)
        if len(row.starts) == 1 and abs(min(row.starts) - below) <= SAME_X
    }
    return [
        frozenset(x for x in row.starts if any(abs(x - start) <= SAME_X for start in hanging))
        for row in rows
    ]


def find_uneven_rows(starts: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """Select the starts of rows beside a row with as many wide gaps, as in centered columns.

    A single row with gaps may be a stretched line of justified text.
    """
    counts = [0, *map(len, starts), 0]
    return [
        own if counts[row] in (counts[row - 1], counts[row + 1]) else frozenset()
        for row, own in enumerate(starts, start=1)
    ]


def make_line(row: _Row, columns: frozenset[int], uneven: frozenset[int]) -> Line:
    """Join the pieces of a row, with marks between table cells."""
    inked = [piece for piece in row.pieces if piece.text.strip()]
    is_mono = all(MONO.search(piece.font) for piece in inked)
    text, last_cell, begun = "", None, None  # pieces without a move between have the same start
    for before, piece in pairwise((_Piece(""), *row.pieces)):
        x, mark = round(piece.x), clean_line(text) if len(text) < LONGEST_MARK else text
        is_sure = x in uneven and not is_mono and not HEADING_MARK.match(mark)
        is_cell = (x in columns or is_sure) and x != begun and not ITEM_MARK.match(mark)
        if is_cell and mark and piece.text.strip():
            last_cell = piece.x
            text = text.rstrip() + CELL
        text += "^" if is_power(before, piece) else ""
        text += piece.text.lstrip() if text.endswith(CELL) else piece.text
        begun = x if piece.text.strip() else begun
    text = clean_line(text)
    if HAS_LEADER.search(text.replace(CELL, " ")):  # a table of contents is no table
        text = text.replace(CELL, " ")
    longest = find_longest(row.pieces)
    return Line(
        text,
        x=inked[0].x,
        y=longest.y,
        size=longest.size or 10.0,
        bold=all(BOLD.search(piece.font) for piece in inked),
        mono=is_mono,
        cells=2 if CELL in text or row.has_wide_move else 1,
        end=row.end,
        last_cell=last_cell,
    )


def is_power(before: _Piece, piece: _Piece) -> bool:
    """True if a small raised number would read as one number with the number before."""
    is_raised = piece.y - before.y > 0.2 * before.size and piece.size < 0.85 * before.size
    return is_raised and joins_number(before.text, piece.text)


def locate(cm: Sequence[float], tm: Sequence[float]) -> tuple[float, float, float]:
    """Compute a position along the direction of writing, the one across it (up), and the scale."""
    a = tm[0] * cm[0] + tm[1] * cm[2]
    b = tm[0] * cm[1] + tm[1] * cm[3]
    c = tm[2] * cm[0] + tm[3] * cm[2]
    d = tm[2] * cm[1] + tm[3] * cm[3]
    x = tm[4] * cm[0] + tm[5] * cm[2] + cm[4]
    y = tm[4] * cm[1] + tm[5] * cm[3] + cm[5]
    length = math.hypot(a, b) or 1.0
    cosine, sine = a / length, b / length
    return x * cosine + y * sine, y * cosine - x * sine, math.hypot(c, d)
