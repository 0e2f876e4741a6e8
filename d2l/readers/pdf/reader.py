"""PDF: each page to a section, with pypdf.

`layout` and `margins` have the rules of layout. Runs in a child process: a hostile file can make
pypdf slow, or fill the memory.
"""

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import Any

from pypdf import PageObject, PasswordType, PdfReader
from pypdf.errors import PyPdfError
from pypdf.generic import Destination

from d2l.errors import DocumentError
from d2l.readers.findings import Finding, gather
from d2l.readers.parsing import (
    Parsed,
    ParseRequest,
    Section,
    all_hidden,
    bound_text,
    damaged,
    name_left_out,
)
from d2l.readers.pdf.fonts import (
    MAX_NESTED_FORMS,
    PARSE_ERRORS,
    list_resources,
    mend_fonts,
)
from d2l.readers.pdf.headings import Bookmark, place_bookmarks, recognize_headings
from d2l.readers.pdf.layout import Line, clean_line, flow_page, gather_words, is_monospaced
from d2l.readers.pdf.lines import read_lines
from d2l.readers.pdf.margins import Bounds, drop_running_lines, measure_page
from d2l.readers.pdf.runs import Runs
from d2l.readers.pdf.strings import Path, parse_content, spell_out_strings
from d2l.readers.pdf.tables import name_columns
from d2l.readers.pdf.viewer import Viewer, ViewError
from d2l.readers.pdf.visible import find_hidden
from d2l.readers.pdf.widths import Measure, find_measures

SCANNED = "no text, only images; run OCR to read them"
FAILED = "damaged content and could not be read"
GARBLED = "fonts that do not tell their characters; run OCR if the text is garbled"
UNSEEN = "content that pdfium cannot draw; hidden text there is not left out"
PARTIAL = "damaged content that could not be read"
UNFILLED = "annotations or form fields that could not be read"
WORDLESS = ("/Link", "/Popup", "/Highlight", "/Text")  # annotations whose text is not on the page
N_RUNNING_SHOWN = 3  # in a remark
TAIL_BYTES = 1 << 16  # they contain the end-of-file mark of an intact file


