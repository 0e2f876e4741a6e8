"""Shapes of a DOCX document: how large they are, whether they lie on the page, what fills them.

Takes drawings, old and new, and tables that float, gives lengths in points and fills. Where a
thing is measured from what is not known here, it may begin anywhere on the page.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

from d2l.documents.readers.colors import WHITE, Color, looks_like
from d2l.documents.readers.css_colors import parse_color
from d2l.documents.readers.docx_look import TWIP, is_true, read_length
from d2l.documents.readers.docx_styles import measure_table
from d2l.documents.readers.docx_theme import DRAWING, Paint, Theme, W, read_fill

PLACED = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}"
ANCHOR, INLINE, PICT = PLACED + "anchor", PLACED + "inline", W + "pict"
FRAMES = (ANCHOR, INLINE, PICT, W + "object")
VML = "{urn:schemas-microsoft-com:vml}"
MARKED, OFF, SMALL = "marked as hidden", "off the page", "tiny"
LEAST_SIDE = 1.0  # points: a box of this width or height or less shows nothing
LEAST_OPACITY = 0.07  # black of less on white has less contrast than `colors.LEAST_CONTRAST`
EMU = 1 / 12700  # points
PIXEL = 0.75  # points
LARGEST, LEAST = 1584.0, 72.0  # points: the sides of a page, as Word has them
NOWHERE = Paint(None, 0.0)


class Side(NamedTuple):
    """One direction of a page, in points: its length, and where its margins may end."""

    length: float
    margin: tuple[float, float]

    def misses(self, base: str, offset: float, length: float) -> bool:
        """Whether a thing so far from a base, and so long, is off the page in any case."""
        first, last = 0.0, self.length
        if base in ("page", "leftMargin", "topMargin", "left-margin-area", "top-margin-area"):
            last = 0.0
        elif base == "margin":
            first, last = self.margin
        return last + offset + length <= 0 or first + offset >= self.length


class Page(NamedTuple):
    """The largest page of a document."""

    across: Side
    down: Side


def read_page(document: Any) -> Page:
    """The size of the pages: of several, the largest."""
    return Page(*(
        _read_side(list(document.element.iter(W + "sectPr")), *names)
        for names in (("w", "left", LARGEST / 2), ("h", "top", LARGEST / 2))
    ))  # fmt: skip


def _read_side(sections: list[Any], size: str, margin: str, usual: float) -> Side:
    lengths: list[float] = []
    margins: list[float] = []
    for section in sections:
        paper, edges = section.find(W + "pgSz"), section.find(W + "pgMar")
        for found, element, name in ((lengths, paper, size), (margins, edges, margin)):
            value = element.get(W + name) if element is not None else None
            length = read_length(value, TWIP)
            if length is not None:
                found.append(abs(length))
    length = min(LARGEST, max([LEAST, *lengths])) if lengths else usual
    complete = margins and len(margins) == len(sections)
    return Side(length, (min(margins), max(margins)) if complete else (0.0, length))


def find_frame(box: Any) -> Any:
    """The drawing that an element is in; None if it is in none."""
    return next(box.iterancestors(*FRAMES), None)


def explain_box(box: Any, page: Page) -> str:
    """Why the content of a text box cannot be seen, whatever it is; "" if it can be."""
    frame = find_frame(box)
    if frame is None:
        return ""
    if frame.tag not in (ANCHOR, INLINE):
        return _explain_old(box, frame, page)
    shape = next(box.iterancestors("{*}wsp"), None)
    marks = [frame, frame.find(PLACED + "docPr")]
    marks.append(shape.find("{*}cNvPr") if shape is not None else None)
    if any(mark is not None and is_true(mark.get("hidden", "0")) for mark in marks):
        return MARKED
    width, height = measure(frame)
    grows = shape is not None and shape.find(f"{{*}}bodyPr/{DRAWING}spAutoFit") is not None
    for length, can_grow in ((width, False), (height, grows)):
        if length is not None and length <= LEAST_SIDE and not can_grow:
            return SMALL
    return OFF if is_off_page(frame, page) else ""


def measure(frame: Any) -> tuple[float | None, float | None]:
    """Width and height of a drawing."""
    extent = frame.find(PLACED + "extent")
    if extent is None:
        return None, None
    return read_length(extent.get("cx"), EMU), read_length(extent.get("cy"), EMU)


def is_off_page(frame: Any, page: Page) -> bool:
    """Whether a drawing is placed where no page is."""
    if frame.tag != ANCHOR:
        return False
    for name, side, length in zip(("H", "V"), page, measure(frame), strict=True):
        position = frame.find(f"{PLACED}position{name}")
        if position is None:
            continue
        offset = read_length(position.findtext(PLACED + "posOffset"), EMU)
        share = read_length(position.findtext(f"{{*}}pctPos{name}Offset"), 1 / 100_000)
        if share is not None:
            offset = share * side.length
        base = position.get("relativeFrom", "")
        if offset is not None and side.misses(base, offset, length or 0.0):
            return True
    return False


def is_table_off_page(table: Any, page: Page) -> bool:
    """Whether a table floats, or is moved, to where no page is."""
    properties = table.find(W + "tblPr")
    if properties is None:
        return False
    place, indent = properties.find(W + "tblpPr"), properties.find(W + "tblInd")
    if place is None:
        offset = read_length(indent.get(W + "w"), TWIP) if indent is not None else None
        if offset is None or properties.find(W + "jc") is not None:
            return False
        return page.across.misses("", offset, measure_table(table))
    for name, side, anchor, length in (
        ("X", page.across, "horzAnchor", measure_table(table)),
        ("Y", page.down, "vertAnchor", page.down.length),  # no higher than a page, where it begins
    ):
        offset = read_length(place.get(f"{W}tblp{name}"), TWIP)
        is_aligned = place.get(f"{W}tblp{name}Spec") is not None
        if offset and not is_aligned and side.misses(place.get(W + anchor, ""), offset, length):
            return True
    return False


def _read_style(shape: Any) -> dict[str, str]:
    """What the style of a VML shape says."""
    pairs = (part.partition(":") for part in (shape.get("style") or "")[:2000].lower().split(";"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def _explain_old(box: Any, frame: Any, page: Page) -> str:
    """The same for a box of VML, whose outermost shape has the place."""
    shapes = []
    for outer in box.iterancestors():
        if outer is frame:
            break
        shapes.append(outer)
    styles = [_read_style(shape) for shape in shapes if str(shape.tag).startswith(VML)]
    if any(style.get("visibility") == "hidden" for style in styles):
        return MARKED
    if not styles:
        return ""
    outermost = styles[-1]
    grows = any(style.get("mso-fit-shape-to-text") in ("t", "true") for style in styles)
    for name, can_grow in (("width", False), ("height", grows)):
        length = _read_old(outermost.get(name))
        is_share = outermost.get(f"mso-{name}-percent", "0") != "0"  # of the page
        if length is not None and length <= LEAST_SIDE and not can_grow and not is_share:
            return SMALL
    return OFF if _is_old_off_page(outermost, page) else ""


def _is_old_off_page(style: dict[str, str], page: Page) -> bool:
    if style.get("position") not in ("absolute", "relative"):
        return False
    for name, side, way, size in (
        ("left", page.across, "horizontal", "width"),
        ("top", page.down, "vertical", "height"),
    ):
        if style.get(f"mso-position-{way}", "absolute") != "absolute":
            continue
        offset = (_read_old(style.get(name)) or 0) + (_read_old(style.get(f"margin-{name}")) or 0)
        base = style.get(f"mso-position-{way}-relative", "")
        if side.misses(base, offset, _read_old(style.get(size)) or 0.0):
            return True
    return False


def _read_old(value: str | None) -> float | None:
    return read_length(value.removesuffix("px"), PIXEL) if value else None


def read_new_fill(shape: Any, theme: Theme) -> Paint:
    """What fills a shape: by its properties, or else by a style of the theme."""
    properties = shape.find("{*}spPr")
    paint = read_fill(properties, theme) if properties is not None else None
    if paint is not None:
        return paint
    style = shape.find(f"{{*}}style/{DRAWING}fillRef")
    return Paint(None) if style is not None and style.get("idx", "0") != "0" else NOWHERE


def _read_word(value: str) -> Color:
    """The first word of a color of VML: behind it stands an index into the theme."""
    return (parse_color((value[:60].lower().split() or [""])[0]) or (None,))[0]


def _read_opacity(value: str | None) -> float:
    """An opacity of VML: a share, or with "f" behind of 65536."""
    whole = 65536 if value and value.endswith("f") else 1
    found = read_length(value.removesuffix("f"), 1.0) if value else None
    return 1.0 if found is None else found / whole


class Shapes:
    """The shapes of a document: where they are, and what they paint."""

    def __init__(self, document: Any, theme: Theme) -> None:
        self._theme = theme
        self.page = read_page(document)
        self._filled = {  # types of VML shapes, by id
            kind.get("id", ""): kind.get("filled") or "t"
            for kind in document.element.iter(VML + "shapetype")
        }

    def read_fill(self, box: Any) -> Paint:
        """What fills the shape around the content of a text box."""
        textbox = next(box.iterancestors(VML + "textbox"), None)
        shape = next(box.iterancestors("{*}wsp"), None)
        frame = find_frame(box)
        if frame is not None and frame.tag not in (ANCHOR, INLINE):
            return self._read_old_fill(textbox.getparent()) if textbox is not None else Paint(None)
        return read_new_fill(shape, self._theme) if shape is not None else Paint(None)

    def _read_old_fill(self, shape: Any) -> Paint:
        """What fills a shape of VML: white, where neither it nor its type says another."""
        fill = shape.find(VML + "fill")
        filled = shape.get("filled") or self._filled.get((shape.get("type") or "")[1:], "t")
        color, opacity = _read_word(shape.get("fillcolor") or "white"), 1.0
        if fill is not None:
            filled = fill.get("on") or filled
            opacity = _read_opacity(fill.get("opacity"))
            kind = fill.get("type", "solid")
            if kind != "solid":
                is_even = looks_like(color, _read_word(fill.get("color2") or ""))
                color = color if is_even and kind.startswith("gradient") else None
        return NOWHERE if filled[0] in "f0" else Paint(color, opacity)

    def list_painted(self, root: Any) -> Iterator[tuple[float, bool]]:
        """Yield area, in square points, and whether it is behind text, of each drawing that may
        give text another ground than white paper."""
        for frame in root.iter(ANCHOR, INLINE, PICT):
            if frame.tag == PICT:
                yield from self._list_old(frame)
                continue
            width, height = (
                min(length or 0.0, side.length)
                for length, side in zip(measure(frame), self.page, strict=True)
            )
            mark = frame.find(PLACED + "docPr")
            is_marked = mark is not None and is_true(mark.get("hidden", "0"))
            if min(width, height) <= 0 or is_marked or is_off_page(frame, self.page):
                continue
            if self._paints(frame):
                yield width * height, is_true(frame.get("behindDoc", "0"))

    def _paints(self, frame: Any) -> bool:
        """Whether a drawing is more than shapes without a fill or filled with white."""
        shapes = list(frame.iter("{*}wsp"))
        if any(not _is_like_paper(read_new_fill(shape, self._theme)) for shape in shapes):
            return True
        is_picture = next(frame.iter("{*}pic"), None) is not None
        is_other = not shapes and any(len(data) for data in frame.iter(DRAWING + "graphicData"))
        return is_picture or is_other

    def _list_old(self, frame: Any) -> Iterator[tuple[float, bool]]:
        for shape in frame.iterchildren(f"{VML}*"):
            style = _read_style(shape)
            sides = zip(("width", "height"), self.page, strict=True)
            width, height = (
                min(_read_old(style.get(name)) or 0.0, side.length) for name, side in sides
            )
            is_picture = next(shape.iter(VML + "imagedata"), None) is not None
            is_painted = is_picture or not all(
                _is_like_paper(self._read_old_fill(part)) for part in shape.iter(f"{VML}*")
            )
            is_hidden = style.get("visibility") == "hidden" or _is_old_off_page(style, self.page)
            if shape.tag != VML + "shapetype" and is_painted and not is_hidden:
                yield max(0.0, width) * max(0.0, height), style.get("z-index", "")[:1] == "-"


def _is_like_paper(paint: Paint) -> bool:
    return paint.opacity < LEAST_OPACITY or looks_like(paint.color, WHITE)
