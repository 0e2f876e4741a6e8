"""Documents changed inside, so that what is strange gets past the first look of a reader.

A member of an archive, an object of a PDF or an element of a page is changed, and the file is put
together again. Also small documents that hold much of what their format knows.
"""

import copy
import random
import re
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import lxml.etree
import lxml.html
from pypdf import PdfReader, PdfWriter
from pypdf.errors import PyPdfError
from pypdf.generic import DecodedStreamObject, EncodedStreamObject

from tests.documents.samples import make_docx, make_epub, make_pdf, make_zip, pdf_page
from tests.fuzz.changes import TOKENS, VALUES, change
from tests.readers.pdf.pages import build, form, stream
from tests.readers.pdf.test_fonts import COMPOSITE, TO_UNICODE
from tests.readers.pdf.test_visible import EXTRA, RESOURCES

MOST_BYTES = 100_000  # of a part that grew; inputs of any size have tests of their own
MOST_FILE_BYTES = 100_000  # of a real file that is a seed
_SEEDS = Path(__file__).with_name("seeds")
#: What readers look for, a line for what is in PDFs and one for markup.
PDF_WORDS, WORDS = map(bytes.split, (_SEEDS / "words.txt").read_bytes().splitlines())
_OBJECT = re.compile(rb"(\d+) 0 obj\n(.*?)\nendobj\n", re.DOTALL)
_STREAM = re.compile(rb"(.*?/Length )\d+(.*?\nstream\n)(.*)(\nendstream.*)", re.DOTALL)
_TAGS = re.compile(rb"<[^<>]*>|[^<>]+|.", re.DOTALL)
_WORDS = re.compile(rb"[\w.%/-]+|\s+|.", re.DOTALL)


def change_document(number: int, seeds: Sequence[bytes]) -> bytes:
    """Case `number`: a valid document with one to four changes inside, or to its bytes."""
    chance = random.Random(number)
    if chance.random() < 0.1:
        return change(number, seeds)
    seed = chance.choice(seeds)
    parts = dict(_take_apart(seed))
    weights = [_weigh(name, part) for name, part in parts.items()]
    for _ in range(chance.choice((1, 1, 2, 4))):
        name = chance.choices(list(parts), weights)[0]
        words = PDF_WORDS if seed[:4] == b"%PDF" else WORDS
        new = _change_part(chance, parts[name], words)
        parts[name] = new if len(new) < max(MOST_BYTES, 2 * len(parts[name])) else parts[name]
    if seed[:2] == b"PK":
        return make_zip(parts)
    return _write_pdf(parts) if seed[:4] == b"%PDF" else parts[""]


