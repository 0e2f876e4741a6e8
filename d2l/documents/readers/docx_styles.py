"""Styles of a DOCX document: what each says with those it is based on, also by place in a table.

Takes the part of styles and cells of tables, gives looks; knows nothing of what is on a page.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from d2l.documents.readers.docx_look import (
    NOTHING,
    TWIP,
    Look,
    is_true,
    read_block,
    read_count,
    read_length,
    read_look,
    read_shading,
    style_of,
    value_of,
)
from d2l.documents.readers.docx_theme import Theme, W

WHOLE = "wholeTable"
#: What may be around the rows of a table, and around the cells of a row.
WRAPPERS = frozenset(
    W + name for name in ("sdt", "sdtContent", "customXml", "ins", "moveTo", "smartTag")
)
#: Bits of the older way to say which parts of a table's style count.
_BITS = {
    "firstRow": 0x20, "lastRow": 0x40, "firstColumn": 0x80, "lastColumn": 0x100,
    "noHBand": 0x200, "noVBand": 0x400,
}  # fmt: skip


class Style(NamedTuple):
    """What a style says; of a table's, also in its parts, and how many rows a band has."""

    look: Look = NOTHING
    parts: Mapping[str, Look] = {}
    row_band: int | None = None
    column_band: int | None = None


class Place(NamedTuple):
    """Where a cell is in its table, counted from 0, and whether it is among the last there."""

    row: int
    column: int
    is_last_row: bool
    is_last_column: bool


class Styles:
    """Styles by kind and id; each is worked out once, after those that it is based on."""

    def __init__(self, root: Any, theme: Theme) -> None:
        self._theme = theme
        self._elements: dict[tuple[str, str], Any] = {}
        self._usual: dict[str, str] = {}
        self._known: dict[tuple[str, str], Style] = {}
        self._places: dict[Any, dict[Any, Place]] = {}  # of cells, by table
        for style in root.iter(W + "style"):
            kind, identity = style.get(W + "type", "paragraph"), style.get(W + "styleId", "")
            self._elements[kind, identity] = style
            if is_true(style.get(W + "default", "0")):
                self._usual.setdefault(kind, identity)
        defaults = root.find(W + "docDefaults")
        of_run, of_paragraph = (
            defaults.find(f"{W}{name}Default/{W}{name}") if defaults is not None else None
            for name in ("rPr", "pPr")
        )
        self.defaults = read_look(of_run, theme).over(read_block(of_paragraph, theme))

    def look(self, kind: str, identity: str) -> Look:
        """What a style says; one that is not there stands for the usual one of its kind."""
        return self._find(kind, identity).look

    def _find(self, kind: str, identity: str) -> Style:
        at = (kind, identity)
        if at not in self._elements:
            at = (kind, self._usual.get(kind, ""))
        chain = []
        while at in self._elements and at not in self._known:
            chain.append(at)
            self._known[at] = Style()  # for styles that are based on each other in a ring
            at = (kind, style_of(self._elements[at], "basedOn"))
        style = self._known.get(at, Style())
        for at in reversed(chain):
            style = self._known[at] = self._read(self._elements[at], style)
        return style

    def _read(self, element: Any, base: Style) -> Style:
        parts = dict(base.parts)
        for part in element.iterfind(W + "tblStylePr"):
            name = part.get(W + "type", "")
            parts[name] = self._read_part(part).over(parts.get(name, NOTHING))
        table = element.find(W + "tblPr")
        bands = [
            read_count(value_of(table, f"tblStyle{name}BandSize")) if table is not None else None
            for name in ("Row", "Col")
        ]
        return Style(
            self._read_part(element).over(base.look),
            parts,
            base.row_band if bands[0] is None else bands[0],
            base.column_band if bands[1] is None else bands[1],
        )

    def _read_part(self, element: Any) -> Look:
        of_cell = read_shading(element.find(W + "tcPr"), self._theme)
        of_table = read_shading(element.find(W + "tblPr"), self._theme)
        return (
            read_look(element.find(W + "rPr"), self._theme)
            .over(read_block(element.find(W + "pPr"), self._theme))
            .over(Look(cell=of_table if of_cell is None else of_cell))
        )

    def look_in(self, cell: Any, *, by_row: bool) -> Look:
        """What the style of its table says for a cell; with `by_row` rows count over columns.

        The standard has columns over rows. Word's own styles need rows over columns for some
        corners to be readable, and the standard for others.
        """
        table = next(cell.iterancestors(W + "tbl"), None)
        properties = table.find(W + "tblPr") if table is not None else None
        style = self._find("table", style_of(properties, "tblStyle"))
        look = style.look
        if style.parts:
            if table not in self._places:
                self._places[table] = find_places(table)
            place = self._places[table].get(cell)
            shown = read_parts_shown(properties)
            if place is not None:
                for name in name_parts(place, style, shown, by_row=by_row):
                    look = style.parts.get(name, NOTHING).over(look)
        return look


