"""DOCX: the body of a Word document in reading order.

Takes the bytes of a document, gives sections by heading. python-docx opens the package and knows
its styles; the body is walked here, for content controls, tracked changes and notes count too.
"""

import re
from collections import Counter
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import docx.opc.exceptions
import lxml.etree
from docx.opc.part import PartFactory
from docx.package import Package
from docx.parts.document import DocumentPart

from d2l.documents.document import Section
from d2l.documents.findings import gather
from d2l.documents.parsing import CELL, Parsed, ParseRequest, bound_text, damaged
from d2l.documents.readers.archives import ZIP_ERRORS, open_archive, parse_xml
from d2l.documents.readers.docx_hidden import HiddenRuns
from d2l.documents.readers.docx_look import read_count
from d2l.documents.readers.docx_markup import MATH, RUNS, W, settle

KIND = "DOCX document"
SKIPPED = frozenset((W + "txbxContent", W + "pPr", W + "rPr"))
SIGNS = {W + "tab": "\t", W + "br": "\n", W + "cr": "\n", W + "noBreakHyphen": "-"}
NOTES = {W + "footnoteReference": "footnotes", W + "endnoteReference": "endnotes"}
N_LEVELS = 9  # of lists
HEADING_STYLE = re.compile(r"(?:heading|title|subtitle)\b", re.I)
# python-docx takes a document with macros, or a template, for something else.
OTHER_MAIN_TYPES = (
    "application/vnd.ms-word.document.macroEnabled.main+xml",
    "application/vnd.ms-word.template.macroEnabledTemplate.main+xml",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.template.main+xml",
)
PartFactory.part_type_for |= dict.fromkeys(OTHER_MAIN_TYPES, DocumentPart)
DOCX_ERRORS = (
    docx.opc.exceptions.PackageNotFoundError,
    lxml.etree.LxmlError,
    AttributeError,
    KeyError,
    ValueError,
)


def parse_docx(request: ParseRequest) -> Parsed:
    """Read the body; headers and footers of pages are left out."""
    open_archive(request, KIND).close()
    try:
        part: Any = Package.open(BytesIO(request.data)).main_document_part
        document = part.document
        body = document.element.body
    except ZIP_ERRORS:
        raise damaged(request, KIND, "one of its parts cannot be unpacked") from None
    except DOCX_ERRORS as error:
        raise damaged(request, KIND, type(error).__name__) from None
    if body is None:
        raise damaged(request, KIND, "it has no body")
    settle(document.element)
    hidden = HiddenRuns(document)
    reader = _BodyReader(document, request, hidden)
    sections = tuple(bound_text(reader.read(body), request))
    return Parsed(sections, findings=gather(hidden.findings))


