"""Follows the text operators of a PDF page, and notes the runs of text that they show.

Takes operands of pypdf; `painter` gives it the operators. ISO 32000-2, 9.
"""

import math
from collections.abc import Mapping
from copy import copy
from typing import Any

import numpy as np
from pypdf.generic import DictionaryObject

from d2l.documents.readers.pdf.canvas import Canvas, Run, State
from d2l.documents.readers.pdf.fonts import look_up
from d2l.documents.readers.pdf.geometry import (
    IDENTITY,
    Matrix,
    determinant,
    move,
    multiply,
    read_matrix,
    transform_box,
)
from d2l.documents.readers.pdf.shapes import Floats
from d2l.documents.readers.pdf.strings import Measured, measure_items
from d2l.documents.readers.pdf.widths import GUESS, Measure, find_measures

ASCENT, DESCENT = 0.75, -0.25  # of a line of text, in ems
GUESSED_WIDTH = 1.5  # times a width that the font does not tell
N_PLACES = 12  # along a run, where it is looked at
HEIGHTS = (0.02, 0.18, 0.34, 0.5)  # above its baseline there, in ems: where all letters have ink
ACROSS = (-0.3, -0.1, 0.1, 0.3)  # from the middle of vertical lines


class Writer:
    """Follows the text operators of a page or form."""

    def __init__(
        self, canvas: Canvas, resources: Any, state: State, path: tuple[int, ...] = ()
    ) -> None:
        resources = resources.get_object() if resources is not None else None
        self._resources = resources if isinstance(resources, DictionaryObject) else None
        self._canvas = canvas
        self._state = state
        self._path = path
        self._measures: Mapping[str, Measure] = find_measures(resources, canvas.known)
        self._marks: list[bool] = []  # of open marked content: whether its layer is off
        self._text: Matrix = IDENTITY
        self._line: Matrix = IDENTITY
        self._index = 0

    def _find(self, category: str, name: Any) -> Any:
        """A named resource as it stands in its dictionary, perhaps a reference; None without."""
        named = look_up(self._resources, category) if self._resources is not None else None
        return (
            named.raw_get(name) if isinstance(named, DictionaryObject) and name in named else None
        )

    def _begin_text(self, _operands: Any) -> None:
        self._text = self._line = IDENTITY

    def _set_font(self, operands: Any) -> None:
        font = self._find("/Font", operands[0])
        self._use_font(
            font.get_object() if font is not None else None,
            self._measures.get(operands[0], GUESS),
            operands[1],
        )

    def _use_font(self, font: Any, measure: Measure, size: Any) -> None:
        state = self._state
        state.size, state.measure = float(size), measure
        state.is_type3 = isinstance(font, DictionaryObject) and font.get("/Subtype") == "/Type3"
        encoding = look_up(font, "/Encoding") if isinstance(font, DictionaryObject) else None
        state.is_vertical = isinstance(encoding, str) and encoding.endswith("-V")

    def _set_mode(self, operands: Any) -> None:
        self._state.mode = int(operands[0])

    def _set_stretch(self, operands: Any) -> None:
        self._state.stretch = float(operands[0]) / 100

    def _move_line(self, operands: Any) -> None:
        x, y = map(float, operands)
        self._text = self._line = move(self._line, x, y)

    def _move_line_leading(self, operands: Any) -> None:
        self._state.leading = -float(operands[1])
        self._move_line(operands)

    def _set_text_matrix(self, operands: Any) -> None:
        self._text = self._line = read_matrix(operands)

    def _next_line(self, _operands: Any) -> None:
        self._move_line((0.0, -self._state.leading))

    def _show_next_line(self, operands: Any) -> None:
        if len(operands) == 3:
            self._state.word_spacing, self._state.char_spacing = map(float, operands[:2])
        self._next_line(operands)
        self._show(operands)

    def _show(self, operands: Any) -> None:
        state = self._state
        shown = measure_items(operands[-1], state)
        if shown.words:
            self._canvas.runs.append(self._make_run(multiply(self._text, state.matrix), shown))
        step = (0.0, -abs(shown.length)) if state.is_vertical else (shown.length, 0.0)
        self._text = move(self._text, *step)

    def _make_run(self, matrix: Matrix, shown: Measured) -> Run:
        state = copy(self._state)
        wide = shown.length * (1.0 if state.measure.default is not None else GUESSED_WIDTH)
        low, high = state.rise + DESCENT * state.size, state.rise + ASCENT * state.size
        box = (min(0.0, wide), min(low, high), max(0.0, wide), max(low, high))
        if state.is_vertical:
            box = (-state.size, -abs(wide) - state.size, state.size, state.size)
        along = math.hypot(matrix[0], matrix[1])
        unit = state.size * state.stretch
        return Run(
            (*self._path, self._index),
            self._canvas.next_order(),
            transform_box(matrix, box),
            spread_spots(matrix, shown, state),
            shown.n_chars,
            kern=-1000 * shown.length / unit if unit else 0.0,
            height=abs(state.size * determinant(matrix) / along) if along else 0.0,
            width=abs(unit) * along,
            state=state,
            is_layer_off=self._marks[-1],
        )


def spread_spots(matrix: Matrix, shown: Measured, state: State) -> Floats:
    """Give points of the page that lie on the letters of a run: one row each, x and y."""
    places = shown.spread(N_PLACES)
    if state.is_vertical:
        spots = [(share * state.size, -abs(place)) for place in places for share in ACROSS]
    else:
        heights = [state.rise + share * state.size for share in HEIGHTS]
        spots = [(place, height) for place in places for height in heights]
    a, b, c, d, e, f = matrix
    return np.array([(a * x + c * y + e, b * x + d * y + f) for x, y in spots])
