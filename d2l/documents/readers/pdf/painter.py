"""Goes through the operations of a PDF page, and notes what they paint on a canvas.

Takes operations of pypdf, gives runs of text and areas with their colors. ISO 32000-2, 8 and 9.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from typing import Any

from pypdf.errors import PyPdfError
from pypdf.generic import ArrayObject, DictionaryObject

from d2l.documents.readers.colors import Color
from d2l.documents.readers.pdf import colors
from d2l.documents.readers.pdf.canvas import Area, Canvas, Run, State
from d2l.documents.readers.pdf.fonts import MAX_NESTED_FORMS, look_up, read_numbers
from d2l.documents.readers.pdf.geometry import (
    IDENTITY,
    Box,
    Matrix,
    bound,
    determinant,
    intersect,
    move,
    multiply,
    read_matrix,
    transform_box,
)
from d2l.documents.readers.pdf.outline import Outline, bound_all
from d2l.documents.readers.pdf.strings import Operation, measure_items
from d2l.documents.readers.pdf.widths import GUESS, Measure, find_measures, measure_font

MAX_FORMS = 5000  # painted on one page; text of more is taken to be seen
OPAQUE = 0.99
MIN_HALF_LINE = 0.5  # points: thinner lines are no ground for text
ASCENT, DESCENT = 0.75, -0.25  # of a line of text, in ems
GUESSED_WIDTH = 1.5  # times a width that the font does not tell
# What an operator raises whose operands are not what they should be: it is passed over.
BAD_OPERANDS = (
    PyPdfError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
)  # fmt: skip


class Painter:
    """Goes through the operations of a page or form, and notes what they paint on a canvas."""

    def __init__(
        self, canvas: Canvas, resources: Any, state: State, path: tuple[int, ...] = ()
    ) -> None:
        resources = resources.get_object() if resources is not None else None
        self._resources = resources if isinstance(resources, DictionaryObject) else None
        self._canvas = canvas
        self._state = state
        self._path = path
        self._measures: Mapping[str, Measure] = find_measures(resources, canvas.known)
        self._saved: list[State] = []
        self._marks: list[bool] = []  # of open marked content: whether its layer is off
        self._text: Matrix = IDENTITY
        self._line: Matrix = IDENTITY
        self._outline = Outline()
        self._index = 0

    def paint(self, operations: Sequence[Operation], *, is_off: bool = False) -> None:
        """Note all that operations paint; `is_off`: they stand on a layer that is."""
        self._marks.append(is_off)
        for index, (operands, operator) in enumerate(operations):
            if (handle := HANDLERS.get(operator)) is not None:
                self._index = index
                try:
                    handle(self, operands)
                except BAD_OPERANDS:
                    continue

    def _find(self, category: str, name: Any) -> Any:
        """A named resource as it stands in its dictionary, perhaps a reference; None without."""
        named = look_up(self._resources, category) if self._resources is not None else None
        return (
            named.raw_get(name) if isinstance(named, DictionaryObject) and name in named else None
        )

    # Graphics state

    def _save(self, _operands: Any) -> None:
        self._saved.append(copy(self._state))

    def _restore(self, _operands: Any) -> None:
        if self._saved:
            self._state = self._saved.pop()

    def _concatenate(self, operands: Any) -> None:
        self._state.matrix = multiply(read_matrix(operands), self._state.matrix)

    def _set_line_width(self, operands: Any) -> None:
        self._state.line_width = float(operands[0])

    def _set_dashes(self, operands: Any) -> None:
        self._state.is_dashed = len(operands[0]) > 0

    def _set_from_dictionary(self, operands: Any) -> None:
        found = self._find("/ExtGState", operands[0]).get_object()
        state = self._state
        state.fill_alpha = float(found.get("/ca", state.fill_alpha))
        state.stroke_alpha = float(found.get("/CA", state.stroke_alpha))
        state.line_width = float(found.get("/LW", state.line_width))
        if "/SMask" in found:
            state.is_masked = look_up(found, "/SMask") != "/None"
        if "/BM" in found:
            blend = look_up(found, "/BM")
            state.blend = str(blend[0] if isinstance(blend, ArrayObject) else blend)
        if "/Font" in found:
            font, size = look_up(found, "/Font")
            font = font.get_object()
            self._use_font(font, measure_font(font, self._canvas.known), size)

    def _set_fill(self, operands: Any) -> None:
        state = self._state
        state.fill = colors.read_color(state.fill_space, operands, self._resources)

    def _set_stroke(self, operands: Any) -> None:
        state = self._state
        state.stroke = colors.read_color(state.stroke_space, operands, self._resources)

    def _set_fill_space(self, operands: Any) -> None:
        self._state.fill_space = space = colors.find_space(operands[0], self._resources)
        self._state.fill = colors.first_color(space)

    def _set_stroke_space(self, operands: Any) -> None:
        self._state.stroke_space = space = colors.find_space(operands[0], self._resources)
        self._state.stroke = colors.first_color(space)

    # Layers

    def _begin_mark(self, operands: Any) -> None:
        is_off = self._marks[-1]
        if len(operands) > 1 and operands[0] == "/OC":
            content = operands[1]
            if not isinstance(content, DictionaryObject):
                content = self._find("/Properties", content)
            is_off = is_off or self._canvas.layers.hides(content)
        self._marks.append(is_off)

    def _end_mark(self, _operands: Any) -> None:
        if len(self._marks) > 1:
            self._marks.pop()

    # Paths

    def _end_path(self, *, fills: bool, strokes: bool, odd: bool) -> None:
        """Paint the path, and clip by it if that was asked for."""
        outline, self._outline = self._outline, Outline()
        boxes, is_whole = outline.boxes(odd=odd)
        state = self._state
        if not boxes:
            return
        if fills and not self._marks[-1]:
            for box in boxes:
                self._add_area(box, state.fill, state.fill_alpha, is_whole=is_whole)
        elif strokes and not self._marks[-1]:
            half = state.line_width * math.sqrt(abs(determinant(state.matrix))) / 2
            if half > MIN_HALF_LINE:
                left, bottom, right, top = bound_all(boxes)
                wide = (left - half, bottom - half, right + half, top + half)
                self._add_area(wide, state.stroke, state.stroke_alpha, is_whole=False)
                for bar in () if state.is_dashed else outline.bars(half):
                    self._add_area(bar, state.stroke, state.stroke_alpha, is_whole=True)
        if outline.clips:
            state.clip = intersect(state.clip, bound_all(boxes))

    def _add_area(self, box: Box, color: Color, alpha: float, *, is_whole: bool) -> None:
        state = self._state
        alpha *= state.group_alpha
        if alpha < 1 - OPAQUE:
            return
        is_plain = alpha >= OPAQUE and state.blend == "/Normal" and not state.is_masked
        self._canvas.areas.append(
            Area(
                self._canvas.next_order(),
                intersect(box, state.clip),
                color if is_plain else None,
                is_solid=is_plain and is_whole,
            )
        )

    def _fill_clip(self, _operands: Any) -> None:
        """Paint a shading, which fills all that is not clipped away."""
        box = intersect(self._state.clip, self._canvas.page)
        if not self._marks[-1]:
            self._canvas.areas.append(Area(self._canvas.next_order(), box))

    # Images and forms

    def _paint_image(self, _operands: Any) -> None:
        box = intersect(transform_box(self._state.matrix, (0, 0, 1, 1)), self._state.clip)
        if not self._marks[-1]:
            self._canvas.areas.append(Area(self._canvas.next_order(), box, is_image=True))

    def _paint_object(self, operands: Any) -> None:
        found = self._find("/XObject", operands[0]).get_object()
        content = found.raw_get("/OC") if "/OC" in found else None
        is_off = self._marks[-1] or self._canvas.layers.hides(content)
        if look_up(found, "/Subtype") == "/Image":
            if not is_off:
                self._paint_image(operands)
            return
        canvas = self._canvas
        canvas.n_forms += 1
        if canvas.n_forms > MAX_FORMS or len(self._path) >= MAX_NESTED_FORMS:
            return
        state = copy(self._state)
        if "/Matrix" in found:
            state.matrix = multiply(read_matrix(look_up(found, "/Matrix")), state.matrix)
        if "/Group" in found:  # painted by itself, then laid over the page as one
            state.group_alpha *= state.fill_alpha
            state.fill_alpha = state.stroke_alpha = 1.0
        corners = read_numbers(look_up(found, "/BBox"))
        if len(corners) == 4:
            box = bound([(corners[0], corners[1]), (corners[2], corners[3])])
            state.clip = intersect(state.clip, transform_box(state.matrix, box))
        resources = found.get("/Resources", self._resources)
        inner = Painter(canvas, resources, state, (*self._path, self._index))
        inner.paint(canvas.parse(found).operations, is_off=is_off)

    # Text

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
        length, n_chars = measure_items(operands[-1], state)
        across = multiply(self._text, state.matrix)
        if n_chars:
            self._canvas.runs.append(self._make_run(across, length, n_chars))
        step = (0.0, -abs(length)) if state.is_vertical else (length, 0.0)
        self._text = move(self._text, *step)

    def _make_run(self, matrix: Matrix, length: float, n_chars: int) -> Run:
        state = copy(self._state)
        wide = length * (1.0 if state.measure.default is not None else GUESSED_WIDTH)
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
            n_chars,
            kern=-1000 * length / unit if unit else 0.0,
            height=abs(state.size * determinant(matrix) / along) if along else 0.0,
            width=abs(unit) * along,
            state=state,
            is_layer_off=self._marks[-1],
        )


def set_number(name: str) -> "Handler":
    """Make what handles an operator that sets one number of the state."""

    def handle(painter: Painter, operands: Any) -> None:
        setattr(painter._state, name, float(operands[0]))

    return handle


def set_device_color(space: str, *, fills: bool) -> "Handler":
    """Make what handles an operator that sets a color of a device."""

    def handle(painter: Painter, operands: Any) -> None:
        found = colors.Space(space)
        color = colors.read_color(found, operands, None)
        state = painter._state
        if fills:
            state.fill_space, state.fill = found, color
        else:
            state.stroke_space, state.stroke = found, color

    return handle


def add_points(painter: Painter, operands: Any) -> None:
    """Go on with the path: a line or a curve."""
    painter._outline.add_points(painter._state.matrix, operands)


def clip(painter: Painter, _operands: Any) -> None:
    """Let the path bound what is painted after it."""
    painter._outline.clips = True


def end_path(*, fills: bool = False, strokes: bool = False, odd: bool = False) -> "Handler":
    """Make what handles an operator that paints a path, or ends it."""

    def handle(painter: Painter, _operands: Any) -> None:
        painter._end_path(fills=fills, strokes=strokes, odd=odd)

    return handle


Handler = Callable[[Painter, Any], None]
HANDLERS: dict[bytes, Handler] = {
    b"q": Painter._save,
    b"Q": Painter._restore,
    b"cm": Painter._concatenate,
    b"w": set_number("line_width"),
    b"d": Painter._set_dashes,
    b"gs": Painter._set_from_dictionary,
    b"g": set_device_color(colors.GRAY, fills=True),
    b"rg": set_device_color(colors.RGB, fills=True),
    b"k": set_device_color(colors.CMYK, fills=True),
    b"G": set_device_color(colors.GRAY, fills=False),
    b"RG": set_device_color(colors.RGB, fills=False),
    b"K": set_device_color(colors.CMYK, fills=False),
    b"cs": Painter._set_fill_space,
    b"CS": Painter._set_stroke_space,
    b"sc": Painter._set_fill,
    b"scn": Painter._set_fill,
    b"SC": Painter._set_stroke,
    b"SCN": Painter._set_stroke,
    b"BMC": Painter._begin_mark,
    b"BDC": Painter._begin_mark,
    b"EMC": Painter._end_mark,
    b"re": lambda painter, numbers: painter._outline.add_rectangle(painter._state.matrix, numbers),
    b"m": lambda painter, numbers: painter._outline.begin(painter._state.matrix, numbers),
    **dict.fromkeys((b"l", b"c", b"v", b"y"), add_points),
    **dict.fromkeys((b"W", b"W*"), clip),
    b"f": end_path(fills=True),
    b"F": end_path(fills=True),
    b"f*": end_path(fills=True, odd=True),
    b"B": end_path(fills=True, strokes=True),
    b"b": end_path(fills=True, strokes=True),
    b"B*": end_path(fills=True, strokes=True, odd=True),
    b"b*": end_path(fills=True, strokes=True, odd=True),
    b"S": end_path(strokes=True),
    b"s": end_path(strokes=True),
    b"n": end_path(),
    b"sh": Painter._fill_clip,
    b"INLINE IMAGE": Painter._paint_image,
    b"Do": Painter._paint_object,
    b"BT": Painter._begin_text,
    b"Tf": Painter._set_font,
    b"Tr": Painter._set_mode,
    b"Tz": Painter._set_stretch,
    b"Tc": set_number("char_spacing"),
    b"Tw": set_number("word_spacing"),
    b"TL": set_number("leading"),
    b"Ts": set_number("rise"),
    b"Td": Painter._move_line,
    b"TD": Painter._move_line_leading,
    b"Tm": Painter._set_text_matrix,
    b"T*": Painter._next_line,
    b"Tj": Painter._show,
    b"TJ": Painter._show,
    b"'": Painter._show_next_line,
    b'"': Painter._show_next_line,
}