class _BodyReader:
    """Walks a document's body; knows its styles, lists and notes."""

    def __init__(self, document: Any, request: ParseRequest, hidden: HiddenRuns) -> None:
        self._hidden = hidden
        self._include_hidden = request.include_hidden
        self._headings = find_heading_styles(document)
        self._bullets = find_bullet_lists(document)
        self._list_styles = find_list_styles(document)
        self._notes = read_notes(document, request, hidden)
        self._pending: list[str] = []  # notes referred to since the last block
        self._counts: Counter[tuple[str, int]] = Counter()

    def read(self, body: Any) -> Iterator[Section]:
        """Yield one section per heading, and one for what stands above the first."""
        blocks: list[str] = []
        heading: str | None = None
        in_list = False
        for text, kind in self._walk(body):
            if kind == "heading":
                if blocks:
                    yield Section("\n\n".join(blocks), heading=heading)
                blocks, heading = [text], " ".join(text.split())
            elif kind == "item" and in_list:
                blocks[-1] += "\n" + text
            else:
                blocks.append(text)
            in_list = kind == "item"
        if blocks:
            yield Section("\n\n".join(blocks), heading=heading)

    def _walk(self, parent: Any) -> Iterator[tuple[str, str]]:
        """Yield (text, kind) of the paragraphs and tables below an element."""
        for child in parent:
            if child.tag == W + "p":
                self._hidden.enter(child)
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

    def _read_paragraph(self, paragraph: Any) -> Iterator[tuple[str, str]]:
        text = self._read_inline(paragraph).strip()
        if text:
            mark = self._list_mark(paragraph)
            if self._is_heading(paragraph):
                yield text, "heading"
            elif mark:
                yield mark + text, "item"
            else:
                yield text, "paragraph"
        for box in self._find_boxes(paragraph):
            yield from self._walk(box)

    def _find_boxes(self, paragraph: Any) -> Iterator[Any]:
        """Yield the contents of a paragraph's text boxes, but not of boxes inside them: those
        belong to the paragraphs of the outer ones."""
        waiting = list(reversed(paragraph))
        while waiting:
            element = waiting.pop()
            if element.tag == W + "txbxContent":
                if not self._hidden.hides_box(element) or self._include_hidden:
                    yield element
            elif element.tag == W + "r" and self._hidden.hides_boxes(element):
                waiting += reversed(element) if self._include_hidden else ()
            else:
                waiting += reversed(element)

    def _read_inline(self, element: Any) -> str:
        """Give the text of runs, links, fields and formulas."""
        parts: list[str] = []
        for child in element:
            if child.tag in SKIPPED:
                continue
            if child.tag in RUNS and self._is_left_out(child):
                continue
            if child.tag in (W + "t", MATH + "t"):
                parts.append(child.text or "")
            elif child.tag in SIGNS:
                parts.append(SIGNS[child.tag])
            elif not isinstance(child.tag, str):
                continue
            else:
                parts.append(self._refer(child) or self._read_inline(child))
        return "".join(parts).replace("\xa0", " ")

    def _is_left_out(self, run: Any) -> bool:
        """Whether a run is hidden. A note goes with its mark where that is marked as hidden, and
        is still seen where its mark alone is not."""
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
        """The text of the note that a mark refers to; "" for anything else."""
        part = NOTES.get(mark.tag)
        return self._notes.get((part, mark.get(W + "id", "")), "") if part else ""

    def _refer(self, element: Any) -> str:
        """Mark a reference to a note, and keep the note for after the paragraph."""
        note = self._find_note(element)
        if not note:
            return ""
        identity = element.get(W + "id", "")
        self._pending.append(f"[{identity}] {note}")
        return f"[{identity}]"

    def _read_rows(self, table: Any) -> Iterator[str]:
        """Yield the rows of a table; a merged cell counts where it begins."""
        for row in table.iter(W + "tr"):
            if next(row.iterancestors(W + "tbl")) is not table:
                continue  # of a table inside a cell
            cells = []
            for cell in row.iter(W + "tc"):
                if next(cell.iterancestors(W + "tr")) is not row or continues_above(cell):
                    continue
                lines = [" ".join(text.split()) for text, _ in self._walk(cell)]
                cells.append(" ".join(line for line in lines if line))
            if any(cells):
                yield CELL.join(cell for cell in cells if cell)

    def _is_heading(self, paragraph: Any) -> bool:
        level = paragraph.find(f"{W}pPr/{W}outlineLvl")
        if level is not None:
            return (level.get(W + "val") or "9") in "012345678"
        style = paragraph.find(f"{W}pPr/{W}pStyle")
        return style is not None and style.get(W + "val") in self._headings

    def _list_mark(self, paragraph: Any) -> str:
        """Give a list item's mark: a dash, or its number among its siblings."""
        numbering = paragraph.find(f"{W}pPr/{W}numPr")
        style = paragraph.find(f"{W}pPr/{W}pStyle")
        if numbering is None and style is not None:
            numbering = self._list_styles.get(style.get(W + "val", ""))
        identity = numbering.find(W + "numId") if numbering is not None else None
        number = identity.get(W + "val", "0") if identity is not None else "0"
        if number == "0":
            return ""
        level = numbering.find(W + "ilvl")
        depth = (read_count(level.get(W + "val")) or 0) if level is not None else 0
        if (number, depth) in self._bullets:
            return "  " * depth + "- "
        self._counts[number, depth] += 1
        for deeper in range(depth + 1, N_LEVELS):
            self._counts[number, deeper] = 0
        return "  " * depth + f"{self._counts[number, depth]}. "


