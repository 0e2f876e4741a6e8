from pathlib import Path

import pytest

from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.documents.sandbox import ReadLimits
from d2l.errors import DocumentError
from d2l.readers.formats import FORMATS
from d2l.readers.parsing import Heading, Section
from tests.documents import samples
from tests.documents.samples import make_docx, make_epub, make_pdf, make_zip, pdf_page, read_bytes

PDF = make_pdf([pdf_page(["Hello from page one."])])
HTML = b"<!doctype html><html><body><h1>Hi</h1><p>There</p></body></html>"


def refusal(data: bytes, name: str, **options: object) -> tuple[str, str | None]:
    with pytest.raises(DocumentError) as caught:
        read_bytes(data, name, **options)
    return caught.value.message, caught.value.hint


@pytest.mark.parametrize(
    ("data", "name", "message", "hint"),
    [
        (b"", "a.txt", "a.txt: the file is empty", "give a document that has text"),
        (b" \r\n\t", "a.pdf", "a.pdf: the file is empty but for white space",
         "give a document that has text"),
        (b"", "-", "-: standard input is empty", "give a document that has text"),
        (HTML, "a.pdf", "a.pdf: not a PDF document; this is an HTML page",
         "read it as what it is with --format html, or rename it"),
        (b"plain words\n", "a.docx", "a.docx: not a DOCX document; this is text",
         "read it as what it is with --format text"),
        (make_zip({"x.bin": b"1"}), "a.epub", "a.epub: not an EPUB book; this is a ZIP archive",
         "give a document: pdf, docx, epub, html, markdown, csv, srt, "
        "eml, pptx, xlsx, odt, rtf, ipynb, text"),
        (make_zip({"xl/workbook.bin": b"1"}), "a.xlsb", "a.xlsb: this is an Excel workbook",
         "open it in its own program and save it as DOCX or PDF"),
        (b"\x89PNG\r\n\x1a\n\0\0", "a.md", "a.md: this is a PNG image",
         "give a document: pdf, docx, epub, html, markdown, csv, srt, "
        "eml, pptx, xlsx, odt, rtf, ipynb, text"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99, "a.doc",
         "a.doc: this is an Office document of the old binary kind (.doc, .xls, .ppt)",
         "open it in its own program and save it as DOCX or PDF"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "a.docx",
         "a.docx: not a DOCX document; this is an encrypted Office document",
         "open it in Word, remove the password and save it as .docx"),
        (bytes(range(256)) * 8, "a.txt", "a.txt: this is binary data",
         "give a document: pdf, docx, epub, html, markdown, csv, srt, "
        "eml, pptx, xlsx, odt, rtf, ipynb, text"),
    ],
)  # fmt: skip
def test_what_is_no_document_is_refused_in_one_line(
    data: bytes, name: str, message: str, hint: str
) -> None:
    assert refusal(data, name) == (message, hint)


def test_format_asked_for_does_not_make_a_pdf_of_text() -> None:
    assert refusal(b"words", "a.txt", format="pdf") == (
        "a.txt: not a PDF document; this is text",
        "read it as what it is with --format text",
    )


def test_unknown_format_names_the_known_ones() -> None:
    assert refusal(b"words", "a.txt", format="word") == (
        "a.txt: there is no format called word",
        "the formats are pdf, docx, epub, html, markdown, csv, srt, "
        "eml, pptx, xlsx, odt, rtf, ipynb, text",
    )


@pytest.mark.parametrize("data", [b"x" * 11, HTML, PDF], ids=["text", "html", "pdf"])
def test_file_over_the_size_limit_is_refused(data: bytes) -> None:
    assert refusal(data, "a", limits=ReadLimits(max_bytes=10)) == (
        "a: larger than 10 bytes",
        "raise the limit with --max-bytes, or split the document",
    )


