"""Goes through the operations of a PDF page, and notes what they paint on a canvas.

Takes operations of pypdf, gives runs of text and areas with their colors. ISO 32000-2, 8 and 9.
"""

import math
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from pypdf.errors import PyPdfError
from pypdf.generic import ArrayObject, ContentStream, DictionaryObject, StreamObject

from d2l.documents.readers.pdf import colors
from d2l.documents.readers.pdf.blends import NORMAL
from d2l.documents.readers.pdf.canvas import LEAST_ALPHA, Area, Canvas, Paint, State, Unread
from d2l.documents.readers.pdf.fonts import look_up, read_numbers
from d2l.documents.readers.pdf.geometry import (
    IDENTITY,
    Matrix,
    bound,
    determinant,
    intersect,
    is_empty,
    multiply,
    read_matrix,
)
from d2l.documents.readers.pdf.outline import Outline
from d2l.documents.readers.pdf.shapes import Rectangle, Shape
from d2l.documents.readers.pdf.strings import Operation, measure_items
from d2l.documents.readers.pdf.widths import measure_font
from d2l.documents.readers.pdf.writer import Writer

MAX_FORMS = 5000  # painted on one page; no text of more is read
MAX_DEPTH = 40  # of forms inside forms; no text of deeper ones is read
MIN_HALF_LINE = 0.05  # points: thinner lines neither cover text nor are a ground for it
TEXT_OPERATORS = (b"Tj", b"TJ", b"'", b'"')
# What an operator raises whose operands are not what they should be: it is passed over.
BAD_OPERANDS = (
    PyPdfError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError
)  # fmt: skip


class Painter(Writer):
    """Goes through the operations of a page or form, and notes what they paint on a canvas."""

    def __init__(
        self,
        canvas: Canvas,
        resources: Any,
        state: State,
        path: tuple[int, ...] = (),
        within: frozenset[int] = frozenset(),
    ) -> None:
        super().__init__(canvas, resources, state, path)
        self._within = within  # the forms that this one is inside of, and itself
        self._saved: list[State] = []
        self._outline = Outline()

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

    # Graphics state

    def _save(self, _operands: Any) -> None:
        self._saved.append(copy(self._state))

    def _restore(self, _operands: Any) -> None:
        if self._saved:
            self._state = self._saved.pop()

    def _concatenate(self, operands: Any) -> None:
        self._state.matrix = multiply(read_matrix(operands), self._state.matrix)

    def _set_dashes(self, operands: Any) -> None:
        self._state.dashes = tuple(read_numbers(operands[0]))
        self._state.dash_phase = abs(float(operands[1]))

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
        state = self._state
        if fills:
            self._add_area(outline.fill(odd=odd), state.fill_paint())
        if strokes:
            scale = math.sqrt(abs(determinant(state.matrix)))
            dashes = [dash * scale for dash in state.dashes]
            half = state.line_width * scale / 2
            if half > MIN_HALF_LINE:
                stroke = outline.stroke(half, dashes, state.dash_phase * scale)
                self._add_area(stroke, state.stroke_paint())
        if outline.clips:
            clip_by(state, outline.fill(odd=outline.clips_odd))

    def _add_area(self, shape: Shape | None, paint: Paint, *, is_image: bool = False) -> None:
        """Note something painted, unless it leaves no trace."""
        state = self._state
        if shape is None or self._marks[-1] or paint.alpha < LEAST_ALPHA:
            return
        box = intersect(shape.box, state.clip)
        if not is_empty(box):
            order = self._canvas.next_order()
            self._canvas.areas.append(Area(order, shape, box, state.clips, paint, is_image))

    def _fill_clip(self, _operands: Any) -> None:
        """Paint a shading, which fills all that is not clipped away."""
        box = intersect(self._state.clip, self._canvas.page)
        self._add_area(Rectangle(box), replace(self._state.fill_paint(), color=None, is_even=False))

    # Images and forms

    def _paint_image(self, _operands: Any) -> None:
        matrix = self._state.matrix
        outline = Outline()
        outline.add_rectangle(matrix, (0, 0, 1, 1))
        paint = replace(self._state.fill_paint(), color=None, is_even=False)
        self._add_area(outline.fill(), paint, is_image=True)

    def _paint_object(self, operands: Any) -> None:
        found = self._find("/XObject", operands[0]).get_object()
        content = found.raw_get("/OC") if "/OC" in found else None
        is_off = self._marks[-1] or self._canvas.layers.hides(content)
        if look_up(found, "/Subtype") == "/Image":
            if not is_off:
                self._paint_image(operands)
            return
        canvas = self._canvas
        path = (*self._path, self._index)
        if id(found) in self._within:  # nothing is shown inside itself
            canvas.unread.append(Unread(path, 0))
            return
        stream = canvas.parse(found)
        canvas.n_forms += 1
        if canvas.n_forms > MAX_FORMS or len(self._path) >= MAX_DEPTH:
            canvas.unread += [Unread(path, count_signs(stream))] if may_show(stream) else []
            return
        state = enter_form(self._state, found)
        resources = found.get("/Resources", self._resources)
        inner = Painter(canvas, resources, state, path, self._within | {id(found)})
        inner.paint(stream.operations, is_off=is_off)


