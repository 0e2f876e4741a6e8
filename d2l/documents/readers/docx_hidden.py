"""What of a DOCX document's text a reader cannot see: hidden, tiny, or in the color of its ground.

Takes runs of WordprocessingML, gives reasons; knows styles, tables and shapes. In doubt text is
taken to be seen: on pictures, in shapes without a fill, and in tables that a style shades.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from d2l.documents.findings import Finding
from d2l.documents.readers.colors import BLACK, WHITE, Color, looks_like, read_hex
from d2l.documents.readers.docx_theme import read_theme

W = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
DRAWING = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
FILL = "{http://schemas.microsoft.com/office/word/2010/wordml}"
ANCHOR = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}anchor"
TEXT_BOX = W + "txbxContent"
MARKED = "marked as hidden"
TINY = 2  # half points: text of this size or less cannot be read
NARROW = 5  # percent of a character's width
LOWEST = 20  # twentieths of a point: lines and rows of this height or less show nothing
LEAST_OPACITY = 0.07  # black of less on white has less contrast than `colors.LEAST_CONTRAST`
MAX_STYLES = 64  # that are based on each other
SCHEME = {"bg1": WHITE, "lt1": WHITE, "tx1": BLACK, "dk1": BLACK}
HIGHLIGHTS = {
    "white": WHITE, "black": BLACK, "yellow": (1.0, 1.0, 0.0), "green": (0.0, 1.0, 0.0),
    "cyan": (0.0, 1.0, 1.0), "magenta": (1.0, 0.0, 1.0), "blue": (0.0, 0.0, 1.0),
    "red": (1.0, 0.0, 0.0),
}  # fmt: skip


@dataclass(frozen=True)
class Ground:
    """What text stands on, where something says so; its color may still not be known."""

    color: Color


@dataclass(frozen=True)
class Look:
    """What one place says of how text looks; None: nothing."""

    is_hidden: bool | None = None
    color: str | None = None  # six digits, or "auto"
    size: int | None = None  # half points
    width: int | None = None  # percent
    ground: Ground | None = None
    opacity: float | None = None  # of what Word calls a fill of text

    def over(self, other: "Look") -> "Look":
        """Both, where this one counts for more."""
        return Look(
            other.is_hidden if self.is_hidden is None else self.is_hidden,
            other.color if self.color is None else self.color,
            other.size if self.size is None else self.size,
            other.width if self.width is None else self.width,
            other.ground if self.ground is None else self.ground,
            other.opacity if self.opacity is None else self.opacity,
        )


NOTHING = Look()


class HiddenRuns:
    """Tells hidden runs of a document from others, and counts what is in them."""

    def __init__(self, document: Any) -> None:
        root = document.styles.element
        self._theme = read_theme(document)
        self._styles = {style.get(W + "styleId", ""): style for style in root.iter(W + "style")}
        usual = root.find(f"{W}docDefaults/{W}rPrDefault/{W}rPr")
        self._defaults = read_look(usual, self._theme)
        self._usual = next(
            (
                identity
                for identity, style in self._styles.items()
                if style.get(W + "type") == "paragraph" and is_true(style.get(W + "default", "0"))
            ),
            "",
        )
        self._paper = read_paper(document)
        self._find_style = cache(self._resolve_style)
        self._shades = cache(self._is_shading)
        self._is_on_picture = False
        self.findings: list[Finding] = []

    def enter(self, paragraph: Any) -> None:
        """Note what a paragraph of the body changes for those after it: a picture behind the text
        of a page, or a new page."""
        if ends_page(paragraph):
            self._is_on_picture = False
        anchors = paragraph.iter(ANCHOR)
        if any(is_true(anchor.get("behindDoc", "0")) for anchor in anchors):
            self._is_on_picture = True

    def is_hidden(self, run: Any) -> bool:
        """Whether a run with text cannot be seen; if so, it is counted."""
        n_chars = count_chars(run.iterchildren("{*}t"))
        reason = self._explain(run) if n_chars else ""
        if reason:
            self.findings.append(Finding("hidden", reason, n_chars))
        return bool(reason)

    def hides_boxes(self, run: Any) -> bool:
        """Whether a run with drawings is marked as hidden; if so, their text is counted."""
        if next(run.iter(TEXT_BOX), None) is None or self._explain(run) != MARKED:
            return False
        self.findings.append(Finding("hidden", MARKED, count_chars(run.iter(W + "t"))))
        return True

    def _explain(self, run: Any) -> str:
        direct = run.find(W + "rPr")
        paragraph = next(run.iterancestors(W + "p"), None)
        of_run = style_of(direct, "rStyle")
        of_paragraph = self._usual
        if paragraph is not None:
            of_paragraph = style_of(paragraph.find(W + "pPr"), "pStyle") or self._usual
        own, above = self._find_style(of_run), self._find_style(of_paragraph)
        look = read_look(direct, self._theme)
        is_hidden = look.is_hidden
        if is_hidden is None:  # a property that styles toggle: ISO 29500-1, 17.7.3
            toggled = bool(own.is_hidden) != bool(above.is_hidden)
            is_hidden = toggled or bool(self._defaults.is_hidden)
        if is_hidden or is_in_hidden_row(run):
            return MARKED
        look = look.over(own).over(above).over(self._defaults)
        if (look.size is not None and look.size <= TINY) or (look.width or 100) <= NARROW:
            return "tiny"
        if is_squeezed(run, paragraph):
            return "tiny"
        if look.opacity is not None and look.opacity < LEAST_OPACITY:
            return "transparent"
        color = read_hex(look.color or "")
        ground = look.ground or self._find_ground(run, paragraph)
        return "in the color of its ground" if looks_like(color, ground.color) else ""

    def _find_ground(self, run: Any, paragraph: Any) -> Ground:
        """What is under a run that names no ground itself."""
        of_paragraph = paragraph.find(W + "pPr") if paragraph is not None else None
        if found := read_shading(of_paragraph):
            return found
        for outer in run.iterancestors(W + "tc", W + "tbl", TEXT_BOX):
            if outer.tag == TEXT_BOX:
                return read_shape(outer)
            properties = outer.find(f"{W}{'tcPr' if outer.tag == W + 'tc' else 'tblPr'}")
            if found := read_shading(properties):
                return found
            if outer.tag == W + "tbl" and self._shades(style_of(properties, "tblStyle")):
                return Ground(None)
        return Ground(None) if self._is_on_picture else self._paper

    def _chain(self, identity: str) -> Iterator[Any]:
        """Yield a style, and those that it is based on."""
        for _ in range(MAX_STYLES):
            style = self._styles.get(identity)
            if style is None:
                return
            yield style
            identity = style_of(style, "basedOn")

    def _resolve_style(self, identity: str) -> Look:
        look = NOTHING
        for style in self._chain(identity):
            of_paragraph = read_shading(style.find(W + "pPr"))
            look = look.over(read_look(style.find(W + "rPr"), self._theme)).over(
                Look(ground=of_paragraph)
            )
        return look

    def _is_shading(self, identity: str) -> bool:
        """Whether a style of tables paints some of their cells."""
        shadings = (shade for style in self._chain(identity) for shade in style.iter(W + "shd"))
        return any(shade.get(W + "fill", "auto") != "auto" for shade in shadings)


def count_chars(texts: Iterable[Any]) -> int:
    """How many characters are in elements, spaces left out."""
    return sum(len("".join((text.text or "").split())) for text in texts)


def is_in_hidden_row(run: Any) -> bool:
    """Whether a run is in a row of a table that is marked as hidden."""
    marks = (row.find(f"{W}trPr/{W}hidden") for row in run.iterancestors(W + "tr"))
    return any(mark is not None and is_true(mark.get(W + "val", "1")) for mark in marks)


def is_squeezed(run: Any, paragraph: Any) -> bool:
    """Whether the lines of a run, or the row of a table it is in, have next to no height."""
    spacing = paragraph.find(f"{W}pPr/{W}spacing") if paragraph is not None else None
    if spacing is not None and spacing.get(W + "lineRule") == "exact":
        height = read_count(spacing.get(W + "line"))
        if height is not None and height <= LOWEST:
            return True
    for row in run.iterancestors(W + "tr"):
        given = row.find(f"{W}trPr/{W}trHeight")
        if given is not None and given.get(W + "hRule") == "exact":
            height = read_count(given.get(W + "val"))
            if height is not None and height <= LOWEST:
                return True
    return False


def read_text_fill(properties: Any) -> tuple[str | None, float | None]:
    """Color and opacity of what Word 2010 and later fill letters with, over their plain color."""
    fill = properties.find(FILL + "textFill")
    if fill is None:
        return None, None
    if fill.find(FILL + "noFill") is not None:
        return None, 0.0
    exact = fill.find(f"{FILL}solidFill/{FILL}srgbClr")
    alpha = fill.find(f"{FILL}solidFill/*/{FILL}alpha")
    clear = read_count(alpha.get(FILL + "val")) if alpha is not None else None
    digits = exact.get(FILL + "val") if exact is not None else None
    return digits, None if clear is None else 1 - clear / 100_000  # here it says how clear


def read_color_name(properties: Any, theme: Mapping[str, str]) -> str | None:
    """The color that properties give: of the theme where they name one, else their own digits."""
    found = properties.find(W + "color")
    if found is None:
        return None
    is_changed = found.get(W + "themeTint") or found.get(W + "themeShade")
    named = None if is_changed else theme.get(found.get(W + "themeColor", ""))
    own: str | None = found.get(W + "val")
    return named or own


def read_look(properties: Any, theme: Mapping[str, str]) -> Look:
    """What a `w:rPr` says."""
    if properties is None:
        return NOTHING
    vanish = properties.find(W + "vanish")
    size, width = (value_of(properties, name) for name in ("sz", "w"))
    filled, opacity = read_text_fill(properties)
    color = filled or read_color_name(properties, theme)
    ground = read_shading(properties)
    highlight = value_of(properties, "highlight")
    if highlight is not None and highlight != "none":
        ground = Ground(HIGHLIGHTS.get(highlight))
    return Look(
        None if vanish is None else is_true(vanish.get(W + "val", "1")),
        color,
        read_half_points(size),
        read_count((width or "").removesuffix("%")),
        ground,
        opacity,
    )


def read_half_points(value: str | None) -> int | None:
    """A size of type: a number of half points, or of points with their unit behind."""
    if value and value.endswith("pt"):
        points = read_count(value.removesuffix("pt"))
        return None if points is None else 2 * points
    return read_count(value)


def read_shading(properties: Any) -> Ground | None:
    """The ground that a `w:shd` paints; None if there is none."""
    shade = properties.find(W + "shd") if properties is not None else None
    if shade is None or shade.get(W + "val") == "nil":
        return None
    fill, pattern = shade.get(W + "fill", "auto"), shade.get(W + "val", "clear")
    if pattern == "clear":
        return None if fill == "auto" else Ground(read_hex(fill))
    return Ground(read_hex(shade.get(W + "color", "")) if pattern == "solid" else None)


def read_shape(box: Any) -> Ground:
    """What fills the shape around the content of a text box; not known where nothing does."""
    shape = next(box.iterancestors("{*}wsp"), None)
    filled = shape.find("{*}spPr/" + DRAWING + "solidFill") if shape is not None else None
    if filled is None:
        return Ground(None)
    exact, named = filled.find(DRAWING + "srgbClr"), filled.find(DRAWING + "schemeClr")
    if exact is not None and len(exact) == 0:
        return Ground(read_hex(exact.get("val", "")))
    return Ground(
        SCHEME.get(named.get("val", "")) if named is not None and not len(named) else None
    )


def read_paper(document: Any) -> Ground:
    """The color of the pages, white where the document sets none."""
    background = document.element.find(W + "background")
    shown = document.settings.element.find(W + "displayBackgroundShape")
    if background is None or shown is None:
        return Ground(WHITE)
    return Ground(read_hex(background.get(W + "color", "")) if not len(background) else None)


def ends_page(paragraph: Any) -> bool:
    """Whether a new page begins in a paragraph, or before it."""
    return (
        any(mark.get(W + "type") == "page" for mark in paragraph.iter(W + "br"))
        or next(paragraph.iter(W + "lastRenderedPageBreak"), None) is not None
        or paragraph.find(f"{W}pPr/{W}pageBreakBefore") is not None
        or paragraph.find(f"{W}pPr/{W}sectPr") is not None
    )


def style_of(properties: Any, name: str) -> str:
    """The id of the style that properties name."""
    return (value_of(properties, name) or "") if properties is not None else ""


def value_of(properties: Any, name: str) -> str | None:
    """The value of a property; None without it."""
    found = properties.find(W + name)
    value: str | None = found.get(W + "val") if found is not None else None
    return value


def is_true(value: str) -> bool:
    """Whether a property that is there is on."""
    return value not in ("0", "false", "off")


def read_count(value: str | None) -> int | None:
    """A number that is small enough to be one; None for anything else."""
    return (
        int(value) if value and value.isascii() and value.isdecimal() and len(value) < 7 else None
    )
