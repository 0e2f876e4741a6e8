"""HTML: a page's text without menus and the like.

Markup in, sections by heading out; scripts, navigation and edit links are left out, tables become
rows. EPUB chapters are read by the same walk over the tree.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import lxml.etree
import lxml.html

from d2l.readers.findings import Finding, gather
from d2l.readers.html_furniture import (
    BLOCKS,
    HEADINGS,
    LINKED_SHARE,
    Dropped,
    Size,
    find_drawn,
    find_furniture,
    find_outside,
    find_unseen,
    measure,
    remove,
    tell_dropped,
)
from d2l.readers.html_hidden import find_hidden
from d2l.readers.html_marks import spell_formulas, write_note_marks
from d2l.readers.parsing import (
    RAISED_NUMBER,
    Heading,
    Parsed,
    ParseRequest,
    Section,
    bound_text,
    damaged,
)
from d2l.readers.sniff import decode_html
from d2l.readers.styles import SHADOW, Sheet
from d2l.readers.tables import Cell, Table
from d2l.readers.text import encoding_notes

#: Elements of a page's head; the parser also leaves unknown elements there.
HEAD_TAGS = frozenset(("title", "meta", "link", "base", "script", "style", "noscript", "template"))
SPACES = re.compile(r"[ \t\n\r\f\xa0\u200b\ufeff]+")
JUNK = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")
#: End tags that browsers ignore, or read as a line break, or as an empty paragraph.
END_TAG = re.compile(r"</(html|br|p)\b[^<>]{0,99}>", re.IGNORECASE)
END_TAGS = {"html": "</d2l>", "br": "<br>", "p": "</p> "}
# Marks inside the walk only: every page has been cleared of JUNK.
END_CELL, NEXT_PART, LIST_PART = "\x01", "\x02", "\x04"  # between the texts of a row
#: Signs of formulas that are drawn: before elements, and between the elements inside others.
MATH_BEFORE = {"msqrt": "√", "mroot": "√", "mtext": " ", "mtd": " ", "mspace": " "}
MATH_BETWEEN = {"mfrac": "/", "msup": "^"}
MAX_NUMBER_DIGITS = 9  # of an attribute; with more the default counts
MIN_MAIN_CHARS = 200  # a shorter main element is not the page's text


def parse_html(request: ParseRequest) -> Parsed:
    """Read a page, with a section for each heading."""
    decoded = decode_html(request.data, request.name, request.encoding)
    page = split_page(parse_tree(decoded.text, request), include_hidden=request.include_hidden)
    sections = tuple(bound_text(page.sections, request))
    notes = (*encoding_notes(decoded), *page.notes)
    return Parsed(sections, notes, *tell_pages([page]))


class Page(NamedTuple):
    """Text of a page, findings and notes; and its visible words that are left out."""

    sections: list[Section]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    dropped: tuple[Dropped, ...]
    n_drawn: int


def tell_pages(pages: Sequence[Page]) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Gather the findings of pages, and write a remark on visible characters that are left out."""
    dropped = [piece for page in pages for piece in page.dropped]
    findings = [finding for page in pages for finding in page.findings]
    counts = (
        (sum(len(words) for words, prose in dropped if not prose), "menus and page furniture"),
        (sum(page.n_drawn for page in pages), "drawings and buttons"),
    )
    present = [(n, kind) for n, kind in counts if n]
    remarks: tuple[str, ...] = ()
    if present:
        (n, kind), *more = present
        rest = "".join(f", {n:,} of {kind}" for n, kind in more)
        remarks = (f"{n:,} character{'' if n == 1 else 's'} of {kind} left out{rest}",)
    return gather([*findings, *tell_dropped(dropped)]), remarks


def parse_tree(markup: str, request: ParseRequest) -> Any:
    """Parse leniently like browsers, but fetch nothing and expand nothing."""
    parser = lxml.html.HTMLParser(
        encoding="utf-8", no_network=True, huge_tree=False, remove_comments=True, remove_pis=True,
        default_doctype=False,
    )  # fmt: skip
    markup = END_TAG.sub(lambda tag: END_TAGS[tag[1].lower()], JUNK.sub("", markup))
    raw = markup.encode()
    try:
        root = lxml.html.document_fromstring(raw, parser=parser)
    except lxml.etree.ParserError:  # no element at all: a comment alone, for example
        root = lxml.html.document_fromstring("<html/>", parser=parser)
    except (lxml.etree.LxmlError, ValueError) as error:
        raise damaged(request, "HTML page", type(error).__name__) from None
    if any(entry.type_name == "ERR_RESOURCE_LIMIT" for entry in parser.error_log):
        why = "its elements are nested too deeply, or an attribute or text is larger than 10 MB"
        raise damaged(request, "HTML page", why)
    empty_head(root)
    for shadow in root.iter("template"):
        if shadow.get("shadowrootmode") is not None:  # it is visible, and has its own sheets
            shadow.tag = SHADOW
    return root


