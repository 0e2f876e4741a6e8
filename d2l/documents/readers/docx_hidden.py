"""What of a DOCX document's text a reader cannot see: hidden, tiny, or in the color of its ground.

Takes runs of WordprocessingML, gives reasons; knows styles, tables and shapes. In doubt text is
taken to be seen: on pictures, and in shapes without a fill.
"""

from collections.abc import Iterable
from typing import Any

from d2l.documents.findings import Finding
from d2l.documents.readers.colors import BLACK, WHITE, looks_like, read_hex
from d2l.documents.readers.docx_look import (
    NOTHING,
    TWIP,
    Ground,
    Look,
    is_true,
    read_block,
    read_length,
    read_look,
    read_shading,
    style_of,
)
from d2l.documents.readers.docx_styles import Styles
from d2l.documents.readers.docx_theme import DRAWING, W, read_theme

ANCHOR = "{http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing}anchor"
TEXT_BOX = W + "txbxContent"
MARKED = "marked as hidden"
TINY = 1.0  # points: text of this size or less cannot be read
NARROW = 5  # percent of a character's width
LOWEST = 1.0  # points: lines and rows of this height or less show nothing
LEAST_OPACITY = 0.07  # black of less on white has less contrast than `colors.LEAST_CONTRAST`
SCHEME = {"bg1": WHITE, "lt1": WHITE, "tx1": BLACK, "dk1": BLACK}


class HiddenRuns:
    """Tells hidden runs of a document from others, and counts what is in them."""

    def __init__(self, document: Any) -> None:
        self._theme = read_theme(document)
        self._styles = Styles(document.styles.element, self._theme)
        self._paper = read_paper(document)
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
        """Why a run cannot be seen, "" if it can: in one of the ways to read a table's style."""
        return self._judge(run, by_row=True) and self._judge(run, by_row=False)

    def _judge(self, run: Any, *, by_row: bool) -> str:
        look = self._look_at(run, by_row)
        if look.is_hidden or is_in_hidden_row(run):
            return MARKED
        size = look.complex_size if look.is_complex else look.size
        if (size is not None and size <= TINY) or (look.width or 100) <= NARROW:
            return "tiny"
        if is_squeezed(look, run):
            return "tiny"
        if look.opacity is not None and look.opacity < LEAST_OPACITY:
            return "transparent"
        if look.color is None or look.color.color is None:
            return ""
        ground = self._find_ground(look, run, by_row).color
        if not looks_like(look.color.color, ground):
            return ""
        outline = look.outline
        if outline is not None and outline.opacity and not looks_like(outline.color, ground):
            return ""  # letters may be drawn by their edge alone
        return "in the color of its ground"

    def _look_at(self, run: Any, by_row: bool) -> Look:
        """How a run looks by its own properties, and by all styles that count for it."""
        paragraph = next(run.iterancestors(W + "p"), None)
        of_paragraph = paragraph.find(W + "pPr") if paragraph is not None else None
        own = run.find(W + "rPr")
        outer = next(run.iterancestors(W + "tc", TEXT_BOX), None)
        direct = read_look(own, self._theme).over(read_block(of_paragraph, self._theme))
        is_in_cell = outer is not None and outer.tag == W + "tc"
        styles = (
            self._styles.look("character", style_of(own, "rStyle")),
            self._styles.look("paragraph", style_of(of_paragraph, "pStyle")),
            self._styles.look_in(outer, by_row=by_row) if is_in_cell else NOTHING,
        )
        is_hidden = direct.is_hidden
        if is_hidden is None:  # a property that styles toggle: ISO 29500-1, 17.7.3
            toggled = sum(bool(style.is_hidden) for style in styles) % 2 == 1
            is_hidden = toggled or bool(self._styles.defaults.is_hidden)
        look = direct
        for below in (*styles, self._styles.defaults):
            look = look.over(below)
        return look._replace(is_hidden=is_hidden)

    def _find_ground(self, look: Look, run: Any, by_row: bool) -> Ground:
        """What is under a run."""
        for ground in (look.marker, look.ground, look.block):
            if ground is not None and ground.is_painted:
                return ground
        for outer in run.iterancestors(W + "tc", W + "tbl", TEXT_BOX):
            if outer.tag == TEXT_BOX:
                return read_shape(outer)
            name = "tcPr" if outer.tag == W + "tc" else "tblPr"
            found = read_shading(outer.find(W + name), self._theme)
            if found is None and outer.tag == W + "tc":
                found = self._styles.look_in(outer, by_row=by_row).cell
            if found is not None and found.is_painted:
                return found
        return Ground(None) if self._is_on_picture else self._paper


def count_chars(texts: Iterable[Any]) -> int:
    """How many characters are in elements, spaces left out."""
    return sum(len("".join((text.text or "").split())) for text in texts)


def is_in_hidden_row(run: Any) -> bool:
    """Whether a run is in a row of a table that is marked as hidden."""
    marks = (row.find(f"{W}trPr/{W}hidden") for row in run.iterancestors(W + "tr"))
    return any(mark is not None and is_true(mark.get(W + "val", "1")) for mark in marks)


def is_squeezed(look: Look, run: Any) -> bool:
    """Whether the lines of a run, or the row of a table it is in, have next to no height."""
    if look.rule == "exact" and look.height is not None and look.height <= LOWEST:
        return True
    for row in run.iterancestors(W + "tr"):
        given = row.find(f"{W}trPr/{W}trHeight")
        if given is not None and given.get(W + "hRule") == "exact":
            height = read_length(given.get(W + "val"), TWIP)
            if height is not None and height <= LOWEST:
                return True
    return False


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