class _Repairs(logging.Handler):
    """Counts pypdf's warnings about repairs of a file's structure, and about forms that it left
    out."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.n_repairs = self.n_lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.n_repairs += record.name == "pypdf._reader"
        self.n_lost += record.name == "pypdf._page"


def parse_pdf(request: ParseRequest) -> Parsed:
    """Read every page; refuse files that are locked, cut short, or without text."""
    repairs = _Repairs()
    logger = logging.getLogger("pypdf")
    logger.addHandler(repairs)
    propagate, logger.propagate = logger.propagate, False
    try:
        reader = open_pdf(request, repairs)
        has_fields = "/AcroForm" in reader.root_object
        reader, request, unfilled = flatten(reader, request)
        read = read_pages(reader, request, repairs, has_fields=has_fields)
        read.unfilled = unfilled
        bodies, running = drop_running_lines(read.pages, read.bounds)
        sections = tuple(bound_text(make_sections(reader, bodies), request))
        notes = describe_pages(reader, read, request, repairs.n_repairs > 0)
    finally:
        logger.propagate = propagate
        logger.removeHandler(repairs)
    if repairs.n_repairs:
        notes = ("the file is damaged; it was repaired, check that no text is missing", *notes)
    return Parsed(sections, notes, gather([*read.findings, *running]), name_running(running))


def name_running(running: Sequence[Finding]) -> tuple[str, ...]:
    """Write a remark on running lines, with the first of them."""
    count = name_left_out(sum(finding.count for finding in running), "running headers and footers")
    first = ", ".join(f'"{finding.what}"' for finding in running[:N_RUNNING_SHOWN])
    more = ", …" if len(running) > N_RUNNING_SHOWN else ""
    return tuple(f"{remark}: {first}{more}" for remark in count)


def open_pdf(request: ParseRequest, repairs: _Repairs) -> PdfReader:
    """Open and unlock a file; refuse a file whose page tree cannot be read."""
    try:
        reader = PdfReader(BytesIO(request.data), strict=False)
        if reader.is_encrypted:
            unlock(reader, request)
        n_pages = len(reader.pages)
    except PARSE_ERRORS as error:
        raise damaged(request, "PDF", name_error(error)) from None
    if repairs.n_repairs and b"%%EOF" not in request.data[-TAIL_BYTES:]:
        raise damaged(request, "PDF", "its end is missing")
    if n_pages == 0:
        raise damaged(request, "PDF", "it has no pages")
    return reader


def flatten(reader: PdfReader, request: ParseRequest) -> tuple[PdfReader, ParseRequest, list[int]]:
    """Move annotations and form fields with text into the content of their pages; if that fails,
    return the numbers of these pages, too."""
    numbers = [n for n, page in enumerate(reader.pages, start=1) if has_annotations(page)]
    if not numbers:
        return reader, request, []
    try:
        viewer = Viewer(request.data, request.password, len(reader.pages))
        flat = replace(request, data=viewer.flatten(numbers), password=None)
        return open_pdf(flat, _Repairs()), flat, []
    except (ViewError, DocumentError):
        return reader, request, numbers


def has_annotations(page: PageObject) -> bool:
    """True if a page has annotations or form fields that may show text."""
    with suppress(*PARSE_ERRORS):
        return any(
            note.get_object().get("/Subtype") not in WORDLESS for note in page.annotations or ()
        )
    return False


def name_error(error: BaseException) -> str:
    """Name an exception in one line, in its own words if it has any."""
    words = " ".join(str(error).split())
    words = re.split(r" starting with| @|: ?b'", words)[0][:100]  # no bytes of the file
    return words if isinstance(error, PyPdfError) and words else type(error).__name__


def unlock(reader: PdfReader, request: ParseRequest) -> None:
    """Unlock with an empty user password, like viewers, or with the password given."""
    opened = reader.decrypt("")
    if opened == PasswordType.USER_PASSWORD:
        return
    # pypdf takes an empty owner password, which was never set; viewers then want the user's.
    is_owner = opened == PasswordType.OWNER_PASSWORD
    if is_owner and Viewer(request.data, None, len(reader.pages)).is_open:
        return
    if request.password is None:
        raise DocumentError(
            f"{request.name}: encrypted; it needs a password",
            hint="give the password with --password",
        )
    if reader.decrypt(request.password) == PasswordType.NOT_DECRYPTED:
        raise DocumentError(
            f"{request.name}: wrong password",
            hint="give the password that opens this file with --password",
        )


@dataclass
class PagesRead:
    """Lines of each page, numbers of pages with faults, and findings of hidden text."""

    pages: list[list[Line]] = field(default_factory=list)
    bounds: list[Bounds] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)  # not read
    partial: list[int] = field(default_factory=list)  # read without some forms
    unfilled: list[int] = field(default_factory=list)  # read without their annotations
    garbled: list[int] = field(default_factory=list)  # their letters are guesses
    unseen: list[int] = field(default_factory=list)  # pdfium cannot draw them
    findings: list[Finding] = field(default_factory=list)


def read_pages(
    reader: PdfReader, request: ParseRequest, repairs: _Repairs, *, has_fields: bool
) -> PagesRead:
    """Read page by page, until there is more text than allowed."""
    read = PagesRead()
    n_chars = 0
    known: dict[int, Measure] = {}
    mended: set[int] = set()
    n_pages = len(reader.pages)
    viewer = Viewer(request.data, request.password, n_pages)
    for number in range(1, n_pages + 1):
        lines: list[Line] = []
        bounds = (0.0, 0.0)
        n_lost = repairs.n_lost
        try:
            page = reader.pages[number - 1]
            bounds = measure_page(page)
            measures = find_measures(page.get("/Resources"), known)  # first: mending changes widths
            mend_fonts(page.get("/Resources"), mended)
            stream = parse_content(page)
            hidden = judge_page(number, Runs(page, stream, known), viewer, read)
            read.findings += [finding for finding in hidden.values() if finding.count]
            left_out = frozenset(path for path in hidden if hidden[path].kind == "hidden")
            omitted = frozenset() if request.include_hidden else left_out
            copy = spell_out_strings(page, stream, measures, omitted)
            lines, is_guess = read_lines(copy, has_fields=has_fields)
            if is_guess:
                read.garbled.append(number)
            if repairs.n_lost > n_lost:
                read.partial.append(number)
        except PARSE_ERRORS as error:
            if n_pages == 1:
                raise damaged(request, "PDF", name_error(error)) from None
            read.failed.append(number)
        read.pages.append(lines)
        read.bounds.append(bounds)
        n_chars += sum(len(line.text) for line in lines)
        if n_chars > 2 * request.max_chars:  # lines shrink later; bound_text counts exactly
            break
        request.on_progress(number, n_pages)
    return read


def judge_page(number: int, shown: Runs, viewer: Viewer, read: PagesRead) -> dict[Path, Finding]:
    """Find hidden text on a page; note the page if it cannot be drawn."""
    if shown.runs:
        try:
            return find_hidden(shown, viewer.open_page(number - 1, shown), number)
        except ViewError:
            read.unseen.append(number)
    return find_hidden(shown, None, number)


def make_sections(reader: PdfReader, bodies: Sequence[Sequence[Line]]) -> Iterator[Section]:
    """Yield the text of each page that has any."""
    bookmarks = read_bookmarks(reader)
    words = gather_words(bodies)
    mono = is_monospaced(bodies)
    pages = (list(flow_page(lines, words, monospaced=mono)) for lines in bodies)
    flowed = list(name_columns(pages))
    recognized = {} if bookmarks else recognize_headings(flowed)
    above = None
    waiting: list[Bookmark] = []  # bookmarks of pages without text move to the next page
    for number, paragraphs in enumerate(flowed, start=1):
        own = bookmarks.get(number, [])
        text = "".join(paragraph.gap + paragraph.text for paragraph in paragraphs)
        waiting += own
        if text:
            headings = (*recognized.get(number, ()), *place_bookmarks(waiting, text))
            yield Section(text, number, own[0].title if own else above, headings)
            waiting = []
        above = own[-1].title if own else above


def describe_pages(
    reader: PdfReader, read: PagesRead, request: ParseRequest, was_repaired: bool
) -> tuple[str, ...]:
    """Describe pages with faults; raises DocumentError if there is no text at all."""
    pages, failed = read.pages, read.failed
    n_pages = len(pages)
    silent = [number for number, lines in enumerate(pages, start=1) if not lines]
    scanned = [n for n in silent if n not in failed and has_images(reader.pages[n - 1])]
    if len(silent) == n_pages:
        if failed:
            raise damaged(request, "PDF", f"none of its {n_pages} pages can be read")
        if any(f.kind == "hidden" for f in read.findings) and not request.include_hidden:
            raise all_hidden(request, read.findings)
        if was_repaired and not scanned:
            raise damaged(request, "PDF", "no text is left in it")
        count = "its only page has" if n_pages == 1 else f"all {n_pages} pages have"
        why = "scanned images and no text" if scanned else "no text"
        raise DocumentError(
            f"{request.name}: {count} {why}",
            hint="make the text readable first, for example with ocrmypdf, and give the result",
        )
    faults = (
        (scanned, SCANNED),
        (failed, FAILED),
        (read.partial, PARTIAL),
        (read.unfilled, UNFILLED),
        (read.garbled, GARBLED),
        (read.unseen, UNSEEN),
    )
    return tuple(f"{name_pages(numbers, n_pages)} {fault}" for numbers, fault in faults if numbers)


def name_pages(numbers: Sequence[int], n_pages: int) -> str:
    """Count pages, and name the first few by number."""
    some = ", ".join(str(number) for number in numbers[:5])
    more = ", …" if len(numbers) > 5 else ""
    return f"{len(numbers)} of {n_pages} pages (p. {some}{more}) have"


def has_images(page: PageObject) -> bool:
    """True if a page has images, which may contain its text."""
    try:
        forms = [page.get("/Resources")]
        for _ in range(MAX_NESTED_FORMS):
            inner = [child for form in forms for child in list_resources(form, "/XObject").values()]
            if any(child.get("/Subtype") == "/Image" for child in inner):
                return True
            forms = [child.get("/Resources") for child in inner]
        contents = page.get_contents()
        return (
            contents is not None and re.search(rb"\bBI\b.*\bID\b", contents.get_data()) is not None
        )
    except PARSE_ERRORS:
        return False


def read_bookmarks(reader: PdfReader) -> dict[int, list[Bookmark]]:
    """Map page numbers to their bookmarks; broken outlines give none."""
    bookmarks: dict[int, list[Bookmark]] = {}
    with suppress(*PARSE_ERRORS):
        for level, entry in flatten_outline(reader.outline):
            page = reader.get_destination_page_number(entry)
            title = clean_line(str(entry.title or ""))
            if page is not None and page >= 0 and title:
                bookmarks.setdefault(page + 1, []).append(Bookmark(level, title))
    return bookmarks


def flatten_outline(outline: Any) -> Iterator[tuple[int, Destination]]:
    """Yield (level, bookmark) of a nested outline in order; level 1 is the topmost."""
    stack = [iter(outline)]
    while stack:
        entry = next(stack[-1], None)
        if entry is None:
            stack.pop()
        elif isinstance(entry, list):
            stack.append(iter(entry))
        else:
            yield len(stack), entry