def paint_form(canvas: Canvas, form: StreamObject, state: State) -> None:
    """Paint a form that no page names, such as the picture of an annotation."""
    inner = Painter(
        canvas, form.get("/Resources"), enter_form(state, form), (), frozenset({id(form)})
    )
    inner.paint(canvas.parse(form).operations)


def enter_form(outer: State, form: DictionaryObject) -> State:
    """Give the state in which a form is painted."""
    state = copy(outer)
    state.matrix = multiply(read_form_matrix(form), state.matrix)
    if "/Group" in form:  # painted by itself, then laid over the page as one
        state.group_alpha *= state.fill_alpha
        state.fill_alpha = state.stroke_alpha = 1.0
        if state.blend != NORMAL:
            state.group_blend, state.blend = state.blend, NORMAL
    corners = read_numbers(look_up(form, "/BBox"))
    if len(corners) == 4:
        left, bottom, right, top = bound([(corners[0], corners[1]), (corners[2], corners[3])])
        outline = Outline()
        outline.add_rectangle(state.matrix, (left, bottom, right - left, top - bottom))
        clip_by(state, outline.fill())
    return state


def read_form_matrix(form: DictionaryObject) -> Matrix:
    """The matrix of a form; one that is none does nothing."""
    numbers = read_numbers(look_up(form, "/Matrix"))
    return read_matrix(numbers) if len(numbers) == 6 else IDENTITY


def may_show(stream: ContentStream) -> bool:
    """Whether content shows text, or forms that may."""
    return any(operator in (b"Do", *TEXT_OPERATORS) for _, operator in stream.operations)


def count_signs(stream: ContentStream) -> int:
    """How many characters content shows, as far as this can be told without its fonts; at least
    one, for the forms that it names are not looked into."""
    state = State()
    shown = [o[-1] for o, operator in stream.operations if o and operator in TEXT_OPERATORS]
    return max(1, sum(measure_items(operand, state).n_chars for operand in shown))


def clip_by(state: State, shape: Shape | None) -> None:
    """Let a shape bound what is painted after it."""
    if shape is not None:
        state.clip = intersect(state.clip, shape.box)
        if not isinstance(shape, Rectangle):
            state.clips = (*state.clips, shape)


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


def draw(add: Callable[[Outline, Matrix, Any], None]) -> "Handler":
    """Make what handles an operator that goes on with the path."""

    def handle(painter: Painter, operands: Any) -> None:
        add(painter._outline, painter._state.matrix, operands)

    return handle


def clip(*, odd: bool = False) -> "Handler":
    """Make what handles an operator that lets the path bound what is painted after it."""

    def handle(painter: Painter, _operands: Any) -> None:
        painter._outline.clips, painter._outline.clips_odd = True, odd

    return handle


def end_path(
    *, fills: bool = False, strokes: bool = False, odd: bool = False, closes: bool = False
) -> "Handler":
    """Make what handles an operator that paints a path, or ends it."""

    def handle(painter: Painter, _operands: Any) -> None:
        if closes:
            painter._outline.close()
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
    b"re": draw(Outline.add_rectangle),
    b"m": draw(Outline.begin),
    b"l": draw(Outline.add_line),
    b"c": draw(Outline.add_curve),
    b"v": draw(Outline.add_curve_from_here),
    b"y": draw(Outline.add_curve_to_end),
    b"h": lambda painter, _operands: painter._outline.close(),
    b"W": clip(),
    b"W*": clip(odd=True),
    b"f": end_path(fills=True),
    b"F": end_path(fills=True),
    b"f*": end_path(fills=True, odd=True),
    b"B": end_path(fills=True, strokes=True),
    b"b": end_path(fills=True, strokes=True, closes=True),
    b"B*": end_path(fills=True, strokes=True, odd=True),
    b"b*": end_path(fills=True, strokes=True, odd=True, closes=True),
    b"S": end_path(strokes=True),
    b"s": end_path(strokes=True, closes=True),
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
