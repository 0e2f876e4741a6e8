"""Documents made in code, so that reading them is tested without any file at hand."""

import zipfile
import zlib
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from pathlib import Path

import docx
import pytest
from pypdf import PdfReader, PdfWriter

from d2l.documents.document import Document, Source
from d2l.documents.read import choose_format, make_document, parse, read_document
from d2l.readers.parsing import ParseRequest
from d2l.readers.sniff import sniff

DOCS = Path(__file__).parents[2].parent / "shared" / "docs"


def shared_doc(name: str) -> Source:
    """A sample document kept beside the checkout; the test is skipped where it is not."""
    if not DOCS.is_dir():
        pytest.skip("the sample documents are not beside this checkout")
    return Source(name, path=DOCS / name)


@cache
def read_shared(name: str, password: str | None = None) -> Document:
    """Read a sample document, once for all tests: documents do not change."""
    return read_document(shared_doc(name), password=password)


def read_bytes(data: bytes, name: str = "sample", **options: object) -> Document:
    """Read bytes as if they came from a file of this name."""
    path = Path(name) if Path(name).suffix else None
    return read_document(Source(name, path=path, data=data), **options)  # type: ignore[arg-type]


def parse_here(data: bytes, name: str = "sample", *, include_hidden: bool = False) -> Document:
    """The same in this process: for many small documents, whose parsers can be trusted."""
    source = Source(name, path=Path(name) if Path(name).suffix else None, data=data)
    format = choose_format(source, sniff(data), None)
    request = ParseRequest(name, data, include_hidden=include_hidden, format=format)
    return make_document(source, request, parse(request))


def pdf_line(text: str, x: float, y: float, size: float = 10, font: str = "F1") -> str:
    """Operators that draw one line."""
    escaped = text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
    return f"BT /{font} {size} Tf 1 0 0 1 {x} {y} Tm ({escaped}) Tj ET"


def pdf_page(lines: Sequence[str], top: float = 700, leading: float = 12) -> str:
    """Operators that draw lines one below the other."""
    return "\n".join(pdf_line(line, 72, top - leading * n) for n, line in enumerate(lines))


HELVETICA = b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>"
# A font that tells its widths: half an em for every character.
HALF_EM = (
    b"<< /Type /Font /Subtype /TrueType /BaseFont /Even /Encoding /WinAnsiEncoding "
    b"/FirstChar 32 /Widths [" + b"500 " * 224 + b"] >>"
)


def make_pdf(
    pages: Sequence[str | bytes], *, font: bytes = HELVETICA, extra: Sequence[bytes] = ()
) -> bytes:
    """Assemble a PDF by hand; a page is its operators, or a compressed stream of them.

    Font F1 is the one given; extra objects are numbered from 4 + 2 * len(pages).
    """
    n_pages = len(pages)
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(n_pages))
    fonts = "/F1 3 0 R /F2 << /Type /Font /Subtype /Type1 /BaseFont /Courier >>"
    images = "/Im1 << /Subtype /Image >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {n_pages} >>".encode(),
        font,
    ]
    for number, page in enumerate(pages):
        is_scan = page == SCAN
        resources = f"<< /Font << {fonts} >> {'/XObject << ' + images + ' >>' if is_scan else ''}>>"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Resources {resources} "
            f"/Contents {5 + 2 * number} 0 R >>".encode()
        )
        raw = page if isinstance(page, bytes) else page.encode("cp1252")
        filtered = b" /Filter /FlateDecode" if isinstance(page, bytes) else b""
        objects.append(b"<< /Length %d%s >>\nstream\n%s\nendstream" % (len(raw), filtered, raw))
    return write_objects([*objects, *extra])


SCAN = "q 612 0 0 792 0 0 cm /Im1 Do Q"


def write_objects(objects: Sequence[bytes]) -> bytes:
    """Number objects and add a cross-reference table."""
    out = bytearray(b"%PDF-1.4\n")
    places = []
    for number, body in enumerate(objects, start=1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    start = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\n" % (len(objects) + 1)
    return bytes(out + b"startxref\n%d\n%%%%EOF\n" % start)


def encrypt_pdf(data: bytes, user: str, owner: str | None = None) -> bytes:
    """Encrypt with AES-256, as current programs do."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(data)))
    writer.encrypt(user, owner, algorithm="AES-256")
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def make_bomb_page(n_bytes: int) -> bytes:
    """A page's content that unpacks to so many bytes."""
    return zlib.compress(b" " * n_bytes, 9)


def save_docx(document: docx.document.Document) -> bytes:
    """The bytes of a document made with python-docx."""
    out = BytesIO()
    document.save(out)
    return out.getvalue()


def make_docx() -> bytes:
    """A small document: title, headings, list, table with a merged cell, page header."""
    document = docx.Document()
    document.sections[0].header.paragraphs[0].text = "Page header"
    document.add_heading("Pump manual", 0)
    document.add_paragraph("Read this first.")
    document.add_heading("Parts", 1)
    document.add_paragraph("Impeller", style="List Bullet")
    document.add_paragraph("Seal", style="List Bullet")
    table = document.add_table(rows=3, cols=3)
    for row, cells in enumerate((("Part", "Code", "Price"), ("Seal", "S-1", "4"), ("", "", "5"))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    document.add_paragraph("After the table.")
    return save_docx(document)


CONTAINER = """<?xml version="1.0"?>
<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>
<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/>
</rootfiles></container>"""

PACKAGE = """<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><manifest>
<item id="nav" href="nav.xhtml" media-type="application/xhtml+xml" properties="nav"/>
<item id="b" href="b%20two.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="a.xhtml" media-type="application/xhtml+xml"/></manifest>
<spine><itemref idref="nav"/><itemref idref="b"/><itemref idref="a"/></spine></package>"""

CHAPTER = """<?xml version="1.0" encoding="utf-8"?>
<html xmlns="http://www.w3.org/1999/xhtml"><head><title>T</title></head>
<body><h1>{title}</h1><p>{text}</p></body></html>"""


def make_epub(extra: dict[str, str] | None = None, left_out: str = "") -> bytes:
    """A book of two chapters whose spine is not in alphabetical order."""
    members = {
        "META-INF/container.xml": CONTAINER,
        "OEBPS/book.opf": PACKAGE,
        "OEBPS/nav.xhtml": CHAPTER.format(title="Contents", text="Chapter list"),
        "OEBPS/b two.xhtml": CHAPTER.format(title="First", text="It begins &#8212; here."),
        "OEBPS/a.xhtml": CHAPTER.format(title="Second", text="It ends."),
    } | (extra or {})
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        for member, text in members.items():
            if member != left_out:
                archive.writestr(member, text)
    return out.getvalue()


def make_zip(members: dict[str, bytes]) -> bytes:
    """A ZIP archive."""
    out = BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, data in members.items():
            archive.writestr(member, data)
    return out.getvalue()
