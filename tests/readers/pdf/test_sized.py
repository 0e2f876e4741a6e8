"""A PDF of twice the size takes about twice the time, whatever it is made of."""

from collections.abc import Callable
from io import BytesIO
from typing import Any

import pytest
from pypdf import PdfReader, PdfWriter

from tests.documents.samples import make_pdf, parse_here, pdf_line
from tests.readers.pdf.pages import build, form, stream
from tests.readers.pdf.word_cases import CODES, COMPOSITE, IMAGE, TYPE_3
from tests.sized import assert_linear

SEEN = pdf_line("Seen.", 72, 760)
WORD = "BT /F1 10 Tf {x} {y} Td (word{n}) Tj ET"
ON_ONE_PLACE = "BT /F1 10 Tf -5 Tc 72 700 Td"  # letters half an em wide, that lie on one another
SHADED: dict[str, Any] = {
    "resources": "/Shading << /S << /ShadingType 2 /ColorSpace /DeviceGray /Coords [0 0 600 0] "
    "/Function << /FunctionType 2 /Domain [0 1] /C0 [0.2] /C1 [0.9] /N 1 >> >> >>"
}
DRAWN: dict[str, Any] = {"resources": "/XObject << /X 6 0 R >>", "extra": [form(SEEN)]}
PICTURE: dict[str, Any] = {"resources": "/XObject << /X 6 0 R >>", "extra": [IMAGE]}
TILE = (
    "/PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 9 9] /XStep 9 /YStep 9 /Resources << >>"
)
TILED: dict[str, Any] = {
    "resources": "/Pattern << /P 6 0 R >>",
    "extra": [stream("0 0 9 9 re f", TILE)],
}
MASKED: dict[str, Any] = {
    "resources": "/ExtGState << /M << /SMask << /S /Luminosity /G 6 0 R >> >> >>",
    "extra": [form("1 g 0 0 612 792 re f", "/Group << /S /Transparency /CS /DeviceGray >>")],
}


def rows(n: int, row: str, **entries: Any) -> bytes:
    """A page with n pieces that stand apart; "{n}", "{x}" and "{y}" are replaced."""
    pieces = (
        row.replace("{n}", str(k))
        .replace("{x}", str(k * 37 % 540))
        .replace("{y}", f"{k * 11 % 700}")
        for k in range(n)
    )
    return build("\n".join([SEEN, *pieces]), **entries)


def lines(n: int, text: str, place: Callable[[int], tuple[float, float]]) -> bytes:
    """A page with n lines at places."""
    return build("\n".join(pdf_line(text.format(k), *place(k), 4) for k in range(n)))


