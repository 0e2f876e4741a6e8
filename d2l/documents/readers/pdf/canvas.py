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
from d2l.documents.readers.pdf.widths import GUESS, Measure


@dataclass
class State:
    """The graphics state, as far as it decides what can be seen."""

    matrix: Matrix = IDENTITY
    clip: Box = EVERYWHERE
    fill_space: colors.Space = colors.DEVICE_GRAY
    fill: Color = BLACK
    stroke_space: colors.Space = colors.DEVICE_GRAY
    stroke: Color = BLACK
    fill_alpha: float = 1.0
    stroke_alpha: float = 1.0
    group_alpha: float = 1.0  # of the groups that this is painted in, together
    blend: str = "/Normal"
    is_masked: bool = False
    line_width: float = 1.0
    is_dashed: bool = False
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


@dataclass(frozen=True)
class Run:
    """Text that one operator shows. `path`: the operators that lead to it, through forms."""

    path: tuple[int, ...]
    order: int
    box: Box
    n_chars: int  # that leave ink
    kern: float  # what a number in a `TJ` moves the pen as far by
    height: float  # of an em on the page, and its width
    width: float
    state: State
    is_layer_off: bool


@dataclass(frozen=True)
class Area:
    """Something painted. `is_solid`: all of its box has its color, nothing shines through."""

    order: int
    box: Box
    color: Color = None
    is_solid: bool = False
    is_image: bool = False


@dataclass
class Canvas:
    """All that a page paints."""

    pdf: Any
    layers: Layers
    known: dict[int, Measure]  # widths of fonts, kept between pages
    page: Box
    runs: list[Run] = field(default_factory=list)
    areas: list[Area] = field(default_factory=list)
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