def continues_above(cell: Any) -> bool:
    """Whether a cell is the lower part of one merged with the row above."""
    merge = cell.find(f"{W}tcPr/{W}vMerge")
    return merge is not None and merge.get(W + "val", "continue") == "continue"


def find_heading_styles(document: Any) -> frozenset[str]:
    """Give the ids of styles that are headings by name or outline level, or based on such."""
    found: set[str] = set()
    parents: dict[str, str] = {}
    for style in document.styles.element.iter(W + "style"):
        identity = style.get(W + "styleId", "")
        name = style.find(W + "name")
        base = style.find(W + "basedOn")
        parents[identity] = base.get(W + "val", "") if base is not None else ""
        outlined = style.find(f"{W}pPr/{W}outlineLvl") is not None
        if outlined or (name is not None and HEADING_STYLE.match(name.get(W + "val", ""))):
            found.add(identity)
    known = dict.fromkeys(found, True) | {"": False}
    for identity in parents:
        chain = []
        while identity not in known:
            chain.append(identity)
            known[identity] = False  # for a chain of styles that is a loop
            identity = parents.get(identity, "")
        known |= dict.fromkeys(chain, known[identity])
    return frozenset(identity for identity, is_heading in known.items() if is_heading)


def find_list_styles(document: Any) -> dict[str, Any]:
    """Map the ids of list styles to the numbering that their paragraphs get."""
    return {
        style.get(W + "styleId", ""): numbering
        for style in document.styles.element.iter(W + "style")
        if (numbering := style.find(f"{W}pPr/{W}numPr")) is not None
    }


def find_bullet_lists(document: Any) -> frozenset[tuple[str, int]]:
    """Give (list id, level) of lists whose items have bullets, not numbers."""
    try:
        root = document.part.numbering_part.element
    except (KeyError, NotImplementedError):
        return frozenset()
    bullets: dict[str, set[int]] = {}
    for abstract in root.iter(W + "abstractNum"):
        depths = bullets.setdefault(abstract.get(W + "abstractNumId", ""), set())
        for level in abstract.iter(W + "lvl"):
            form, depth = level.find(W + "numFmt"), read_count(level.get(W + "ilvl")) or 0
            if form is not None and form.get(W + "val") == "bullet" and depth < N_LEVELS:
                depths.add(depth)
    return frozenset(
        (number.get(W + "numId", ""), depth)
        for number in root.iter(W + "num")
        if (link := number.find(W + "abstractNumId")) is not None
        for depth in bullets.get(link.get(W + "val", ""), ())
    )


def read_notes(
    document: Any, request: ParseRequest, hidden: HiddenRuns
) -> dict[tuple[str, str], str]:
    """Give the text of footnotes and endnotes by (part, id)."""
    notes: dict[tuple[str, str], str] = {}
    for relation in document.part.rels.values():
        part = relation.reltype.rpartition("/")[2]
        if relation.is_external or part not in ("footnotes", "endnotes"):
            continue
        root = parse_xml(relation.target_part.blob, request, KIND)
        settle(root)
        for run in [run for run in root.iter(W + "r") if hidden.is_hidden(run)]:
            if not request.include_hidden:
                run.getparent().remove(run)
        for note in (*root.iter(W + "footnote"), *root.iter(W + "endnote")):
            paragraphs = (
                "".join(text.text or "" for text in paragraph.iter(W + "t"))
                for paragraph in note.iter(W + "p")
            )
            if words := " ".join(" ".join(paragraphs).split()):
                notes[part, note.get(W + "id", "")] = words
    return notes