def empty_head(root: Any) -> None:
    """Move elements that do not belong in a head, such as `main`, to the start of the body."""
    head, body = root.find("head"), root.find("body")
    moved = [] if head is None else [child for child in head if child.tag not in HEAD_TAGS]
    if not moved:
        return
    if body is None:
        body = lxml.etree.SubElement(root, "body")
    moved[-1].tail = (moved[-1].tail or "") + (body.text or "")
    body.text = None
    body[:0] = moved


def split_page(
    root: Any, *, sheets: Iterable[Sheet] | None = None, include_hidden: bool = False
) -> Page:
    """Split a parsed page into sections, and find hidden text in its main content. `sheets`: those
    that the page links to; None: they are not available."""
    formulas = set(spell_formulas(root))
    hidden, notes = find_hidden(root, sheets)
    for text in hidden:
        if text.element.getnext() in formulas:  # MathML of the same formula
            text.remove()
    unseen = find_unseen(root, hidden)
    dropped = list(remove(find_furniture(root, measure(root, unseen)), unseen))
    sizes = measure(root, unseen)
    main = find_main(root, sizes)
    dropped += find_outside(main, sizes, unseen)
    n_drawn = sum(len(piece.words) for piece in remove(find_drawn(main), unseen))
    inside = set(main.iter())
    hidden = [text for text in hidden if text.element in inside]
    # Furniture in it has been removed.
    counts = ((text.reason, text.n_chars) for text in hidden)
    findings = gather(Finding("hidden", reason, n_chars) for reason, n_chars in counts if n_chars)
    if not include_hidden:
        for text in hidden:
            text.remove()
    write_note_marks(main)
    return Page(_Flow().run(main), findings, notes, tuple(dropped), n_drawn)


def find_main(root: Any, sizes: Mapping[Any, Size]) -> Any:
    """Find the element that the page marks as its main content, or the only article in it if links
    are beside it; the root if there is not exactly one, or it is nearly empty."""
    main = find_only(root, "//main | //*[@role='main']")
    article = find_only(main, ".//article")
    around, inside = sizes[main], sizes[article]
    n_beside = around.n_chars - inside.n_chars
    is_alone = (
        around.n_prose == inside.n_prose
        and around.n_linked - inside.n_linked >= LINKED_SHARE * n_beside
        and len(main.findall(".//h1")) == len(article.findall(".//h1"))
    )
    return article if is_alone else main


def find_only(root: Any, path: str) -> Any:
    """Find the only element of a path; the root if there are others, or it is nearly empty."""
    found = root.xpath(path)
    is_it = len(found) == 1 and len(found[0].text_content().strip()) >= MIN_MAIN_CHARS
    return found[0] if is_it else root