def pages(n: int, running: str = "") -> bytes:
    """A page with some lines for every ten."""
    body = [pdf_line(f"word{k}", 72, 700 - 12 * k) for k in range(5)]
    return make_pdf([" ".join([running.format(k), *body]) for k in range(n // 10)])


def refer(first: int, n: int, name: str = "") -> str:
    """References to objects, each under a name if they have one."""
    return " ".join(f"{f'/{name}{k} ' if name else ''}{first + k} 0 R" for k in range(n))


def nested(n: int) -> bytes:
    """Forms with words, inside one another four deep."""
    entries = "/Resources << /Font << /F1 3 0 R >> /XObject << /X {} 0 R >> >>"
    forms = [form(SEEN + " /X Do" * (k % 4 < 3), entries.format(7 + k)) for k in range(n)]
    calls = " ".join(f"/X{k} Do" for k in range(0, n, 4))
    return build(calls, resources=f"/XObject << {refer(6, n, 'X')} >>", extra=forms)


def fonts(n: int) -> bytes:
    shown = "\n".join(f"BT /G{k} 10 Tf 72 {k % 700} Td (word{k}) Tj ET" for k in range(n))
    named = f"/Resources << /Font << {refer(7, n, 'G')} >> >>"
    extra = [form(shown, named), *["<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"] * n]
    return build("/X Do", resources="/XObject << /X 6 0 R >>", extra=extra)


def outline(n: int, name: str = "[4 0 R /Fit]") -> bytes:
    """Bookmarks, by names if they have some."""
    entries = [
        f"<< /Title (Title {k}) /Parent 6 0 R /Dest {name.format(k)} /Next {8 + k} 0 R >>"
        for k in range(n)
    ]
    names = " ".join(f"{name.format(k)} [4 0 R /Fit]" for k in range(n))
    catalog = f"/Outlines 6 0 R /Names << /Dests << /Names [{names}] >> >>"
    root = f"<< /Type /Outlines /First 7 0 R /Last {6 + n} 0 R /Count {n} >>"
    return build(SEEN, catalog=catalog, extra=[root, *entries, "null"])


def notes(n: int, kind: str) -> bytes:
    note = f"<< /Subtype /{kind} /Rect [72 600 272 620] /AP << /N 6 0 R >> >>"
    extra = [form(pdf_line("note", 2, 5), box="0 0 200 20"), *[note] * n]
    return build(SEEN, page=f"/Annots [{refer(7, n)}]", extra=extra)


def fields(n: int) -> bytes:
    extra = [
        f"<< /Subtype /Widget /FT /Tx /T (t{k}) /V (value{k}) /DA (/F1 8 Tf 0 g) "
        f"/Rect [{k * 37 % 500} {k * 11 % 700} {k * 37 % 500 + 60} {k * 11 % 700 + 12}] >>"
        for k in range(n)
    ]
    form = f"/AcroForm << /Fields [{refer(6, n)}] /DR << /Font << /F1 3 0 R >> >> >>"
    return build(SEEN, page=f"/Annots [{refer(6, n)}]", catalog=form, extra=extra)


def layers(n: int) -> bytes:
    listed = f"/OCProperties << /OCGs [{refer(6, n)}] /D << /OFF [{refer(6, n)}] >> >>"
    named = f"/Properties << {refer(6, n, 'L')} >>"
    layer = "<< /Type /OCG /Name (L) >>"
    row = f"/OC /L{{n}} BDC {WORD} EMC"
    return rows(n, row, resources=named, catalog=listed, extra=[layer] * n)


def codes(n: int, pair: str, kind: str) -> bytes:
    """A map of codes, and strings that use them."""
    n = min(n, 0xFF00)
    pairs = "".join(pair.format(k, 0x4E00 + k % 0x5000) for k in range(n))
    shown = (
        "".join(f"{code:04X}" for code in range(start, min(start + 40, n)))
        for start in range(0, n, 40)
    )
    content = "\n".join(f"{ON_ONE_PLACE} <{text}> Tj ET" for text in shown)
    table = stream(CODES.format("0000", "FFFF", f"{n} begin{kind}\n{pairs}end{kind}"))
    return build(content, font=(COMPOSITE % "/Identity-H").encode(), extra=[table])


def rewritten(n: int) -> bytes:
    """Pages whose objects are in streams."""
    writer = PdfWriter(clone_from=PdfReader(BytesIO(pages(n))))
    out = BytesIO()
    writer.write(out)
    return out.getvalue()


def revised(n: int) -> bytes:
    """A file with n updates, each with a table of its objects."""
    data = bytearray(build(SEEN))
    last = data.rindex(b"xref\n0")
    for _ in range(n):
        data += b"6 0 obj\n<< /A 1 >>\nendobj\n"
        table = len(data)
        data += b"xref\n6 1\n%010d 00000 n \n" % (table - 26)
        data += b"trailer\n<< /Size 7 /Root 1 0 R /Prev %d >>\nstartxref\n%d\n%%%%EOF\n" % (
            last,
            table,
        )
        last = table
    return bytes(data)


def parts(n: int) -> bytes:
    """Content in many streams."""
    extra = [stream(pdf_line(f"word{k}", 72, k % 700)) for k in range(n)]
    return build("", extra=extra).replace(b"/Contents 5 0 R", f"/Contents [{refer(6, n)}]".encode())


KINDS: dict[str, Callable[[int], bytes]] = {
    "runs of one line": lambda n: build("BT /F1 5 Tf 72 700 Td " + "(ab ) Tj " * n + "ET"),
    "runs at one height": lambda n: lines(n, "ab", lambda k: (72 + 500 * k / n, 700)),
    "lines": lambda n: lines(n, "word{}", lambda k: (72, 760 - k * 740 / n)),
    "indented lines": lambda n: lines(n, "word{}", lambda k: (72 + k % 50, 760 - k * 740 / n)),
    "broken words": lambda n: lines(n, "wo{}rd-", lambda k: (72, 760 - k * 740 / n)),
    "layers of text": lambda n: lines(n, "word{}", lambda k: (72 + k % 7, 700)),
    "columns": lambda n: lines(n, "word{} of it", lambda k: (72 + k * 2 // n * 250, 700 - k % 350)),
    "table": lambda n: lines(n, "c{}", lambda k: (72 + k % 5 * 90, 750 - k // 5 * 3 % 700)),
    "glyphs one by one": lambda n: rows(n, "BT /F1 10 Tf {x} {y} Td (a) Tj ET"),
    "glyphs that are drawings": lambda n: build(
        f"BT /F1 10 Tf -10 Tc 72 700 Td ({'AB' * n}) Tj ET", font=TYPE_3.encode(),
        extra=[stream("750 0 0 0 750 750 d1 0 0 750 750 re f")],
    ),
    "turned lines": lambda n: rows(n, "BT /F1 10 Tf 0 1 -1 0 {x} {y} Tm (turned) Tj ET"),
    "slanted lines": lambda n: rows(n, "BT /F1 10 Tf 0.7 0.7 -0.7 0.7 {x} {y} Tm (turned) Tj ET"),
    "hidden lines": lambda n: rows(n, "BT 3 Tr /F1 10 Tf {x} {y} Td (hidden{n}) Tj ET"),
    "shadings in clips": lambda n: rows(n, f"q 9 9 9 9 re W n /S sh Q {WORD}", **SHADED),
    "shadings of a page": lambda n: rows(n, f"/S sh {WORD}", **SHADED),
    "patterns": lambda n: rows(n, f"/Pattern cs /P scn {{x}} {{y}} 30 30 re f {WORD}", **TILED),
    "masks": lambda n: rows(n, f"/M gs {WORD}", **MASKED),
    "covers": lambda n: rows(n, f"{WORD} 1 g {{x}} {{y}} 20 20 re f 0 g"),
    "paths": lambda n: rows(n, "{x} {y} m 300 300 l 100 200 300 {y} 500 600 c S"),
    "clips": lambda n: rows(n, f"q {{x}} {{y}} 90 20 re W n {WORD} Q"),
    "clips inside clips": lambda n: build(f"{'q 0 0 600 780 re W n ' * n} {SEEN} {'Q ' * n}"),
    "saved states": lambda n: build(f"{'q ' * n} {SEEN} {'Q ' * n}"),
    "pictures": lambda n: rows(n, f"q 9 0 0 9 {{x}} {{y}} cm /X Do Q {WORD}", **PICTURE),
    "pictures in the content": lambda n: rows(
        n, "q 9 0 0 9 {x} {y} cm BI /W 1 /H 1 /BPC 8 /CS /G ID x EI Q"
    ),
    "marked content": lambda n: rows(n, f"/P << /MCID {{n}} >> BDC {WORD} EMC"),
    "marks inside marks": lambda n: build(f"{'/P BMC ' * n} {SEEN} {'EMC ' * n}"),
    "layers that are off": layers,
    "forms in forms": nested,
    "one form drawn often": lambda n: rows(n, "q 1 0 0 1 0 -{y} cm /X Do Q", **DRAWN),
    "fonts": fonts,
    "codes": lambda n: codes(n, "<{:04X}> <{:04X}>\n", "bfchar"),
    "ranges of codes": lambda n: codes(n, "<{0:04X}> <{0:04X}> <{1:04X}>\n", "bfrange"),
    "one long string": lambda n: build(f"{SEEN} {ON_ONE_PLACE} ({'word ' * n}) Tj ET"),
    "one long array": lambda n: build(f"{SEEN} {ON_ONE_PLACE} [{'(wo) -20 (rd) 20 ' * n}] TJ ET"),
    "spaces": lambda n: build(f"{SEEN} {ON_ONE_PLACE} ({' ' * n}) Tj ET"),
    "dots": lambda n: build(f"{SEEN} {ON_ONE_PLACE} (Title {'. ' * n}12) Tj ET"),
    "pages": pages,
    "pages with headers": lambda n: pages(n, pdf_line("Page {}", 72, 760)),
    "parts of content": parts,
    "outline": outline,
    "outline of names": lambda n: outline(n, "(d{:06})"),
    "stamps": lambda n: notes(n, "Stamp"),
    "links": lambda n: notes(n, "Link"),
    "highlights": lambda n: notes(n, "Highlight"),
    "fields": fields,
    "objects in streams": rewritten,
    "updates": revised,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_twice_as_much_takes_about_twice_the_time(kind: str) -> None:
    assert_linear(KINDS[kind], lambda data: parse_here(data, "a.pdf"))
