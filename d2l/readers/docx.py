"""DOCX: the body of a Word document in reading order.

Bytes in, sections by heading out. python-docx opens the package; this module walks the body, since
content controls, tracked changes and notes hold text, too.
"""

from collections.abc import Iterator
from io import BytesIO
from typing import Any

import docx.opc.exceptions
import lxml.etree
from docx.opc.package import OpcPackage
from docx.opc.part import XmlPart
from docx.parts.styles import StylesPart

from d2l.readers.archives import ZIP_ERRORS, drop_dangling, open_archive, parse_xml
from d2l.readers.docx_hidden import HiddenRuns, count_chars, read_page
from d2l.readers.docx_lists import Numbering, read_small
from d2l.readers.docx_markup import MATH, RUNS, TEXT_BOX, W, read_sign, settle
from d2l.readers.docx_styles import OUTLINE_LEVELS, Styles, is_on, value_of
from d2l.readers.findings import gather
from d2l.readers.parsing import (
    Heading,
    Parsed,
    ParseRequest,
    Section,
    bound_text,
    damaged,
    name_left_out,
)
from d2l.readers.tables import Cell, Table

KIND = "DOCX document"
SKIPPED = frozenset((TEXT_BOX, W + "pPr", W + "rPr"))
SIGNS = {
    W + "tab": "\t",
    W + "ptab": "\t",
    W + "br": "\n",
    W + "cr": "\n",
    W + "noBreakHyphen": "-",
}
#: Elements that show other parts, which are not read.
PARTS_SHOWN = (
    W + "altChunk",
    W + "subDoc",
    "{http://schemas.openxmlformats.org/drawingml/2006/chart}chart",
    "{http://schemas.openxmlformats.org/drawingml/2006/diagram}relIds",
)
NOTES = {W + "footnoteReference": "footnotes", W + "endnoteReference": "endnotes"}
#: Parts beside the body, by the ends of their relations' types.
ASIDE = ("header", "footer", "comments")
PARTS = ("styles", "numbering", "settings", *ASIDE, *NOTES.values())
DOCX_ERRORS = (
    docx.opc.exceptions.PackageNotFoundError,
    lxml.etree.LxmlError,
    AttributeError,
    KeyError,
    TypeError,  # of a relation without a target
    ValueError,
)


def parse_docx(request: ParseRequest) -> Parsed:
    """Read the body; headers and footers of pages are left out."""
    open_archive(request, KIND).close()
    try:
        try:
            main: Any = OpcPackage.open(BytesIO(request.data)).main_document_part
        except KeyError:
            whole = drop_dangling(request.data, request, KIND)
            main = OpcPackage.open(BytesIO(whole)).main_document_part
    except ZIP_ERRORS:
        raise damaged(request, KIND, "one of its parts cannot be unpacked") from None
    except DOCX_ERRORS as error:
        raise damaged(request, KIND, type(error).__name__) from None
    root = read_tree(main, request)
    body = root.find(W + "body")
    if body is None:
        raise damaged(request, KIND, "it has no body")
    n_aside = count_chars(root.iter(W + "delText"))
    settle(root)
    parts: dict[str, list[Any]] = {kind: [] for kind in PARTS}
    for relation in main.rels.values():
        kind = (relation.reltype or "").rpartition("/")[2]
        if kind in PARTS and not relation.is_external:
            parts[kind].append(read_tree(relation.target_part, request))
    parts["styles"].append(StylesPart.default(main.package).element)  # for documents without any
    styles = Styles(parts["styles"][0])
    page = read_page(root, parts["settings"], (*parts["header"], *parts["footer"]))
    hidden = HiddenRuns(styles, page)
    reader = _BodyReader(parts, request, styles, hidden)
    sections = tuple(bound_text(reader.read(body), request))
    n_aside += sum(count_chars(part.iter(W + "t")) for kind in ASIDE for part in parts[kind])
    n_parts = sum(1 for _ in root.iter(*PARTS_SHOWN))
    return Parsed(
        sections,
        (f"charts, diagrams or inserted documents that are not read: {n_parts}",)
        if n_parts
        else (),
        gather(hidden.findings),
        name_left_out(n_aside, "headers, footers, comments and deletions"),
    )


def read_tree(part: Any, request: ParseRequest) -> Any:
    """Read the tree of a part, also of a type that python-docx does not know."""
    return part.element if isinstance(part, XmlPart) else parse_xml(part.blob, request, KIND)


