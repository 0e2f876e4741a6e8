"""What a PDF page paints, in order: runs of text, and the areas under, over and around them.

Values only; `painter` makes them of operations, and `visible` decides what can be seen.
"""

from dataclasses import dataclass, field
from typing import Any

from pypdf.generic import ContentStream, StreamObject

from d2l.documents.readers.colors import BLACK, Color
from d2l.documents.readers.pdf import colors
from d2l.documents.readers.pdf.geometry import EVERYWHERE, IDENTITY, Box, Matrix
from d2l.documents.readers.pdf.layers import Layers
from d2l.documents.readers.pdf.shapes import Floats, Mask, Rectangle, Shape
from d2l.documents.readers.pdf.widths import GUESS, Measure

LEAST_ALPHA = 0.07  # black of less on white has less contrast than `colors.LEAST_CONTRAST`


@dataclass
class State:
    """The graphics state, as far as it decides what can be seen."""

    matrix: Matrix = IDENTITY
    clip: Box = EVERYWHERE
    clips: tuple[Shape, ...] = ()  # those that are no upright rectangles
    fill_space: colors.Space = colors.DEVICE_GRAY
    fill: Color = BLACK
    stroke_space: colors.Space = colors.DEVICE_GRAY
    stroke: Color = BLACK
    fill_alpha: float = 1.0
    stroke_alpha: float = 1.0
    group_alpha: float = 1.0  # of the groups that this is painted in, together
    blend: str = "/Normal"
    group_blend: str = "/Normal"  # of the groups that this is painted in; it comes after its own
    is_masked: bool = False
    line_width: float = 1.0
    dashes: tuple[float, ...] = ()
    dash_phase: float = 0.0
    measure: Measure = GUESS
    is_type3: bool = False  # a font whose glyphs are drawings with colors of their own
    is_vertical: bool = False
    size: float = 0.0
    char_spacing: float = 0.0
    word_spacing: float = 0.0
    stretch: float = 1.0
    leading: float = 0.0
    rise: float = 0.0
    mode: int = 0

    def fill_paint(self) -> "Paint":
        """What this fills with."""
        return self._make_paint(self.fill_space, self.fill, self.fill_alpha)

    def stroke_paint(self) -> "Paint":
        """What this strokes with."""
        return self._make_paint(self.stroke_space, self.stroke, self.stroke_alpha)

    def _make_paint(self, space: colors.Space, color: Color, alpha: float) -> "Paint":
        is_even = space.name != "/Pattern" and not self.is_masked
        alpha *= self.group_alpha * colors.leaves_ink(space)
        blend = self.blend if self.group_blend == "/Normal" else self.group_blend
        return Paint(color if is_even else None, alpha, blend, is_even)


@dataclass(frozen=True)
class Paint:
    """What an operator paints with. `is_even`: it is the same all over, its color known or not."""

    color: Color = None
    alpha: float = 1.0
    blend: str = "/Normal"
    is_even: bool = False


@dataclass(frozen=True)
class Run:
    """Text that one operator shows. `path`: the operators that lead to it, through forms."""

    path: tuple[int, ...]
    order: int
    box: Box
    spots: Floats  # points x (x, y), spread over the ink of its letters; always as many
    n_chars: int  # that leave ink
    kern: float  # what a number in a `TJ` moves the pen as far by
    height: float  # of an em on the page, and its width
    width: float
    state: State
    is_layer_off: bool


@dataclass(frozen=True)
class Area:
    """Something painted, where no clip cuts it off. `box`: around what is left of it."""

    order: int
    shape: Shape
    box: Box
    clips: tuple[Shape, ...] = ()
    paint: Paint = Paint()
    is_image: bool = False

    def holds(self, xs: Floats, ys: Floats) -> Mask:
        """Which points of the page it paints."""
        inside = self.shape.holds(xs, ys) & Rectangle(self.box).holds(xs, ys)
        for clip in self.clips:
            inside &= clip.holds(xs, ys)
        return inside


@dataclass(frozen=True)
class Unread:
    """A form that is not looked into, and how many characters it shows itself."""

    path: tuple[int, ...]
    n_chars: int


@dataclass
class Canvas:
    """All that a page paints."""

    pdf: Any
    layers: Layers
    known: dict[int, Measure]  # widths of fonts, kept between pages
    page: Box
    runs: list[Run] = field(default_factory=list)
    areas: list[Area] = field(default_factory=list)
    unread: list[Unread] = field(default_factory=list)
    n_painted: int = 0
    n_forms: int = 0
    _streams: dict[int, ContentStream] = field(default_factory=dict)

    def next_order(self) -> int:
        """A number for what is painted now: later things have larger ones."""
        self.n_painted += 1
        return self.n_painted

    def parse(self, form: StreamObject) -> ContentStream:
        """The operations of a form, parsed once."""
        if id(form) not in self._streams:
            self._streams[id(form)] = ContentStream(form, self.pdf, "bytes")
        return self._streams[id(form)]
