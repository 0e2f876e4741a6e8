"""The path that a PDF page is drawing: its rectangles, lines and curves, as points of the page."""

from collections.abc import Sequence
from typing import Any

from d2l.documents.readers.pdf.geometry import Matrix, Point, bound, is_rectangle, transform
from d2l.documents.readers.pdf.shapes import Fill, Rectangle, Shape, Stroke, cut_dashes

N_CHORDS = 8  # that stand for a curve


class Outline:
    """The path between the first operator that draws and the one that paints.

    `clips` says that the path will bound what is painted after it, and `clips_odd` that it does
    so by the even-odd rule.
    """

    def __init__(self) -> None:
        self.clips = False
        self.clips_odd = False
        self._lines: list[list[Point]] = []
        self._is_closed = False  # the last line

    def add_rectangle(self, matrix: Matrix, operands: Sequence[Any]) -> None:
        """Add `re`."""
        x, y, width, height = map(float, operands)
        corners = ((x, y), (x + width, y), (x + width, y + height), (x, y + height), (x, y))
        self._lines.append([transform(matrix, *corner) for corner in corners])
        self._is_closed = True

    def begin(self, matrix: Matrix, operands: Sequence[Any]) -> None:
        """Add `m`."""
        x, y = map(float, operands)
        self._lines.append([transform(matrix, x, y)])
        self._is_closed = False

    def add_line(self, matrix: Matrix, operands: Sequence[Any]) -> None:
        """Add `l`."""
        x, y = map(float, operands)
        if self._lines:
            self._go_on().append(transform(matrix, x, y))

    def add_curve(self, matrix: Matrix, points: Sequence[Any]) -> None:
        """Add a curve by its three points: two that draw it, and its end."""
        numbers = list(map(float, points))
        if not self._lines:
            return
        line = self._go_on()
        ends = zip(numbers[::2], numbers[1::2], strict=True)
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = line[-1], *(transform(matrix, *p) for p in ends)
        for n in range(1, N_CHORDS + 1):
            t = n / N_CHORDS
            s = 1 - t
            a, b, c, d = s**3, 3 * s * s * t, 3 * s * t * t, t**3
            line.append((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3))

    def add_curve_from_here(self, matrix: Matrix, operands: Sequence[Any]) -> None:
        """Add `v`: a curve whose first point is the one where it begins."""
        x2, y2, x3, y3 = map(float, operands)
        if self._lines:
            # The pen's place is known on the page alone, so the curve is drawn there.
            first = self._lines[-1][0 if self._is_closed else -1]
            second, end = transform(matrix, x2, y2), transform(matrix, x3, y3)
            self.add_curve((1, 0, 0, 1, 0, 0), [*first, *second, *end])

    def add_curve_to_end(self, matrix: Matrix, operands: Sequence[Any]) -> None:
        """Add `y`: a curve whose second point is the one where it ends."""
        self.add_curve(matrix, [*operands[:4], *operands[2:4]])

    def close(self) -> None:
        """Add `h`."""
        if self._lines and not self._is_closed:
            self._lines[-1].append(self._lines[-1][0])
            self._is_closed = True

    def _go_on(self) -> list[Point]:
        """The line to draw on: a new one where the last is closed."""
        if self._is_closed:
            self._lines.append([self._lines[-1][0]])
            self._is_closed = False
        return self._lines[-1]

    def fill(self, *, odd: bool = False) -> Shape | None:
        """What the path encloses; None if it has no lines."""
        lines = [line for line in self._lines if len(line) > 1]
        if len(lines) == 1 and is_rectangle(lines[0]):
            return Rectangle(bound(lines[0]))
        return Fill(lines, odd=odd) if lines else None

    def stroke(self, half: float, dashes: Sequence[float], phase: float) -> Shape | None:
        """What a pen of half a width paints along the path; None if that is nothing."""
        lines = [line for line in self._lines if len(line) > 1]
        pieces = cut_dashes(lines, dashes, phase) if dashes else lines
        return Stroke(pieces, half) if pieces else None
