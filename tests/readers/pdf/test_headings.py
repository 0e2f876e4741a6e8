"""The headings of a PDF are its bookmarks, or without any what is set like a heading."""

from collections.abc import Sequence
from io import BytesIO

from pypdf import PdfReader, PdfWriter
from pypdf.generic import IndirectObject

from d2l.documents.document import Document
from d2l.readers.parsing import MAX_LEVEL, MAX_TITLE_CHARS, Heading
from tests.documents.samples import make_pdf, pdf_line, pdf_page, read_bytes

BOLD = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica-Bold /Encoding /WinAnsiEncoding >>"
PROSE = "The pump moves water from the tank to the roof in about two hours."


def add_bookmarks(data: bytes, bookmarks: Sequence[tuple[int, int, str]]) -> bytes:
    """Add (page, level, title) in order."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(data)))
    above: list[IndirectObject] = []
    for page, level, title in bookmarks:
        parent = above[level - 2] if level > 1 else None
        item = writer.add_outline_item(title=title, page_number=page - 1, parent=parent)
        above[level - 1 :] = [item]
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def set_page(*lines: tuple[str, float, str]) -> str:
    """A page of (text, size, font) lines with an empty line between each two."""
    return "\n".join(
        pdf_line(text, 72, 700 - 30 * n, size, font) for n, (text, size, font) in enumerate(lines)
    )


def paths(document: Document) -> list[tuple[str, ...]]:
    return [document.heading_path(start) for start in document.heading_starts]


def test_nested_bookmarks_stand_at_their_titles() -> None:
    first = pdf_page(
        [PROSE, "", "Pumps", "", "See Filter  Care below.", "", "1.1 FILTER CARE", "x"]
    )
    data = make_pdf([first, pdf_page([PROSE])])
    bookmarks = [(1, 1, "Pumps"), (1, 2, "Filter  Care"), (1, 3, "Not there"), (2, 2, "Motor")]
    document = read_bytes(add_bookmarks(data, bookmarks), "a.pdf")
    text = document.sections[0].text
    start = text.index("1.1 FILTER")
    assert document.sections[0].headings == (
        Heading(text.index("Pumps"), 1, "Pumps"),
        Heading(start, 2, "Filter Care"),
        Heading(start, 3, "Not there"),
    )
    assert document.sections[1].headings == (Heading(0, 2, "Motor"),)
    assert document.heading_path(0) == ()
    assert document.heading_path(len(document.text) - 1) == ("Pumps", "Motor")


def test_bookmarks_of_a_page_without_text_stand_on_the_next() -> None:
    data = make_pdf(["", pdf_page(["Pumps", "", PROSE])])
    document = read_bytes(add_bookmarks(data, [(1, 1, "Part"), (2, 2, "Pumps")]), "a.pdf")
    assert document.heading_path(0) == ("Part", "Pumps")


def test_titles_depth_and_number_of_bookmarks_are_bounded() -> None:
    deep = [(1, level, "x" * 1000) for level in range(1, 21)]
    many = [(1, 1, "y")] * 100
    data = make_pdf([pdf_page(["a"] * 30)])
    (section,) = read_bytes(add_bookmarks(data, deep + many), "a.pdf").sections
    assert len(section.headings) <= section.text.count("\n") + 1
    assert {len(heading.title) for heading in section.headings[:20]} == {MAX_TITLE_CHARS}
    assert max(heading.level for heading in section.headings) == MAX_LEVEL


def test_without_bookmarks_headings_are_what_is_bold_or_large() -> None:
    contents = set_page(
        ("Contents", 14, "F1"), ("1 Pumps ... 2", 10, "F1"), ("2 Motor 3", 10, "F1")
    )
    body = set_page(
        ("1 Pumps", 10, "F1"),
        (PROSE, 10, "F2"),
        ("1.1 Filter care", 10, "F1"),
        ("Do not open it.", 10, "F1"),
        (PROSE, 10, "F2"),
        ("Table 1 of filters", 10, "F1"),
        ("1.2 is plain", 10, "F1"),
        ("A.1 Spare parts", 10, "F1"),
        (PROSE, 10, "F2"),
        ("Chapter 2: Motor", 14, "F2"),
        ("2.1 Plain text", 10, "F2"),
        (PROSE, 10, "F2"),
    )
    assert paths(read_bytes(make_pdf([contents, body], font=BOLD), "a.pdf")) == [
        ("Contents",),
        ("1 Pumps",),
        ("1 Pumps", "1.1 Filter care"),
        ("1 Pumps", "A.1 Spare parts"),
        ("Chapter 2: Motor",),
    ]


def test_headings_without_numbers_are_ranked_by_size() -> None:
    page = set_page(
        ("Handbook", 20, "F2"),
        ("Pumps", 14, "F2"),
        (PROSE, 10, "F2"),
        ("Filter care", 10, "F1"),
        (PROSE, 10, "F2"),
        ("Motor", 14, "F2"),
        (PROSE, 10, "F2"),
    )
    assert paths(read_bytes(make_pdf([page], font=BOLD), "a.pdf")) == [
        ("Handbook",),
        ("Handbook", "Pumps"),
        ("Handbook", "Pumps", "Filter care"),
        ("Handbook", "Motor"),
    ]
