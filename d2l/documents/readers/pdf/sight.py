"""What is left to see of each run of a PDF page, where all that the page paints is painted.

Takes what is on a canvas. Each run is looked at in a few points of its letters: there, the page is
painted once with the run and once without it, in order, and the colors are compared.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from d2l.documents.readers.pdf.blends import NORMAL, blend, look_alike, vanishes
from d2l.documents.readers.pdf.canvas import LEAST_ALPHA, Area, Paint, Run
from d2l.documents.readers.pdf.geometry import Box
from d2l.documents.readers.pdf.shapes import Floats, Mask, Rectangle, Shape

Indexes = NDArray[np.integer[Any]]

BATCH = 4096  # runs that are looked at together, to bound memory
# Colors that are none, and differ from all that are.
UNKNOWN_GROUND, UNKNOWN_INK = -3.0, 3.0
PAPER = 1.0


@dataclass(frozen=True)
class Sight:
    """What of a run can be seen, in shares of it from 0 to 1.

    `is_begun`: its first letters are on the page.
    """

    on_page: float
    in_clip: float  # of the page
    inked: float  # of what is on the page and in the clip: in another color than its ground
    seen: float  # of all: what nothing covers later, too
    on_image: float
    under_later: float  # what something painted later shows
    is_begun: bool


def look(runs: Sequence[Run], areas: Sequence[Area], page: Box) -> list[Sight]:
    """Give what can be seen of each run; runs and areas come in the order they are painted."""
    seen: list[Sight] = []
    with np.errstate(all="ignore"):  # a stranger's numbers may be too large to multiply
        for start in range(0, len(runs), BATCH):
            seen += _Sweep(runs[start : start + BATCH]).look(areas, page)
    return seen


class _Sweep:
    """Goes through the areas once, for some runs at a time. Arrays: runs x points x colors."""

    def __init__(self, runs: Sequence[Run]) -> None:
        spots = np.array([run.spots for run in runs], dtype=float)
        self._runs = runs
        self._xs, self._ys = spots[:, :, 0], spots[:, :, 1]
        self._bounds = (
            self._xs.min(axis=1), self._ys.min(axis=1), self._xs.max(axis=1), self._ys.max(axis=1)
        )  # fmt: skip
        self._back = np.full((*self._xs.shape, 3), PAPER)
        self._front = self._back.copy()
        self._inked = np.zeros(self._xs.shape, dtype=bool)
        self._imaged = np.zeros(self._xs.shape, dtype=bool)
        self._under = np.zeros(self._xs.shape, dtype=bool)
        self._paints = [tuple(list_paints(run)) for run in runs]
        self._n_inked = 0

    def look(self, areas: Sequence[Area], page: Box) -> Iterator[Sight]:
        """Yield what can be seen of each run."""
        orders = [run.order for run in self._runs]
        first, last = self._bound_by_solid(areas)
        for area in areas:
            n_before = bisect_left(orders, area.order)
            self._ink_up_to(n_before)
            matters = (area.order >= first) & (area.order <= last)
            self._paint(area, n_before, matters | area.is_image)
        self._ink_up_to(len(orders))
        on_page = Rectangle(page).holds(self._xs, self._ys)
        in_clip = on_page & self._clip()
        inked = in_clip & self._inked
        seen = inked & ~look_alike(self._front, self._back)
        n_on, n_in = on_page.sum(axis=1), in_clip.sum(axis=1)
        yield from map(
            Sight,
            on_page.mean(axis=1).tolist(),
            (n_in / np.maximum(1, n_on)).tolist(),
            (inked.sum(axis=1) / np.maximum(1, n_in)).tolist(),
            seen.mean(axis=1).tolist(),
            self._imaged.mean(axis=1).tolist(),
            self._under.mean(axis=1).tolist(),
            on_page[:, 0].tolist(),
        )

    def _bound_by_solid(self, areas: Sequence[Area]) -> tuple[Floats, Floats]:
        """The orders of the first and last area that matter to each run: what is under a solid
        one under all of the run, or over one over all of it, cannot be seen."""
        solid = [a for a in areas if is_solid(a)]
        boxes = np.array([a.box for a in solid], dtype=float).reshape(-1, 4)
        orders = np.array([a.order for a in solid], dtype=float)
        first, last = np.zeros(len(self._runs)), np.full(len(self._runs), np.inf)
        left, bottom, right, top = boxes.T
        for n, (x0, y0, x1, y1) in enumerate(zip(*self._bounds, strict=True)):
            around = orders[(left <= x0) & (bottom <= y0) & (right >= x1) & (top >= y1)]
            at = int(np.searchsorted(around, self._runs[n].order))
            first[n] = around[at - 1] if at else 0.0
            last[n] = around[at] if at < len(around) else np.inf
        return first, last

    def _clip(self) -> Mask:
        """Which points the clips of their runs leave; what runs share is asked once."""
        x0, y0, x1, y1 = np.array([run.state.clip for run in self._runs]).T[:, :, None]
        xs, ys = self._xs, self._ys
        left = (xs >= x0) & (xs <= x1) & (ys >= y0) & (ys <= y1)
        users: dict[int, tuple[Shape, list[int]]] = {}
        for n, run in enumerate(self._runs):
            for shape in run.state.clips:
                users.setdefault(id(shape), (shape, []))[1].append(n)
        for shape, rows in users.values():
            left[rows] &= shape.holds(xs[rows], ys[rows])
        return np.asarray(left)

    def _paint(self, area: Area, n_before: int, matters: Mask) -> None:
        """Paint an area over and under the runs that it touches and matters to."""
        left, bottom, right, top = area.box
        x0, y0, x1, y1 = self._bounds
        touched = np.flatnonzero(
            matters & (x1 >= left) & (x0 <= right) & (y1 >= bottom) & (y0 <= top)
        )
        if not len(touched):
            return
        inside = area.holds(self._xs[touched], self._ys[touched])
        rows, columns = np.nonzero(inside)
        rows = touched[rows]
        is_later = rows >= n_before  # than the area
        ground = rows[is_later], columns[is_later]
        cover = rows[~is_later], columns[~is_later]
        self._back[ground] = lay_under(self._back[ground], area.paint)
        self._under[cover] = True
        if area.is_image:
            self._imaged[rows, columns] = True
        elif area.paint.is_even:
            self._cover(cover, area.paint)

    def _cover(self, points: tuple[Indexes, Indexes], paint: Paint) -> None:
        """Paint over runs. In doubt they are seen through it."""
        if hides_all(paint):
            self._front[points] = self._back[points]
        elif paint.color is not None:
            front, back = self._front[points], self._back[points]
            known = (is_known(front) & is_known(back))[:, None] | (paint.blend == NORMAL)
            self._front[points] = np.where(known, mix(front, paint), front)
            self._back[points] = np.where(known, mix(back, paint), back)

    def _ink_up_to(self, n: int) -> None:
        """Paint the runs whose turn has come."""
        start, self._n_inked = self._n_inked, n
        alike: dict[tuple[Paint, ...], list[int]] = {}
        for number in range(start, n):
            alike.setdefault(self._paints[number], []).append(number)
        for paints, rows in alike.items():
            back = self._back[rows]
            front = back
            for paint in paints:  # the one that can be told better counts
                other = lay_over(back, paint)
                near, far = np.abs(front - back).max(axis=2), np.abs(other - back).max(axis=2)
                front = np.where((far > near)[:, :, None], other, front)
            self._front[rows] = front
            self._inked[rows] = ~look_alike(front, back)


def list_paints(run: Run) -> Iterator[Paint]:
    """Yield what the letters of a run are filled and stroked with."""
    if run.state.mode in (0, 2, 4, 6):
        yield run.state.fill_paint()
    if run.state.mode in (1, 2, 5, 6):
        yield run.state.stroke_paint()


def is_known(colors: Floats) -> Mask:
    """Which of some colors are any."""
    return np.asarray(((colors >= 0) & (colors <= 1)).all(axis=-1))


def hides_all(paint: Paint) -> bool:
    """Whether nothing shines through."""
    return paint.is_even and paint.blend == NORMAL and paint.alpha > 1 - LEAST_ALPHA


def is_solid(area: Area) -> bool:
    """Whether an area is all of its box, and nothing shines through."""
    return hides_all(area.paint) and not area.clips and isinstance(area.shape, Rectangle)


def mix(back: Floats, paint: Paint) -> Floats:
    """Give the colors that a paint of a known color makes of others."""
    ink = np.clip(np.array(paint.color, dtype=float), 0, 1)
    mixed = np.clip(blend(paint.blend, np.clip(back, 0, 1), ink), 0, 1)
    return np.asarray(back + paint.alpha * (mixed - back))


def lay_under(back: Floats, paint: Paint) -> Floats:
    """Give the ground that an area makes of another."""
    if hides_all(paint) and paint.color is not None:
        return np.broadcast_to(np.clip(np.array(paint.color), 0, 1), back.shape)
    if paint.color is None:
        return np.full_like(back, UNKNOWN_GROUND)
    return np.where(is_known(back)[..., None], mix(back, paint), UNKNOWN_GROUND)


def lay_over(back: Floats, paint: Paint) -> Floats:
    """Give the colors of letters on a ground. In doubt they are unlike all others."""
    if paint.alpha < LEAST_ALPHA:
        return back
    if paint.color is None:
        return np.full_like(back, UNKNOWN_INK)
    color = np.clip(np.array(paint.color, dtype=float), 0, 1)
    unknown = back if vanishes(paint.blend, color) else np.full_like(back, UNKNOWN_INK)
    return np.where(is_known(back)[..., None], mix(back, paint), unknown)
