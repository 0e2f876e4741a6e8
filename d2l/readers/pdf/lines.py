"""A PDF page of pypdf to lines of text with their positions; `layout` makes paragraphs of them."""

import math
import re
from bisect import bisect
from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from pypdf import PageObject
from pypdf.generic import ArrayObject, DictionaryObject

from d2l.readers.parsing import CELL, RAISED_NUMBER
from d2l.readers.pdf.fonts import hides_text
from d2l.readers.pdf.layout import HAS_LEADER, ITEM_MARK, SAME_X, Line, clean_line, merge_rows
from d2l.readers.pdf.strings import Shown

CELL_GAP = 0.8  # times the font size, between cells of a table; justified words stand closer
SURE_GAP = 2.5  # times the font size, between cells that are not aligned with others
LONGEST_MARK = 100  # characters of a list item's or heading's mark; saves cleaning longer text
HEADING_MARK = re.compile(r"[A-Z]?\d*(?:\.\d+)*\.?$")
WIDE_GAP = 1500  # between cells of a table, in thousandths of the font size
BOLD = re.compile(r"bold|black|heavy|CMBX", re.I)  # in the name of a font
MONO = re.compile(r"mono|courier|consol|menlo|code|typewriter|NimbusMon|[a-z]tt\d|xtt", re.I)
FLATTENED = "['/FFT"  # operands that draw what pdfium flattened
LABEL_SHIFT = 5  # points between the baselines of a field and its label
SUBSET_TAG = re.compile(r"^/?(?:[A-Z]{6}\+)?")  # random letters before the name of a font


def read_lines(page: PageObject, *, has_fields: bool) -> tuple[list[Line], bool]:
    """Extract the lines of a page whose strings are spelled out, cells of a row joined; and true if
    their letters are a guess."""
    collector = _PieceCollector(has_fields=has_fields)
    plain = page.extract_text(
        visitor_operand_before=collector.see_operand, visitor_text=collector.see_text
    )
    collector.end_row()
    is_guess = 2 * collector.n_hidden > collector.n_ink
    if collector.n_ink == count_ink(plain):
        rows = place_values(collector.rows, collector.values)
        aligned = find_columns([row.starts for row in rows])
        hanging = find_hanging(rows)
        uneven = find_uneven_rows([row.sure_starts for row in rows])
        lines = (
            make_line(row, columns | beside, sure)
            for row, columns, beside, sure in zip(rows, aligned, hanging, uneven, strict=True)
        )
        return merge_rows([line for line in lines if line.text]), is_guess
    # The callbacks saw other text than pypdf returns: use the returned text, without positions.
    texts = [clean_line(row) for row in plain.split("\n")]
    return [Line(text, 0.0, -12.0 * n, 10.0) for n, text in enumerate(texts) if text], is_guess


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

    def __init__(self, *, has_fields: bool) -> None:
        self.rows: list[_Row] = []
        self.values: list[_Piece] = []  # of form fields
        self._has_fields = has_fields
        self._field: tuple[float, float] | None = None  # corner of the field that is read
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
        """Note the starts of strings after a gap, and the fields of a form."""
        is_form = self._has_fields and operator == b"Do"
        if is_form and (self._field or str(operands).startswith(FLATTENED)):
            self._field = (cm[4], cm[5])
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
            x, y = self._field or (0.0, 0.0)
            piece = _Piece(text, x + along, y + across, abs(size) * scale, name)
            (self.values if self._field else self._pieces).append(piece)
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


def place_values(rows: Sequence[_Row], values: Sequence[_Piece]) -> list[_Row]:
    """Put the values of form fields into the rows of their labels; below the row above a field
    without a label beside it."""
    by_height = defaultdict[float, list[int]](list)
    for number, row in enumerate(rows):
        by_height[find_longest(row.pieces).y].append(number)
    heights, placed, below = sorted(by_height), list(rows), defaultdict[int, list[_Row]](list)
    for value in values:
        first, last = (bisect(heights, value.y + shift) for shift in (-LABEL_SHIFT, LABEL_SHIFT))
        beside = [(rows[n].pieces[0].x, n) for y in heights[first:last] for n in by_height[y]]
        if beside:
            _, n = min(beside, key=lambda row: (row[0] > value.x, abs(row[0] - value.x)))
            pieces = list(placed[n].pieces)
            right = (at for at, piece in enumerate(pieces) if piece.x > value.x)
            spaced = value._replace(text=f" {value.text.strip()} ")
            pieces.insert(next(right, len(pieces)), spaced)
            placed[n] = placed[n]._replace(pieces=tuple(pieces), has_wide_move=True)
        else:
            above = by_height[heights[first]][-1] if first < len(heights) else -1
            below[above].append(_Row((value,), frozenset(), frozenset(), False, None))
    return below[-1] + [row for n, own in enumerate(placed) for row in (own, *below[n])]


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
    text, starts = "", [inked[0].x]
    begun = None  # pieces without a move between have the same start
    for before, piece in pairwise((_Piece(""), *row.pieces)):
        x, mark = round(piece.x), clean_line(text) if len(text) < LONGEST_MARK else text
        is_sure = x in uneven and not is_mono and not HEADING_MARK.match(mark)
        is_cell = (x in columns or is_sure) and x != begun and not ITEM_MARK.match(mark)
        if is_cell and mark and piece.text.strip():
            starts.append(piece.x)
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
        starts=tuple(starts),
    )


def is_power(before: _Piece, piece: _Piece) -> bool:
    """True if a small raised number would read as one number with the number before."""
    is_raised = piece.y - before.y > 0.2 * before.size and piece.size < 0.85 * before.size
    is_number = before.text[-1:].isdigit() and RAISED_NUMBER.match(piece.text) is not None
    return is_raised and is_number


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