@cache
def _take_apart(seed: bytes) -> dict[str, bytes]:
    if seed[:2] == b"PK":
        with zipfile.ZipFile(BytesIO(seed)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    if seed[:4] == b"%PDF":
        parts = {number.decode(): body for number, body in _OBJECT.findall(seed)}
        return parts | {"trailer": seed[seed.rindex(b"trailer\n") : seed.rindex(b"startxref")]}
    return {"": seed}


def _weigh(name: str, part: bytes) -> float:
    """The parts that hold the text weigh more; those that nothing reads, next to nothing."""
    if name.startswith("docProps/") or name.endswith((".jpeg", ".png", ".jpg")):
        return 0.1
    is_text = name.endswith(("document.xml", "html", "htm")) or b"\nstream\n" in part
    return 4 if is_text else 1


def _write_pdf(parts: dict[str, bytes]) -> bytes:
    """Number the objects as they were; lengths of streams and places are right again."""
    out = bytearray(b"%PDF-1.7\n")
    rows = b"xref\n0 1\n0000000000 65535 f \n"
    for name, part in parts.items():
        if name != "trailer":
            rows += b"%s 1\n%010d 00000 n \n" % (name.encode(), len(out))
            if match := _STREAM.fullmatch(part):
                part = b"%s%d%s%s%s" % (match[1], len(match[3]), match[2], match[3], match[4])
            out += b"%s 0 obj\n%s\nendobj\n" % (name.encode(), part)
    start = b"startxref\n%d\n%%%%EOF\n" % len(out)
    return bytes(out) + rows + parts["trailer"] + start


def _change_part(chance: random.Random, part: bytes, words: Sequence[bytes]) -> bytes:
    kind = chance.random()
    if kind < (0.75 if b"xmlns" in part else 0.4) and part[:1] == b"<" and part[:2] != b"<<":
        with suppress(lxml.etree.LxmlError, ValueError):
            return _change_tree(chance, part)
    if kind < 0.9:
        return _change_tokens(chance, part, _TAGS if kind < 0.6 else _WORDS, words)
    return change(chance.randrange(2**32), (part,))


def _change_tokens(
    chance: random.Random, part: bytes, pattern: re.Pattern[bytes], words: Sequence[bytes]
) -> bytes:
    """Drop, repeat, move, swap or nest some tokens, or replace one by a word or another one."""
    tokens = pattern.findall(part)
    if not tokens:
        return chance.choice(words)
    at, to = sorted((chance.randrange(len(tokens)), chance.randrange(len(tokens))))
    end = min(len(tokens), at + chance.choice((1, 1, 3, 20)))
    piece = tokens[at:end]
    match chance.randrange(7):
        case 0:
            tokens[at:end] = []
        case 1:
            tokens[at:end] = piece * chance.choice((2, 3, 50))
        case 2:
            tokens[to:to] = piece
        case 3:
            tokens[at], tokens[to] = tokens[to], tokens[at]
        case 4:
            n_times = chance.choice((2, 30, 200))
            tokens[to + 1 : to + 1] = [tokens[to]] * n_times
            tokens[at:at] = [tokens[at]] * n_times
        case 5:
            tokens[at] = chance.choice((*words, *TOKENS))
        case _:
            tokens[at:at] = [chance.choice(words), b" ", tokens[to]]
    return b"".join(tokens)


def _change_tree(chance: random.Random, part: bytes) -> bytes:
    """The same done to elements of markup, which is well formed afterwards."""
    is_html = b"<html" in part and b"xmlns" not in part
    parser = lxml.etree.XMLParser(resolve_entities=False, recover=True)
    root: Any
    root = lxml.html.document_fromstring(part) if is_html else lxml.etree.fromstring(part, parser)
    if root is None:
        return part
    elements = list(root.iter("*"))
    one, other = chance.choice(elements), chance.choice(elements)
    match chance.randrange(8):
        case 0:
            inner = copy.deepcopy(one)
            other.extend(copy.deepcopy(inner) for _ in range(chance.choice((1, 3, 40))))
        case 1 if one.getparent() is not None:
            one.getparent().remove(one)
        case 2:
            other.insert(0, copy.deepcopy(one))
        case 3:
            one.attrib.update(other.attrib)
        case 4 if other.attrib:
            value = chance.choice([*other.attrib.values(), *map(str, VALUES), "0", "-1", "9" * 400])
            one.set(chance.choice(list(other.attrib)), re.sub(r"[^\t -\ud7ff]", "", value))
        case 5:
            one.tag = other.tag
        case 6:
            inner = copy.deepcopy(one)
            for _ in range(chance.choice((1, 5, 60, 240))):
                outer = lxml.etree.Element(one.tag, one.attrib, one.nsmap)
                outer.append(inner)
                inner = outer
            other.append(inner)
        case _:
            one.text, other.tail = other.text, one.text
    return lxml.html.tostring(root) if is_html else lxml.etree.tostring(root)


def make_documents() -> dict[str, tuple[bytes, ...]]:
    """Small valid documents by format, with much of what its readers look at."""
    names = ("chapter.xhtml", "body.xml", "page.pdf.txt")
    chapter, body, page = ((_SEEDS / name).read_text() for name in names)
    docx = _take_apart(make_docx())
    document, rows = docx["word/document.xml"], docx["word/_rels/document.xml.rels"]
    note = b'<Relationship Id="n" Target="footnotes.xml" Type="x/footnotes"/></Relationships>'
    rich = docx | {
        "word/document.xml": re.sub(
            rb"<w:body>.*(?=<w:sectPr)", lambda _: body.encode(), document, flags=re.DOTALL
        ),
        "word/_rels/document.xml.rels": rows.replace(b"</Relationships>", note),
        "word/footnotes.xml": b'<w:f xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/'
        b'2006/main"><w:footnote w:id="2"><w:p><w:r><w:t>l</w:t></w:r></w:p></w:footnote></w:f>',
    }
    resources = RESOURCES.replace("/Im 6 0 R", f"/Im 6 0 R /Fm1 {8 + len(EXTRA)} 0 R")
    unicode = TO_UNICODE.decode("latin1")
    composite = (COMPOSITE % b"/ToUnicode %d 0 R" % (7 + len(EXTRA))).decode("latin1")
    extra = (*EXTRA, composite, stream(unicode), form(page[:90]))
    fonts = b"<< /F1 3 0 R /F2 %d 0 R >> /ExtG" % (6 + len(EXTRA))
    pdf = build(page, resources=resources, extra=extra).replace(b"<< /F1 3 0 R >> /ExtG", fonts)
    sheet = ".i{display:none} b{color:#fff}"
    return {
        "html": list_files(_SEEDS, "html"),
        "docx": (make_docx(), make_zip(rich)),
        "epub": (make_epub({"OEBPS/a.xhtml": chapter, "OEBPS/s.css": sheet}),),
        "pdf": (make_pdf([pdf_page(["A line.", "Another."])] * 2), pdf),
    }


def list_files(folder: Path, suffix: str) -> tuple[bytes, ...]:
    """Real files that are small enough to be seeds; a PDF's streams are unpacked."""
    files = [path.read_bytes() for path in sorted(folder.glob(f"*.{suffix}"))]
    small = [data for data in files if len(data) <= MOST_FILE_BYTES]
    return tuple(map(unpack_pdf, small)) if suffix == "pdf" else tuple(small)


def unpack_pdf(data: bytes) -> bytes:
    """The same PDF with plain streams, one object after the other."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(data)))
    for number, item in enumerate(writer._objects):
        with suppress(PyPdfError, NotImplementedError):  # a filter that pypdf has not: as it is
            if isinstance(item, EncodedStreamObject) and item.get("/Subtype") != "/Image":
                plain = DecodedStreamObject()
                plain.update(item)
                plain.pop("/DecodeParms", plain.pop("/Filter", None))
                plain.set_data(item.get_data())
                writer._objects[number] = plain
    out = BytesIO()
    writer.write(out)
    return out.getvalue()