class _BodyReader:
    """Walks a document's body; knows its styles, lists and notes."""

    def __init__(
        self, parts: dict[str, list[Any]], request: ParseRequest, styles: Styles, hidden: HiddenRuns
    ) -> None:
        self._hidden = hidden
        self._include_hidden = request.include_hidden
        self._styles = styles
        self._numbering = Numbering(parts["numbering"])
        self._list_styles = {
            style.get(W + "styleId", ""): numbering
            for style in parts["styles"][0].iter(W + "style")
            if (numbering := style.find(f"{W}pPr/{W}numPr")) is not None
        }
        self._pending: list[str] = []  # notes referred to since the last block
        self._notes: dict[tuple[str, str], str] = {}
        self._referred: dict[tuple[str, str], int] = {}  # the numbers of notes
        for kind in NOTES.values():
            for notes in parts[kind]:
                self._read_notes(kind, notes)

    def read(self, body: Any) -> Iterator[Section]:
        """Yield a section for each heading, and one for the text above the first."""
        blocks: list[str] = []
        heading: str | None = None
        headings: tuple[Heading, ...] = ()
        in_list = has_title = False
        for text, kind in self._walk(body):
            if isinstance(kind, int):
                if blocks:
                    yield Section("\n\n".join(blocks), heading=heading, headings=headings)
                blocks, heading = [text], " ".join(text.split())
                has_title |= kind == 0  # other headings are below it
                headings = (Heading(0, kind + has_title, heading),)
            elif kind == "item" and in_list:
                blocks[-1] += "\n" + text
            else:
                blocks.append(text)
            in_list = kind == "item"
        if blocks:
            yield Section("\n\n".join(blocks), heading=heading, headings=headings)

    def _walk(self, parent: Any) -> Iterator[tuple[str, str | int]]:
        """Yield (text, kind) of the paragraphs and tables below an element; the kind of a heading
        is its level, 0 for a title."""
        for child in parent:
            if child.tag == W + "p":
                yield from self._read_paragraph(child)
            elif child.tag == W + "tbl":
                rows = "\n".join(self._read_rows(child))
                if rows:
                    yield rows, "table"
            elif child.tag == W + "sdt":
                content = child.find(W + "sdtContent")
                yield from self._walk(content if content is not None else ())
            elif child.tag in (W + "customXml", W + "ins", W + "moveTo"):
                yield from self._walk(child)
            while self._pending:
                yield self._pending.pop(0), "note"

    def _read_paragraph(self, paragraph: Any) -> Iterator[tuple[str, str | int]]:
        text = self._read_inline(paragraph).strip()
        depth, mark = self._count(paragraph)
        if text:
            level = self._read_level(paragraph)
            if level is None:
                yield f"{'  ' * depth}{mark} {text}" if mark else text, "item" if mark else "text"
            else:
                yield f"{mark} {text}" if mark not in ("", "-") else text, level
        for box in self._find_boxes(paragraph):
            yield from self._walk(box)

    def _find_boxes(self, paragraph: Any) -> Iterator[Any]:
        """Yield the contents of a paragraph's text boxes; boxes inside them belong to inner
        paragraphs."""
        for box in paragraph.iter(TEXT_BOX):
            is_own = next(box.iterancestors(W + "p")) is paragraph
            if is_own and (not self._hidden.hides_box(box) or self._include_hidden):
                yield box

    def _read_inline(self, element: Any) -> str:
        """Read the text of runs, links, fields and formulas."""
        parts: list[str] = []
        for child in element:
            if child.tag in SKIPPED or (child.tag in RUNS and self._is_left_out(child)):
                continue
            if child.tag in (W + "t", MATH + "t"):
                parts.append(child.text or "")
            elif child.tag in SIGNS:
                parts.append(SIGNS[child.tag])
            elif child.tag == W + "sym":
                parts.append(read_sign(child))
            elif isinstance(child.tag, str):
                parts.append(self._refer(child) or self._read_inline(child))
        return "".join(parts).replace("\xa0", " ")

    def _is_left_out(self, run: Any) -> bool:
        """True if a run is left out. A note is left out with its mark if the mark is marked as
        hidden; if the mark is hidden otherwise, the note is still visible."""
        marks = list(run.iterchildren(*NOTES))
        n_chars = 0
        if marks and self._hidden.is_marked(run):
            n_chars = sum(len("".join(self._find_note(mark).split())) for mark in marks)
        if not self._hidden.is_hidden(run, n_chars) or self._include_hidden:
            return False
        for mark in marks if not n_chars else ():
            self._refer(mark)
        return True

    def _find_note(self, mark: Any) -> str:
        """Find the text of the note that a mark refers to; "" for other elements."""
        part = NOTES.get(mark.tag)
        return self._notes.get((part, mark.get(W + "id", "")), "") if part else ""

    def _refer(self, element: Any) -> str:
        """Mark a reference to a note, and keep the note for after the paragraph."""
        note, text = (element.tag, element.get(W + "id", "")), self._find_note(element)
        if not text:
            return ""
        number = self._referred.setdefault(
            note, 1 + sum(kind == note[0] for kind, _ in self._referred)
        )
        self._pending.append(f"[{number}] {text}")
        return f"[{number}]"

    def _read_notes(self, kind: str, root: Any) -> None:
        """Keep the text of footnotes or endnotes by kind and id."""
        settle(root)
        for note in root.iter(W + "footnote", W + "endnote"):
            paragraphs = map(self._read_inline, note.iter(W + "p"))
            if words := " ".join(" ".join(paragraphs).split()):
                self._notes[kind, note.get(W + "id", "")] = words

    def _read_rows(self, table: Any) -> Iterator[str]:
        """Yield the rows of a table; a merged cell counts in its first row."""
        writer = Table()
        for row in table.iter(W + "tr"):
            if next(row.iterancestors(W + "tbl")) is not table:
                continue  # of a table inside a cell
            is_head = self._is_head(table, row, is_first=writer.n_rows == 0)
            cells = []
            for cell in row.iter(W + "tc"):
                if next(cell.iterancestors(W + "tr")) is not row:
                    continue
                merge = cell.find(f"{W}tcPr/{W}vMerge")
                continues = merge is not None and merge.get(W + "val", "continue") == "continue"
                if continues:
                    self._hidden.note("under a merged cell", count_chars(cell.iter(W + "t")))
                    continues = not self._include_hidden
                lines = () if continues else [" ".join(t.split()) for t, _ in self._walk(cell)]
                text = " ".join(line for line in lines if line)
                span = max(1, read_small(value_of(cell.find(W + "tcPr"), "gridSpan")))
                cells.append(Cell(text, is_head, span, continues=continues))
            if line := writer.write(cells):
                yield line

    def _is_head(self, table: Any, row: Any, *, is_first: bool) -> bool:
        """True if a row names its columns: it is marked, or the first and looks so."""
        marked = row.find(f"{W}trPr/{W}tblHeader")
        if marked is not None:
            return is_on(marked.get(W + "val", "1"))
        if not is_first:
            return False
        look = table.find(f"{W}tblPr/{W}tblLook")
        style = self._styles.find("table", value_of(table.find(W + "tblPr"), "tblStyle"))
        if look is not None and is_on(look.get(W + "firstRow")) and "head" in style:
            return True
        runs = [run for run in row.iter(W + "r") if run.find(W + "t") is not None]
        bold = [mark for run in runs if (mark := run.find(f"{W}rPr/{W}b")) is not None]
        return 0 < len(runs) == sum(is_on(mark.get(W + "val", "1")) for mark in bold)

    def _read_level(self, paragraph: Any) -> int | None:
        """Read the level of a heading, 0 for a title; None for other paragraphs."""
        outlined = paragraph.find(f"{W}pPr/{W}outlineLvl")
        if outlined is not None:
            level = outlined.get(W + "val") or "9"
            return int(level) + 1 if level in OUTLINE_LEVELS else None
        style = value_of(paragraph.find(W + "pPr"), "pStyle")
        written = self._styles.find("paragraph", style).get("heading") if style else None
        return None if written is None else int(written)

    def _count(self, paragraph: Any) -> tuple[int, str]:
        """Count an item of a list; return its depth and mark ("" for other paragraphs)."""
        numbering = paragraph.find(f"{W}pPr/{W}numPr")
        if numbering is None:
            style = value_of(paragraph.find(W + "pPr"), "pStyle")
            numbering = self._list_styles.get(style)
        depth = read_small(value_of(numbering, "ilvl"))
        return depth, self._numbering.count(value_of(numbering, "numId"), depth)
