"""What of a DOCX document's text a reader cannot see: hidden, tiny, or in the color of its ground.

Takes runs of WordprocessingML, gives reasons; knows styles, tables and shapes. In doubt text is
taken to be seen: on pictures that have room for it, and in shapes that may lie on one.
"""

from collections.abc import Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

from d2l.documents.findings import Finding
from d2l.documents.readers.colors import WHITE, Color, looks_like
from d2l.documents.readers.docx_look import (
    NOTHING,
    PATTERN,
    TWIP,
    Ground,
    Look,
    is_on,
    is_true,
    read_block,
    read_length,
    read_look,
    read_shading,
    style_of,
)
from d2l.documents.readers.docx_markup import MATH, RUNS
from d2l.documents.readers.docx_shapes import (
    LEAST_OPACITY,
    MARKED,
    OFF,
    SMALL,
    Shapes,
    explain_box,
    is_table_off_page,
)
from d2l.documents.readers.docx_styles import Styles
from d2l.documents.readers.docx_theme import Paint, Theme, W, read_named, read_theme

TEXT_BOX = W + "txbxContent"
TINY = 1.0  # points: text of this size or less cannot be read
NARROW = 5  # percent of a character's width
LOWEST = 1.0  # points: lines and rows of this height or less show nothing
LEAST_LETTER = 0.2  # of the square of its size: what a letter and the line around it cover
N_KEPT = 256  # paragraphs, cells and rows: more than are inside each other
USUAL_SIZE = 10.0  # points, where nothing is said


