from collections.abc import Iterable
from typing import Any

import pytest

from d2l.errors import DocumentError
from d2l.readers.html import Page, split_page
from d2l.readers.parsing import Heading, Section
from tests.documents import samples
from tests.documents.samples import make_docx, make_epub, parse_here, read_bytes

ENCRYPTION = """<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"
 xmlns:enc="http://www.w3.org/2001/04/xmlenc#"><enc:EncryptedData><enc:CipherData>
 <enc:CipherReference URI="{uri}"/></enc:CipherData></enc:EncryptedData></encryption>"""


def refusal(data: bytes) -> str:
    with pytest.raises(DocumentError) as caught:
        read_bytes(data, "a.epub")
    return caught.value.message


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (make_epub()[:800], "its ZIP directory cannot be read"),
        (make_epub(left_out="OEBPS/book.opf"), "it has no OEBPS/book.opf"),
        (make_epub(left_out="OEBPS/a.xhtml"), "it has no OEBPS/a.xhtml"),
        (make_epub({"OEBPS/book.opf": "<package"}), "XMLSyntaxError"),
        (make_epub({"META-INF/container.xml": "<container/>"}), "it names no package"),
    ],
)
def test_damaged_book_is_refused(data: bytes, why: str) -> None:
    assert refusal(data) == f"a.epub: damaged or not a valid EPUB book ({why})"


def test_encrypted_chapters_are_refused_and_encrypted_fonts_are_not() -> None:
    locked = make_epub({"META-INF/encryption.xml": ENCRYPTION.format(uri="OEBPS/b%20two.xhtml")})
    assert refusal(locked) == "a.epub: protected by DRM; its chapters are encrypted"
    font = make_epub({"META-INF/encryption.xml": ENCRYPTION.format(uri="OEBPS/font.otf")})
    assert read_bytes(font, "a.epub").format == "epub"


def test_chapters_come_in_spine_order_without_the_contents() -> None:
    assert read_bytes(make_epub(), "a.epub").sections == (
        Section("First\n\nIt begins — here.", None, "First", (Heading(0, 1, "First"),)),
        Section("Second\n\nIt ends.", None, "Second", (Heading(0, 1, "Second"),)),
    )


def test_notes_and_boxes_of_a_chapter_stay() -> None:
    body = (
        "<p>It weighs 14<a epub:type='noteref' href='#n1'>1</a> kg.</p>"
        "<aside epub:type='footnote' id='n1'><p>Dry.</p></aside>"
        "<section><footer>Section foot.</footer></section><aside epub:type='sidebar'>Box.</aside>"
    )
    chapter = f"<html xmlns:epub='http://www.idpf.org/2007/ops'><body>{body}</body></html>"
    document = parse_here(make_epub({"OEBPS/a.xhtml": chapter}), "a.epub")
    text = "It weighs 14 [1] kg.\n\nDry.\n\nSection foot.\n\nBox."
    assert text in document.text
    assert document.remarks == ()


def test_a_chapter_without_a_heading_goes_on_under_the_last_one() -> None:
    book = make_epub({"OEBPS/a.xhtml": "<html><body><p>More.</p></body></html>"})
    document = read_bytes(book, "a.epub")
    assert document.sections[1] == Section("More.", heading="First")
    assert document.heading_path(len(document.text) - 1) == ("First",)


@pytest.mark.parametrize("nothing", ["<!-- a comment alone -->", "<?xml version='1.0'?>"])
def test_a_chapter_without_any_element_is_empty(nothing: str) -> None:
    assert parse_here(make_epub({"OEBPS/a.xhtml": nothing}), "a.epub").text.startswith("First")


def test_a_sheet_is_read_once_a_chapter_and_the_last_link_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []

    def split(root: Any, *, sheets: Iterable[tuple[str, bool]], **options: Any) -> Page:
        read.extend(text for text, _ in sheets)
        return split_page(root, sheets=sheets, **options)

    monkeypatch.setattr("d2l.readers.epub.split_page", split)
    links = "".join(f'<link rel="stylesheet" href="{name}.css"/>' for name in "abab" * 99)
    chapter = f"<html><head>{links}</head><body><p>More.</p></body></html>"
    sheets = {f"OEBPS/{name}.css": f"p {{ color: {name} }}" for name in "ab"}
    assert "More." in parse_here(make_epub({"OEBPS/a.xhtml": chapter, **sheets}), "a.epub").text
    assert read == ["p { color: a }", "p { color: b }"]


def test_chapters_of_the_type_that_old_books_have_are_read() -> None:
    package = samples.PACKAGE.replace("application/xhtml+xml", "text/x-oeb1-document")
    assert read_bytes(make_epub({"OEBPS/book.opf": package}), "a.epub").text.startswith("First")


def test_member_that_the_spine_lists_by_its_parts_is_read_once() -> None:
    parts = "".join(
        f'<item id="{part}" href="a.xhtml#{part}" media-type="application/xhtml+xml"/>'
        for part in ("p1", "p2")
    )
    package = f"""<package xmlns="http://www.idpf.org/2007/opf" version="2.0"><manifest>
      <item id="b" href="b%20two.xhtml" media-type="application/xhtml+xml"/>{parts}</manifest>
      <spine><itemref idref="b"/><itemref idref="p1"/><itemref idref="p2"/></spine></package>"""
    book = make_epub({"OEBPS/book.opf": package})
    assert [section.heading for section in read_bytes(book, "a.epub").sections] == [
        "First",
        "Second",
    ]


def test_manual_keeps_the_words_of_its_links() -> None:
    document = samples.read_shared("developers-reference.epub")
    assert "how to become a member (Applying to Become a Member)" in document.text
    assert "dists/stable/main/binary-amd64/\ndists/stable/main/binary-armel/\n" in document.text
    assert document.sections[0].heading == "1. Scope of This Document"


@pytest.mark.parametrize(("name", "data"), [("a.epub", make_epub()), ("a.docx", make_docx())])
def test_an_archive_whose_directory_says_another_place_is_refused_in_one_line(
    name: str, data: bytes
) -> None:
    at = data.rindex(b"PK\x05\x06") + 16  # of the directory, by which members are found
    later = (int.from_bytes(data[at : at + 4], "little") + 90).to_bytes(4, "little")
    with pytest.raises(DocumentError, match=r"^a\.\w+: damaged or not a valid [^\n]*$"):
        parse_here(data[:at] + later + data[at + 4 :], name)