class _Flow:
    """Walks a tree in document order, and cuts its text into blocks and sections."""

    def __init__(self) -> None:
        self._blocks: list[tuple[str, list[str]]] = []  # a list, a table or neither; its lines
        self._inline: list[str] = []  # pieces of the block being read
        self._heading: str | None = None
        self._level = 0  # of the heading
        self._sections: list[Section] = []
        self._lists: list[int | None] = []  # the next number of each open list; None: bullets
        self._item = ""  # the mark of a list item, until its first text
        self._tables: list[Table] = []  # open ones
        self._rows: list[list[str]] = []  # texts of the cells of each open table row
        self._cells: list[list[Cell]] = []  # these cells, without their texts
        self._pre = 0

    def run(self, root: Any) -> list[Section]:
        """Cut the text below an element into sections."""
        for event, element in lxml.etree.iterwalk(root, events=("start", "end")):
            if event == "start":
                self._open(element)
                self._add(element.text)
            else:
                self._close(element)
                if element is not root:
                    self._add(element.tail)
        self._end_block()
        self._end_section()
        return self._sections

    def _open(self, element: Any) -> None:
        tag = element.tag
        if tag in BLOCKS:
            self._end_block()
        if tag in HEADINGS and not self._rows:
            self._end_section()
            self._item = "" if self._item.endswith("- ") else self._item  # no bullet in a title
        elif tag == "br":
            self._inline.append("\n")
        elif tag == "sup" and is_power("".join(self._inline[-1:]), element):
            self._inline.append("^")
        elif tag == "pre":
            self._pre += 1
        elif tag in ("ul", "ol"):
            self._lists.append(read_number(element, "start", 1) if tag == "ol" else None)
        elif tag == "li":
            self._item = self._next_mark(element)
        elif tag == "tr" and not is_layout(element):
            self._rows.append([])
            self._cells.append([])
        elif tag == "table":
            self._tables.append(Table())
        elif tag in ("td", "th"):
            self._end_block()
        elif tag.startswith("m"):
            self._inline.append(sign_math(element))

    def _close(self, element: Any) -> None:
        tag = element.tag
        if tag in ("td", "th") and self._rows:
            self._end_cell(element)
        elif tag in BLOCKS or tag in ("td", "th"):
            heading = self._end_block()
            if tag in HEADINGS and not self._rows:
                self._heading, self._level = heading, int(tag[1])
        if tag == "pre":
            self._pre -= 1
        elif tag in ("ul", "ol") and self._lists:
            self._lists.pop()
        elif tag == "li":
            self._item = ""
        elif tag == "tr" and self._rows and not is_layout(element):
            self._end_row()
        elif tag == "table":
            self._tables.pop()
        elif tag == "label":
            self._inline.append(" ")

    def _next_mark(self, item: Any) -> str:
        depth = max(0, len(self._lists) - 1)
        number = self._lists[-1] if self._lists else None
        if number is None:
            return "  " * depth + "- "
        number = read_number(item, "value", number)
        self._lists[-1] = number + 1
        first = item.getparent().get("type", "1")  # a letter or a number
        is_letter = first in ("a", "A") and 0 < number <= 26
        return "  " * depth + f"{chr(ord(first) + number - 1) if is_letter else number}. "

    def _add(self, text: str | None) -> None:
        if text:
            self._inline.append(text if self._pre else SPACES.sub(" ", text))

    def _take_inline(self) -> str:
        text = "".join(self._inline)
        self._inline = []
        if self._pre:
            return text.strip("\n").rstrip().replace("\xa0", " ")
        lines = (SPACES.sub(" ", line).strip() for line in text.split("\n"))
        return "\n".join(line for line in lines if line)

    def _end_block(self) -> str | None:
        text = self._take_inline()
        if not text:
            return None
        if self._rows:
            self._rows[-1].append((LIST_PART if self._item else "") + " ".join(text.split()))
            self._item = ""
            return text
        # No empty line stands between the items of a list.
        mark, self._item = self._item, ""
        self._add_line(mark + text, "list" if mark else "")
        return mark + text

    def _add_line(self, text: str, kind: str) -> None:
        if kind and self._blocks and self._blocks[-1][0] == kind:
            self._blocks[-1][1].append(text)
        else:
            self._blocks.append((kind, [text]))

    def _end_cell(self, element: Any) -> None:
        text = self._take_inline()
        if text:
            self._rows[-1].append(" ".join(text.split()))
        # The blocks of a cell are separate texts: this mark ends the cell.
        self._rows[-1].append(END_CELL)
        is_first = not self._tables or self._tables[-1].n_rows == 0
        n_columns = max(1, read_number(element, "colspan", 1))
        n_rows = max(1, read_number(element, "rowspan", 1))
        self._cells[-1].append(Cell("", is_head(element, is_first), n_columns, n_rows))

    def _end_row(self) -> None:
        self._end_block()
        joined = NEXT_PART.join(self._rows.pop()).replace(NEXT_PART + LIST_PART, ", ")
        parts = joined.replace(LIST_PART, " ").replace(NEXT_PART, " ").split(END_CELL)
        texts = [" ".join(part.split()).removeprefix(", ") for part in parts]
        cells = [*self._cells.pop(), Cell("")]  # behind the last cell, text of the row itself
        filled = [cell._replace(text=text) for cell, text in zip(cells, texts, strict=True)]
        row = (self._tables[-1] if self._tables else Table()).write(filled)
        if not row:
            return
        if self._rows:  # a table in a cell
            self._rows[-1].append(row)
        else:
            self._add_line(row, "table")

    def _end_section(self) -> None:
        text = "\n\n".join("\n".join(lines) for _, lines in self._blocks)
        if text.strip():
            title = self._heading
            headings = () if title is None else (Heading(0, self._level, title),)
            self._sections.append(Section(text, heading=title, headings=headings))
        self._blocks, self._heading = [], None


def is_power(before: str, raised: Any) -> bool:
    """True if a raised number follows a letter, a digit or a bracket."""
    follows = before[-1:].isalnum() or before[-1:] == ")"
    return follows and RAISED_NUMBER.match(raised.text_content()) is not None


def is_layout(row: Any) -> bool:
    """True if a table row is for layout: it contains tables or headings, or code alone."""
    if any(row.find(f".//{tag}") is not None for tag in ("table", "h1", "h2", "h3")):
        return True
    cells = [cell for cell in row.iterchildren("td", "th") if cell.text_content().strip()]
    return len(cells) == 1 and cells[0].find(".//pre") is not None


def is_head(cell: Any, is_first: bool) -> bool:
    """True if a cell names its column: by its element, or in bold type in the first row."""
    if cell.tag == "th" or next(cell.iterancestors("thead", "table"), cell).tag == "thead":
        return True
    if not is_first:
        return False
    bold = sum(len(part.text_content()) for part in cell.iter("b", "strong"))
    return 0 < len(cell.text_content().strip()) <= bold


def read_number(element: Any, name: str, default: int) -> int:
    """Read an attribute that is a number."""
    number = element.get(name, "")
    is_number = number.isascii() and number.isdecimal() and len(number) <= MAX_NUMBER_DIGITS
    return int(number) if is_number else default


def sign_math(element: Any) -> str:
    """Find the sign that a formula draws before an element."""
    before, around = element.getprevious(), element.getparent()
    if before is None or around is None:
        return MATH_BEFORE.get(element.tag, "")
    between = " " if before.tag == "mtext" else MATH_BEFORE.get(element.tag, "")
    return MATH_BETWEEN.get(around.tag, "") + between