class HiddenRuns:
    """Tells hidden runs of a document from others, and counts what is in them."""

    def __init__(self, document: Any) -> None:
        self._theme = read_theme(document)
        self._styles = Styles(document.styles.element, self._theme)
        self._paper = read_paper(document, self._theme)
        self._shapes = Shapes(document, self._theme)
        self._room = 0.0  # square points of pictures behind the text of this page
        self._room_of_boxes = sum(
            area for root in list_parts(document) for area, _ in self._shapes.list_painted(root)
        )
        # What runs have in common is looked up once: it may be far to it, past many others.
        self._find_paragraph = lru_cache(N_KEPT)(self._read_paragraph)
        self._find_shading = lru_cache(N_KEPT)(self._read_outer)
        self._find_cell = lru_cache(N_KEPT)(self._styles.look_in)
        self._find_row = lru_cache(N_KEPT)(explain_row)
        self._is_table_off = lru_cache(N_KEPT)(partial(is_table_off_page, page=self._shapes.page))
        self.findings: list[Finding] = []

    def enter(self, paragraph: Any) -> None:
        """Note what a paragraph of the body changes for those after it: a picture behind the text
        of a page, or a new page."""
        if ends_page(paragraph):
            self._room = 0.0
        self._room += sum(
            area for area, is_behind in self._shapes.list_painted(paragraph) if is_behind
        )

    def is_hidden(self, run: Any, n_more: int = 0) -> bool:
        """Whether a run with text cannot be seen; if so, it is counted, with what else goes."""
        n_chars = n_more + count_chars(list_texts(run))
        reason = self._explain(run) if n_chars else ""
        self._note(reason, n_chars)
        return bool(reason)

    def is_marked(self, run: Any) -> bool:
        """Whether a run is marked as hidden, by itself or by a style or row; nothing is counted."""
        return self._explain(run) == MARKED

    def hides_boxes(self, run: Any) -> bool:
        """Whether a run with drawings is marked as hidden; if so, their text is counted."""
        if next(run.iter(TEXT_BOX), None) is None or not self.is_marked(run):
            return False
        self._note(MARKED, count_chars(run.iter(W + "t")))
        return True

    def hides_box(self, box: Any) -> bool:
        """Whether a text box is not shown, whatever is in it; if so, its text is counted."""
        reason = explain_box(box, self._shapes.page)
        self._note(reason, count_chars(box.iter(W + "t")) if reason else 0)
        return bool(reason)

    def _note(self, reason: str, n_chars: int) -> None:
        if reason and n_chars:
            self.findings.append(Finding("hidden", reason, n_chars))

    def _explain(self, run: Any) -> str:
        """Why a run cannot be seen, "" if it can: in one of the ways to read a table's style."""
        return self._judge(run, by_row=True) and self._judge(run, by_row=False)

    def _judge(self, run: Any, *, by_row: bool) -> str:
        look = self._look_at(run, by_row)
        rows = [self._find_row(row) for row in run.iterancestors(W + "tr")]
        if look.is_hidden or MARKED in rows or is_in_phantom(run):
            return MARKED
        if any(map(self._is_table_off, run.iterancestors(W + "tbl"))):
            return OFF
        size = look.complex_size if look.is_complex else look.size
        if (size is not None and size <= TINY) or (look.width or 100) <= NARROW:
            return SMALL
        if is_low(look.rule, look.height) or SMALL in rows:
            return SMALL
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
        block, of_paragraph = self._find_paragraph(paragraph)
        own = run.find(W + "rPr")
        outer = next(run.iterancestors(W + "tc", TEXT_BOX), None)
        direct = read_look(own, self._theme).over(block)
        is_in_cell = outer is not None and outer.tag == W + "tc"
        styles = (
            self._styles.look("character", style_of(own, "rStyle")),
            of_paragraph,
            self._find_cell(outer, by_row=by_row) if is_in_cell else NOTHING,
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
        layers: list[Paint] = []  # of shapes that let something through
        is_in_box = False
        for outer in run.iterancestors(W + "p", W + "tc", W + "tbl", TEXT_BOX):
            found = None
            if outer.tag == TEXT_BOX:
                is_in_box = True
                layers.append(self._shapes.read_fill(outer))
                if layers[-1].opacity >= 1:
                    break
            elif outer.tag != W + "p":
                found = self._find_shading(outer)
                if found is None and outer.tag == W + "tc":
                    found = self._find_cell(outer, by_row=by_row).cell
            elif is_in_box:  # the paragraph that a shape without a fill belongs to
                block, of_paragraph = self._find_paragraph(outer)
                found = block.block or of_paragraph.block
            if found is not None and found.is_painted:
                return Ground(lay(layers, found.color))
        color = lay(layers, self._paper.color)
        if looks_like(look.color.color if look.color else None, color):
            is_solid = bool(layers) and layers[-1].opacity >= 1
            if not is_solid and self._leans(look, run, is_in_box):
                return Ground(None)
        return Ground(color)

    def _read_paragraph(self, paragraph: Any) -> tuple[Look, Look]:
        """What a paragraph says itself, and what its style says."""
        properties = paragraph.find(W + "pPr") if paragraph is not None else None
        style = self._styles.look("paragraph", style_of(properties, "pStyle"))
        return read_block(properties, self._theme), style

    def _read_outer(self, outer: Any) -> Ground | None:
        """How a cell or a table is shaded by its own properties."""
        name = "tcPr" if outer.tag == W + "tc" else "tblPr"
        return read_shading(outer.find(W + name), self._theme)

    def _leans(self, look: Look, run: Any, is_in_box: bool) -> bool:
        """Whether a run may lie on a picture or shape: as much text as they have room for does.

        A text box may be anywhere, and so on any of them.
        """
        n_chars = count_chars(list_texts(run))
        needed = n_chars * LEAST_LETTER * (look.size or USUAL_SIZE) ** 2
        room = self._room_of_boxes if is_in_box else self._room
        if needed > room or not room:
            return False
        if is_in_box:
            self._room_of_boxes -= needed
        else:
            self._room -= needed
        return True


def lay(layers: list[Paint], color: Color) -> Color:
    """The color of layers, the topmost first, on a ground of some color."""
    for layer in reversed(layers):
        if layer.opacity >= 1:
            color = layer.color
        elif layer.opacity >= LEAST_OPACITY:
            if layer.color is None or color is None:
                return None
            pairs = zip(layer.color, color, strict=True)
            red, green, blue = (
                one * layer.opacity + other * (1 - layer.opacity) for one, other in pairs
            )
            color = red, green, blue
    return color


def count_chars(texts: Iterable[Any]) -> int:
    """How many characters are in elements, spaces left out."""
    return sum(len("".join((text.text or "").split())) for text in texts)


def list_texts(run: Any) -> Iterator[Any]:
    """Yield what is text of a run, but not of runs inside it."""
    for text in run.iter("{*}t"):
        if text.getparent() is run or next(text.iterancestors(*RUNS)) is run:
            yield text


def is_in_phantom(run: Any) -> bool:
    """Whether a run is in a part of a formula that keeps room and shows nothing."""
    marks = (part.find(f"{MATH}phantPr/{MATH}show") for part in run.iterancestors(MATH + "phant"))
    return any(mark is not None and not is_true(mark.get(MATH + "val", "1")) for mark in marks)


def explain_row(row: Any) -> str:
    """Why nothing in a row of a table can be seen; "" if it can be."""
    properties = row.find(W + "trPr")
    if properties is None:
        return ""
    if is_on(properties, "hidden"):
        return MARKED
    given = properties.find(W + "trHeight")
    if given is None:
        return ""
    return SMALL if is_low(given.get(W + "hRule"), read_length(given.get(W + "val"), TWIP)) else ""


def is_low(rule: str | None, height: float | None) -> bool:
    """Whether lines, or a row, have next to no height."""
    return rule == "exact" and height is not None and height <= LOWEST


def read_paper(document: Any, theme: Theme) -> Ground:
    """The color of the pages, white where the document sets none."""
    background = document.element.find(W + "background")
    shown = document.settings.element.find(W + "displayBackgroundShape")
    if background is None or shown is None:
        return Ground(WHITE)
    fill = next(background.iter("{*}fill"), None)
    if fill is not None and fill.get("type", "solid") != "solid":
        return Ground(None)  # a picture, or more than one color
    return Ground(read_named(background, PATTERN, theme) or WHITE)


def list_parts(document: Any) -> Iterator[Any]:
    """Yield the trees of what is on the pages: the body, and headers and footers."""
    yield document.element
    for relation in document.part.rels.values():
        kind = relation.reltype.rpartition("/")[2]
        if kind in ("header", "footer") and not relation.is_external:
            tree = getattr(relation.target_part, "element", None)
            if tree is not None:
                yield tree


def ends_page(paragraph: Any) -> bool:
    """Whether a new page begins in a paragraph, or before it."""
    return (
        any(mark.get(W + "type") == "page" for mark in paragraph.iter(W + "br"))
        or next(paragraph.iter(W + "lastRenderedPageBreak"), None) is not None
        or paragraph.find(f"{W}pPr/{W}pageBreakBefore") is not None
        or paragraph.find(f"{W}pPr/{W}sectPr") is not None
    )