def read_parts_shown(properties: Any) -> frozenset[str]:
    """Which parts of its style a table shows, by the names of the attributes that say so."""
    shown = properties.find(W + "tblLook") if properties is not None else None
    if shown is None:
        return frozenset()
    try:
        bits = int(shown.get(W + "val", "0")[:8], 16)
    except ValueError:
        bits = 0
    return frozenset(
        name
        for name, bit in _BITS.items()
        if is_true(shown.get(W + name, "1" if bits & bit else "0"))
    )


def name_parts(place: Place, style: Style, shown: frozenset[str], *, by_row: bool) -> Iterator[str]:
    """Yield the parts of a style that a cell is in, the one that counts for most at the end: the
    order of ISO 29500-1, 17.7.6, or with `by_row` rows over columns."""
    is_top = "firstRow" in shown and place.row == 0
    is_bottom = "lastRow" in shown and place.is_last_row and place.row > 0
    is_left = "firstColumn" in shown and place.column == 0
    is_right = "lastColumn" in shown and place.is_last_column and place.column > 0
    column = _band(place.column - ("firstColumn" in shown), style.column_band)
    row = _band(place.row - ("firstRow" in shown), style.row_band)
    bands = (
        (not (is_left or is_right) and "noVBand" not in shown, column + "Vert"),
        (not (is_top or is_bottom) and "noHBand" not in shown, row + "Horz"),
    )
    ends = ((is_left, "firstCol"), (is_right, "lastCol"))
    tops = ((is_top, "firstRow"), (is_bottom, "lastRow"))
    corners = (
        (is_top and is_left, "nwCell"),
        (is_top and is_right, "neCell"),
        (is_bottom and is_left, "swCell"),
        (is_bottom and is_right, "seCell"),
    )
    edges = (*bands, *ends, *tops) if by_row else (*reversed(bands), *tops, *ends)
    yield WHOLE
    for is_there, name in (*edges, *corners):
        if is_there:
            yield name


def _band(at: int, size: int | None) -> str:
    return f"band{1 + at // max(1, size or 1) % 2}"


def find_places(table: Any) -> dict[Any, Place]:
    """Where each cell of a table is, those of tables inside it left out."""
    places = {}
    rows = list(find_inside(table, W + "tr"))
    for number, row in enumerate(rows):
        before = row.find(f"{W}trPr/{W}gridBefore")
        column = (read_count(before.get(W + "val")) or 0) if before is not None else 0
        cells = list(find_inside(row, W + "tc"))
        for cell in cells:
            is_last = number == len(rows) - 1
            places[cell] = Place(number, column, is_last, cell is cells[-1])
            span = cell.find(f"{W}tcPr/{W}gridSpan")
            column += (read_count(span.get(W + "val")) or 1) if span is not None else 1
    return places


def find_inside(parent: Any, tag: str) -> Iterator[Any]:
    """Yield the rows of a table, or the cells of a row, in order."""
    waiting = list(reversed(parent))
    while waiting:
        element = waiting.pop()
        if element.tag == tag:
            yield element
        elif element.tag in WRAPPERS:
            waiting += reversed(element)


def measure_table(table: Any) -> float:
    """How wide a table is, in points, by its own width or by those of its columns."""
    width = table.find(f"{W}tblPr/{W}tblW")
    if width is not None and width.get(W + "type") == "dxa":
        return read_length(width.get(W + "w"), TWIP) or 0.0
    columns = table.iterfind(f"{W}tblGrid/{W}gridCol")
    return sum(read_length(column.get(W + "w"), TWIP) or 0.0 for column in columns)
