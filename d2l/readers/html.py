"""HTML: a page's text without its furniture.

Takes markup, gives sections by heading; scripts, navigation and edit links are left out, tables
come row by row. The walk over the tree serves EPUB chapters as well.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import lxml.etree
import lxml.html

from d2l.readers.findings import Finding, gather
from d2l.readers.html_furniture import (
    HEADINGS,
    count_seen,
    find_drawn,
    find_furniture,
    find_unseen,
    take_out,
)
from d2l.readers.html_hidden import find_hidden
from d2l.readers.parsing import (
    CELL,
    Heading,
    Parsed,
    ParseRequest,
    Section,
    bound_text,
    damaged,
    joins_number,
)
from d2l.readers.sniff import decode_html
from d2l.readers.styles import SHADOW, Sheet
from d2l.readers.text import encoding_notes

#: Elements of a page's head; the parser leaves others there that it does not know.
HEAD_TAGS = frozenset(("title", "meta", "link", "base", "script", "style", "noscript", "template"))
BLOCKS = HEADINGS | frozenset((
    "p", "div", "section", "article", "main", "body", "html", "header", "footer", "aside",
    "ul", "ol", "li", "dl", "dt", "dd", "blockquote", "pre", "figure", "figcaption", "table",
    "caption", "thead", "tbody", "tfoot", "tr", "form", "fieldset", "legend", "address",
    "hr", "details", "summary", "center", "dialog", "dir", "hgroup", "listing", "menu", "nav",
    "optgroup", "option", "search", "xmp",
))  # fmt: skip
SPACES = re.compile(r"[ \t\n\r\f\xa0\u200b\ufeff]+")
TOO_LARGE = "one of its attributes, comments or stretches of text is larger than 10 MB"
JUNK = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f\ud800-\udfff]")
#: Browsers read on behind the end of a page, break a line at what ends none, and end a paragraph
#: that is not open.
END_TAG = re.compile(r"</(html|br|p)\b[^<>]{0,99}>", re.IGNORECASE)
END_TAGS = {"html": "</d2l>", "br": "<br>", "p": "</p> "}
# Marks inside the walk only, for JUNK is taken out of every page.
END_CELL, NEXT_PART, LIST_PART = "\x01", "\x02", "\x04"  # between the texts of a row
#: What is drawn in a formula and not written: before elements, and between those in another.
MATH_BEFORE = {"msqrt": "√", "mroot": "√", "mtext": " ", "mtd": " ", "mspace": " "}
MATH_BETWEEN = {"mfrac": "/", "msup": "^"}
MAX_NUMBER_DIGITS = 9  # of the first number of a list; with more it begins at 1
MIN_MAIN_CHARS = 200  # a shorter main element is not the page's text


def parse_html(request: ParseRequest) -> Parsed:
    """Read a page; one section per heading."""
    decoded = decode_html(request.data, request.name, request.encoding)
    page = split_page(parse_tree(decoded.text, request), include_hidden=request.include_hidden)
    sections = tuple(bound_text(page.sections, request))
    notes = (*encoding_notes(decoded), *page.notes)
    return Parsed(sections, notes, page.findings, count_left_out([page]))


class Page(NamedTuple):
    """Text of a page, and what to tell of it; `n_furniture`, `n_drawn`: characters left out."""

    sections: list[Section]
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    n_furniture: int
    n_drawn: int


def count_left_out(pages: Sequence[Page]) -> tuple[str, ...]:
    """A remark on the characters of all pages that a reader sees and that are no text of them."""
    counts = (
        (sum(page.n_furniture for page in pages), "menus and page furniture"),
        (sum(page.n_drawn for page in pages), "drawings and buttons"),
    )
    told = [(n, what) for n, what in counts if n]
    if not told:
        return ()
    (n, what), *more = told
    rest = "".join(f", {n:,} of {what}" for n, what in more)
    return (f"{n:,} character{'' if n == 1 else 's'} of {what} left out{rest}",)


def parse_tree(markup: str, request: ParseRequest) -> Any:
    """Parse leniently, as browsers do, but fetch nothing and expand nothing."""
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
    limits = [e.message for e in parser.error_log if e.type_name == "ERR_RESOURCE_LIMIT"]
    if limits:
        nested = any("depth" in message.lower() for message in limits)
        why = "its elements are nested too deeply" if nested else TOO_LARGE
        raise damaged(request, "HTML page", why)
    empty_head(root)
    for shadow in root.iter("template"):
        if shadow.get("shadowrootmode") is not None:  # it is shown, and its sheets are its own
            shadow.tag = SHADOW
    return root


def empty_head(root: Any) -> None:
    """Move what is no part of a head, such as `main`, to the start of the body."""
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
    """Give the sections of a parsed page, the text before the first heading among them, and what
    of that part is hidden. `sheets`: those that the page links to; None: they are not at hand."""
    hidden, notes = find_hidden(root, sheets)
    unseen = find_unseen(root, hidden)
    n_furniture = take_out(find_furniture(root), unseen)
    main = find_main(root)
    if main is not root:
        n_furniture += count_seen(root, unseen) - count_seen(main, unseen)
    n_drawn = take_out(find_drawn(main), unseen)
    inside = set(main.iter())
    hidden = [text for text in hidden if text.element in inside]
    # Furniture in it is gone by now.
    counts = ((text.reason, text.n_chars) for text in hidden)
    findings = gather(Finding("hidden", reason, n_chars) for reason, n_chars in counts if n_chars)
    if not include_hidden:
        for text in hidden:
            text.take_out()
    return Page(_Flow().run(main), findings, notes, n_furniture, n_drawn)


def find_main(root: Any) -> Any:
    """Give the element that the page marks as its main content, if it is one and not empty."""
    found = root.xpath("//main | //*[@role='main']")
    if len(found) == 1 and len(found[0].text_content().strip()) >= MIN_MAIN_CHARS:
        return found[0]
    return root


class _Flow:
    """Walk a tree in document order and cut its text into blocks and sections."""

    def __init__(self) -> None:
        self._blocks: list[tuple[str, list[str]]] = []  # a list, a table or neither; its lines
        self._inline: list[str] = []  # pieces of the block being read
        self._heading: str | None = None
        self._level = 0  # of the heading
        self._sections: list[Section] = []
        self._lists: list[int | None] = []  # the next number of each open list; None: bullets
        self._item = ""  # the mark of a list item, until its first text
        self._rows: list[list[str]] = []  # cells of each open table row
        self._pre = 0

    def run(self, root: Any) -> list[Section]:
        """Give the sections below an element."""
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
        elif tag == "br":
            self._inline.append("\n")
        elif tag == "sup" and joins_number("".join(self._inline[-1:]), element.text_content()):
            self._inline.append("^")
        elif tag == "pre":
            self._pre += 1
        elif tag in ("ul", "ol"):
            start = element.get("start", "1")
            number = int(start) if start.isdecimal() and len(start) <= MAX_NUMBER_DIGITS else 1
            self._lists.append(number if tag == "ol" else None)
        elif tag == "li":
            self._item = self._next_mark()
        elif tag == "tr" and not is_layout(element):
            self._rows.append([])
        elif tag in ("td", "th"):
            self._end_block()
        elif tag.startswith("m"):
            self._inline.append(sign_math(element))

    def _close(self, element: Any) -> None:
        tag = element.tag
        if tag in ("td", "th") and self._rows:
            self._end_cell()
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

    def _next_mark(self) -> str:
        depth = max(0, len(self._lists) - 1)
        number = self._lists[-1] if self._lists else None
        if number is None:
            return "  " * depth + "- "
        self._lists[-1] = number + 1
        return "  " * depth + f"{number}. "

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
        # Items of a list stand close together; other blocks stand apart.
        mark, self._item = self._item, ""
        self._add_line(mark + text, "list" if mark else "")
        return mark + text

    def _add_line(self, text: str, kind: str) -> None:
        if kind and self._blocks and self._blocks[-1][0] == kind:
            self._blocks[-1][1].append(text)
        else:
            self._blocks.append((kind, [text]))

    def _end_cell(self) -> None:
        text = self._take_inline()
        if text:
            self._rows[-1].append(" ".join(text.split()))
        # Blocks inside one cell were collected one by one: the mark keeps cells apart.
        self._rows[-1].append(END_CELL)

    def _end_row(self) -> None:
        self._end_block()
        joined = NEXT_PART.join(self._rows.pop()).replace(NEXT_PART + LIST_PART, ", ")
        parts = joined.replace(LIST_PART, " ").replace(NEXT_PART, " ").split(END_CELL)
        cells = [" ".join(part.split()).removeprefix(", ") for part in parts]
        row = CELL.join(cell for cell in cells if cell)
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


def is_layout(row: Any) -> bool:
    """Whether a table row lays out a page instead of holding data: it nests tables or headings."""
    return any(row.find(f".//{tag}") is not None for tag in ("table", "h1", "h2", "h3"))


def sign_math(element: Any) -> str:
    """What is drawn in a formula before an element."""
    before, around = element.getprevious(), element.getparent()
    if before is None or around is None:
        return MATH_BEFORE.get(element.tag, "")
    between = " " if before.tag == "mtext" else MATH_BEFORE.get(element.tag, "")
    return MATH_BETWEEN.get(around.tag, "") + between
