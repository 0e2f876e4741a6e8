"""What of a PDF page a path fills or strokes, exactly: asked point by point.

Takes lines and rectangles in points of the page, answers for arrays of points of any one shape.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from d2l.documents.readers.pdf.geometry import Box, Point, bound

Floats = NDArray[np.floating[Any]]
Mask = NDArray[np.bool_]

MAX_DASHES = 2000  # of one line; finer ones are painted as if they had no gaps
BLOCK = 1 << 20  # pairs of a point and an edge that are looked at together


class Shape(Protocol):
    """Something with an inside."""

    @property
    def box(self) -> Box:
        """The box around it."""

    def holds(self, xs: Floats, ys: Floats) -> Mask:
        """Which points lie inside."""


class Rectangle:
    """A rectangle with upright sides."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def holds(self, xs: Floats, ys: Floats) -> Mask:
        """Which points lie inside."""
        left, bottom, right, top = self.box
        return np.asarray((xs >= left) & (xs <= right) & (ys >= bottom) & (ys <= top))


class Fill:
    """What closed lines enclose; `odd`: by the even-odd rule, else by the nonzero winding rule."""

    def __init__(self, lines: Sequence[Sequence[Point]], *, odd: bool) -> None:
        self._edges = join_points(lines, is_closed=True)
        self._odd = odd
        self.box = bound([point for line in lines for point in line])

    def holds(self, xs: Floats, ys: Floats) -> Mask:
        """Which points lie inside."""
        return ask_in_blocks(self._wind, xs, ys, len(self._edges))

    def _wind(self, xs: Floats, ys: Floats) -> Mask:
        x0, y0, x1, y1 = self._edges.T
        x, y = xs[:, None], ys[:, None]
        side = (x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)
        up = (y0 <= y) & (y1 > y) & (side > 0)
        down = (y1 <= y) & (y0 > y) & (side < 0)
        turns = up.sum(axis=1) - down.sum(axis=1)
        return np.asarray(turns % 2 != 0 if self._odd else turns != 0)


class Stroke:
    """What a pen of half a width paints along lines: blunt at their ends, round where they turn."""

    def __init__(self, lines: Sequence[Sequence[Point]], half: float) -> None:
        edges = join_points(lines, is_closed=False)
        along = edges[:, 2:] - edges[:, :2]
        long = np.hypot(along[:, 0], along[:, 1])
        edges, along, long = edges[long > 0], along[long > 0], long[long > 0]
        self._starts, self._long = edges[:, :2], long
        self._along = along / long[:, None] if len(long) else along
        turns = [point for line in lines for point in line[1:-1]]
        turns += [line[0] for line in lines if len(line) > 2 and line[0] == line[-1]]
        self._turns = np.array(turns, dtype=float).reshape(-1, 2)
        self._half = half
        left, bottom, right, top = bound([point for line in lines for point in line])
        self.box = (left - half, bottom - half, right + half, top + half)

    def holds(self, xs: Floats, ys: Floats) -> Mask:
        """Which points lie inside."""
        return ask_in_blocks(self._touch, xs, ys, len(self._long) + len(self._turns))

    def _touch(self, xs: Floats, ys: Floats) -> Mask:
        x, y = xs[:, None] - self._starts[:, 0], ys[:, None] - self._starts[:, 1]
        forward = x * self._along[:, 0] + y * self._along[:, 1]
        aside = np.abs(y * self._along[:, 0] - x * self._along[:, 1])
        on_line = (forward >= 0) & (forward <= self._long) & (aside <= self._half)
        away = np.hypot(xs[:, None] - self._turns[:, 0], ys[:, None] - self._turns[:, 1])
        return np.asarray(on_line.any(axis=1) | (away <= self._half).any(axis=1))


def join_points(lines: Sequence[Sequence[Point]], *, is_closed: bool) -> Floats:
    """The edges between the points of lines: one row each, with both ends."""
    edges = [
        (*one, *two)
        for line in lines
        for one, two in pairwise([*line, line[0]] if is_closed else line)
    ]
    return np.array(edges, dtype=float).reshape(-1, 4)


def ask_in_blocks(
    ask: Callable[[Floats, Floats], Mask], xs: Floats, ys: Floats, n_edges: int
) -> Mask:
    """Answer for many points of any arrangement, a bounded number of them at a time."""
    flat_x, flat_y = xs.ravel(), ys.ravel()
    step = max(1, BLOCK // max(1, n_edges))
    found = np.zeros(flat_x.shape, dtype=bool)
    for start in range(0, len(flat_x), step):
        part = slice(start, start + step)
        found[part] = ask(flat_x[part], flat_y[part])
    return found.reshape(xs.shape)


def cut_dashes(
    lines: Sequence[Sequence[Point]], dashes: Sequence[float], phase: float
) -> list[list[Point]]:
    """The pieces of lines that a pattern of dashes and gaps leaves; all where it is too fine."""
    period = sum(dashes)
    if period <= 0 or min(dashes) < 0:
        return [list(line) for line in lines]
    pieces: list[list[Point]] = []
    for line in lines:
        edges = join_points([line], is_closed=False)
        long = float(np.hypot(edges[:, 2] - edges[:, 0], edges[:, 3] - edges[:, 1]).sum())
        if long / period * len(dashes) > MAX_DASHES:
            pieces.append(list(line))
        else:
            pieces += cut_line(edges, dashes, phase % (2 * period))
    return pieces


def cut_line(edges: Floats, dashes: Sequence[float], phase: float) -> list[list[Point]]:
    """The dashes along the edges of one line."""
    pieces: list[list[Point]] = []
    at = 0
    while phase >= dashes[at % len(dashes)]:
        phase -= dashes[at % len(dashes)]
        at += 1
    left = dashes[at % len(dashes)] - phase  # of this dash or gap
    for x0, y0, x1, y1 in edges.tolist():
        long, done = float(np.hypot(x1 - x0, y1 - y0)), 0.0
        while done < long:
            step = min(left, long - done)
            if at % 2 == 0 and step > 0:
                ends = (done / long, (done + step) / long)
                pieces.append([(x0 + t * (x1 - x0), y0 + t * (y1 - y0)) for t in ends])
            done, left = done + step, left - step
            if left <= 0:
                at += 1
                left = dashes[at % len(dashes)]
    return pieces