@pytest.mark.parametrize(
    ("data", "name"),
    [(b"x" * 99, "a.txt"), (b"# x\n" + b"x" * 99, "a.md"), (HTML, "a.html"), (PDF, "a.pdf"),
     (make_docx(), "a.docx"), (make_epub(), "a.epub")],
)  # fmt: skip
def test_text_over_the_character_limit_is_refused(data: bytes, name: str) -> None:
    assert refusal(data, name, limits=ReadLimits(max_chars=4)) == (
        f"{name}: more than 4 characters of text",
        "raise the limit with --max-chars, or give a shorter document",
    )


def test_paths_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    for name, message in (
        ("none.pdf", "none.pdf: no such file or folder"),
        ("", ": is a folder, not a document"),
    ):
        with pytest.raises(DocumentError, match=message):
            read_document(Source(name, path=tmp_path / name))


@pytest.mark.parametrize("name", ["a.txt", "a", "a.html", "a.epub"])
def test_pdf_is_read_as_pdf_whatever_its_name(name: str) -> None:
    document = read_bytes(PDF, name)
    assert (document.format, document.text) == ("pdf", "Hello from page one.")


@pytest.mark.parametrize(
    ("data", "name", "format"),
    [
        (make_docx(), "a.txt", "docx"),
        (make_epub(), "a", "epub"),
        (HTML, "a", "html"),
        (HTML, "a.md", "markdown"),
        (b"<p>One</p>", "a.html", "html"),
        (b"<p>One</p>", "a.txt", "text"),
        (b"# One", "a.md", "markdown"),
        (b"# One", "-", "text"),
        (b"a,b\n1,2\n", "a.csv", "csv"),
        (b"a = 1\n", "a.unknown", "text"),
    ],
)
def test_format_goes_by_content_then_suffix(data: bytes, name: str, format: str) -> None:
    assert read_bytes(data, name).format == format


def test_format_option_goes_before_the_suffix() -> None:
    assert read_bytes(HTML, "a.html", format="text").text == HTML.decode()
    assert read_bytes(b"# One\n", "-", format="markdown").sections == (
        Section("One", heading="One", headings=(Heading(0, 1, "One"),)),
    )


def test_document_says_where_its_bytes_came_from() -> None:
    document = read_bytes(b"abc\n", "a.txt")
    assert (document.name, document.size_bytes) == ("a.txt", 4)
    # printf 'abc\n' | sha256sum
    assert document.digest == "edeaaff3f1774ad2888673770c6d64097e391bc362d7d6fb34982ddf0efd18cb"


def test_every_reader_has_its_own_suffixes_and_a_description() -> None:
    suffixes = [suffix for reader in FORMATS.values() for suffix in reader.suffixes]
    assert len(suffixes) == len(set(suffixes))
    assert all(reader.description for reader in FORMATS.values())


@pytest.mark.parametrize(
    ("name", "format", "n_sections", "n_notes"),
    [
        pytest.param("developers-reference.pdf", "pdf", 102, 0, marks=pytest.mark.slow),
        ("developers-reference.epub", "epub", 284, 0),
        ("paper.docx", "docx", 4, 0),
        ("wikipedia-page.html", "html", 31, 0),
        ("almanac.md", "markdown", 196, 0),
        ("perl-policy.txt", "text", 1, 0),
        ("legacy-encoding-mskanji.csv", "csv", 1, 1),
    ],
)
def test_sample_documents_are_read(name: str, format: str, n_sections: int, n_notes: int) -> None:
    document = samples.read_shared(name)
    found = (document.format, len(document.sections), len(document.notes))
    assert found == (format, n_sections, n_notes)


def test_a_file_of_another_format_than_its_suffix_says_is_named() -> None:
    document = read_bytes(make_docx(), "bad.pdf")
    assert (document.format, document.remarks[0]) == ("docx", "is a DOCX document")
    assert read_bytes(make_docx(), "good.docx").remarks == document.remarks[1:]
