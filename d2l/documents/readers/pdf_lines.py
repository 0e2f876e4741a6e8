"""A PDF page to lines of text with their places.

Takes a page of pypdf, gives lines; what to make of them is up to pdf_layout.
"""

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pypdf import PageObject
from pypdf.generic import ArrayObject, DictionaryObject

from d2l.documents.parsing import CELL
from d2l.documents.readers.pdf_layout import Line, clean_line, merge_rows

WIDE_GAP = 1500  # between cells of a table, in thousandths of the font size
BOLD = re.compile(r"bold|black|heavy|CMBX", re.I)  # in the name of a font
MONO = re.compile(r"mono|courier|consol|menlo|typewriter|xtt|CMTT", re.I)
SUBSET_TAG = re.compile(r"^/?(?:[A-Z]{6}\+)?")  # random letters before the name of a font


def read_lines(page: PageObject) -> list[Line]:
    """Extract a page's lines with their places, cells of a row together."""
    collector = _PieceCollector()
    plain = page.extract_text(
        visitor_operand_before=collector.see_operand, visitor_text=collector.see_text
    )
    collector.end_row()
    if collector.n_ink == count_ink(plain):
        columns = find_columns([row.starts for row in collector.rows])
        lines = (make_line(row, found) for row, found in zip(collector.rows, columns, strict=True))
        return merge_rows([line for line in lines if line.text])
    # The visitor saw other text than pypdf gives: trust the text, and do without places.
    rows = [clean_line(row) for row in plain.split("\n")]
    return [Line(row, 0.0, -12.0 * n, 10.0) for n, row in enumerate(rows) if row]


def count_ink(text: str) -> int:
    """Count what is not space."""
    return sum(not char.isspace() for char in text)


@dataclass(frozen=True)
class _Piece:
    """Text that pypdf reports at once, and where it begins."""

    text: str
    x: float = 0.0
    y: float = 0.0
    size: float = 0.0
    font: str = ""


@dataclass(frozen=True)
class _Row:
    """The pieces of a line, and where pieces begin that seem to stand apart from what is left."""

    pieces: tuple[_Piece, ...]
    starts: frozenset[int]
    has_wide_move: bool

    @property
    def longest(self) -> _Piece:
        """The piece that stands for the line: its others may be raised or small."""
        return max(self.pieces, key=lambda piece: len(piece.text.strip()))


class _PieceCollector:
    """Callbacks of pypdf's text extraction: pieces of text, line by line."""

    def __init__(self) -> None:
        self.rows: list[_Row] = []
        self.n_ink = 0
        self._pieces: list[_Piece] = []
        self._starts: defaultdict[int, set[int]] = defaultdict(set)  # by baseline
        self._wide_moves: set[int] = set()  # baselines
        self._font_size = 0.0
        self._pen = (0.0, 0.0)  # about where the last string ended

    def see_operand(self, operator: bytes, operands: Any, cm: Any, tm: Any) -> None:
        """Note where strings begin that seem to stand apart from the one before."""
        if operator == b"Tf" and len(operands) > 1 and isinstance(operands[1], (int, float)):
            self._font_size = abs(float(operands[1]))
        if operator not in (b"Tj", b"TJ") or not operands:
            return
        items = operands[0] if isinstance(operands[0], ArrayObject) else [operands[0]]
        moves = [item for item in items[1:] if isinstance(item, (int, float))]
        along, across, scale = locate(cm, tm)
        size = self._font_size * scale
        end, baseline = self._pen
        if abs(baseline - across) < 0.3 * size and along > end:
            self._starts[round(across)].add(round(along))
        if any(move < -WIDE_GAP for move in moves):
            self._wide_moves.add(round(across))
        # Fonts are not known here: half an em a character, and some more for the doubt.
        n_chars = sum(len(item) for item in items if isinstance(item, (str, bytes)))
        self._pen = (along + size * (0.6 * n_chars + 1 - sum(moves) / 1000), across)

    def see_text(self, text: str, cm: Any, tm: Any, font: Any, size: float) -> None:
        """Add a piece of text; a newline at its end closes the line."""
        self.n_ink += count_ink(text)
        if text.strip():
            along, across, scale = locate(cm, tm)
            name = str(font.get("/BaseFont", "")) if isinstance(font, DictionaryObject) else ""
            name = SUBSET_TAG.sub("", name)
            self._pieces.append(_Piece(text, along, across, abs(size) * scale, name))
        elif text and self._pieces:
            self._pieces.append(_Piece(text))
        if text.endswith("\n"):
            self.end_row()

    def end_row(self) -> None:
        """Make a row of the pieces seen since the last one."""
        if any(piece.text.strip() for piece in self._pieces):
            row = _Row(tuple(self._pieces), frozenset(), False)
            baseline = round(row.longest.y)
            starts = frozenset(self._starts.get(baseline, ()))
            self.rows.append(
                replace(row, starts=starts, has_wide_move=baseline in self._wide_moves)
            )
        self._pieces = []


def find_columns(starts: Sequence[frozenset[int]]) -> list[frozenset[int]]:
    """Keep of the places where text seems to stand apart those that make columns.

    Widths are guesses, so one such place proves nothing: two rows must share two of them, or
    three rows one.
    """
    near = [places | {x - 1 for x in places} | {x + 1 for x in places} for places in starts]
    found: list[set[int]] = [set() for _ in starts]
    for row in range(len(starts) - 1):
        pair = starts[row] & near[row + 1]
        if len(pair) > 1:
            found[row] |= pair
            found[row + 1] |= starts[row + 1] & near[row]
        triple = pair & near[row + 2] if row + 2 < len(starts) else frozenset()
        for other in range(row, row + 3) if triple else ():
            found[other] |= {x for x in starts[other] if any(abs(x - y) < 3 for y in triple)}
    return [frozenset(places) for places in found]


def make_line(row: _Row, columns: frozenset[int]) -> Line:
    """Put the pieces of a row together, table cells apart."""
    text = ""
    for piece in row.pieces:
        if text and piece.text.strip() and round(piece.x) in columns:
            text = text.rstrip() + CELL
        text += piece.text.lstrip() if text.endswith(CELL) else piece.text
    inked = [piece for piece in row.pieces if piece.text.strip()]
    return Line(
        clean_line(text),
        x=inked[0].x,
        y=row.longest.y,
        size=row.longest.size or 10.0,
        bold=all(BOLD.search(piece.font) for piece in inked),
        mono=all(MONO.search(piece.font) for piece in inked),
        cells=2 if columns or row.has_wide_move else 1,
    )


def locate(cm: Sequence[float], tm: Sequence[float]) -> tuple[float, float, float]:
    """Give a place along the direction of writing, one across it (up), and the scale."""
    a = tm[0] * cm[0] + tm[1] * cm[2]
    b = tm[0] * cm[1] + tm[1] * cm[3]
    c = tm[2] * cm[0] + tm[3] * cm[2]
    d = tm[2] * cm[1] + tm[3] * cm[3]
    x = tm[4] * cm[0] + tm[5] * cm[2] + cm[4]
    y = tm[4] * cm[1] + tm[5] * cm[3] + cm[5]
    length = math.hypot(a, b) or 1.0
    cosine, sine = a / length, b / length
    return x * cosine + y * sine, y * cosine - x * sine, math.hypot(c, d)
