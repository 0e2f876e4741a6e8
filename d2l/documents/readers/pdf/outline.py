"""The path that a PDF page is drawing: its rectangles, lines and curves, as boxes on the page."""

from collections.abc import Iterator, Sequence
from typing import Any

from d2l.documents.readers.pdf.geometry import (
    Box,
    Matrix,
    Point,
    bound,
    is_rectangle,
    is_upright,
    transform,
    transform_box,
)


class Outline:
    """The path between the first operator that draws and the one that paints.

    `clips` says that the path will bound what is painted after it.
    """

    def __init__(self) -> None:
        self.clips = False
        self._rectangles: list[Box] = []
        self._lines: list[list[Point]] = []
        self._is_even = True  # nothing but upright rectangles

    def add_rectangle(self, matrix: Matrix, operands: Sequence[Any]) -> None:
        """Add `re`."""
        x, y, width, height = map(float, operands)
        self._rectangles.append(transform_box(matrix, (x, y, x + width, y + height)))
        self._is_even = self._is_even and is_upright(matrix)

    def begin(self, matrix: Matrix, operands: Sequence[Any]) -> None:
        """Add `m`."""
        x, y = map(float, operands)
        self._lines.append([transform(matrix, x, y)])

    def add_points(self, matrix: Matrix, operands: Sequence[Any]) -> None:
        """Add `l`, or the points that bound a curve."""
        numbers = list(map(float, operands))
        self._is_even = self._is_even and len(numbers) == 2
        if self._lines:
            for x, y in zip(numbers[::2], numbers[1::2], strict=True):
                self._lines[-1].append(transform(matrix, x, y))

    def boxes(self, *, odd: bool = False) -> tuple[list[Box], bool]:
        """The boxes of what is drawn, and whether each is filled whole: else there is only one.

        `odd`: by the even-odd rule, where rectangles may be holes in others.
        """
        lines = [line for line in self._lines if len(line) > 1]
        boxes = [*self._rectangles, *map(bound, lines)]
        if self._is_even and all(map(is_rectangle, lines)) and not (odd and len(boxes) > 1):
            return boxes, True
        return [bound_all(boxes)] if boxes else [], False

    def bars(self, half: float) -> Iterator[Box]:
        """What strokes of half a width paint along straight upright lines."""
        for line in self._lines if self._is_even else ():
            if len(line) == 2:
                left, bottom, right, top = bound(line)
                if bottom == top:
                    yield left, bottom - half, right, top + half
                elif left == right:
                    yield left - half, bottom, right + half, top


def bound_all(boxes: Sequence[Box]) -> Box:
    """The box around boxes."""
    return bound([corner for box in boxes for corner in (box[:2], box[2:])])
