"""Pages whose words another program finds, too, each with the words that d2l leaves out."""

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

from pypdf import PdfReader, PdfWriter
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import BaseDocTemplate, Frame, PageTemplate, Paragraph, Table

from tests.documents.samples import HELVETICA
from tests.readers.pdf.pages import build, form, stream

PROSE = (
    "The pump moves water from the lower basin into the tower whenever the float switch closes, "
    "and the controller keeps a record of each start in its own memory for thirty days. "
)
BROKEN = (
    "The extraor-",
    "dinary well-",
    "known long-term con-",
    "troller is of the 1990-",
    "1995 era",
)
N_PAGES = 4


def draw(paint: Callable[[Canvas], Any]) -> bytes:
    """A file painted on reportlab's canvas."""
    out = BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1)
    paint(canvas)
    canvas.save()
    return out.getvalue()


def flow(*story: Any, frames: tuple[tuple[int, ...], ...] = ((72, 72, 450, 680),)) -> bytes:
    """A file that reportlab sets in frames."""
    out = BytesIO()
    template = PageTemplate(frames=[Frame(*frame) for frame in frames])
    BaseDocTemplate(out, pagesize=A4, invariant=1, pageTemplates=[template]).build(list(story))
    return out.getvalue()


def say(text: str, x: float = 72, y: float = 700, before: str = "") -> str:
    """Operators that show words."""
    return f"BT {before} /F1 12 Tf {x} {y} Td ({text}) Tj ET"


def many_pages(canvas: Canvas) -> None:
    """A header, a footer and a stamp across each page, whose lines differ in their numbers."""
    for number in range(1, N_PAGES + 1):
        canvas.drawString(72, 800, "Marn manual")
        canvas.drawString(72, 30, f"Page {number} of {N_PAGES}")
        for row in range(20):
            canvas.drawString(
                72, 700 - 14 * row, f"Line {31 * (row + 1) * number} tells {PROSE[:50]}"
            )
        canvas.saveState()
        canvas.translate(150, 250)
        canvas.rotate(45)
        canvas.drawString(0, 0, "CONFIDENTIAL")
        canvas.restoreState()
        canvas.showPage()


def turned(angle: int) -> Callable[[Canvas], Any]:
    """Two lines that are turned."""

    def paint(canvas: Canvas) -> None:
        canvas.drawString(72, 750, "Upright line")
        canvas.translate(300, 400)
        canvas.rotate(angle)
        canvas.drawString(0, 0, "Turned words here")
        canvas.drawString(0, -14, "and a second row")

    return paint


def fields(canvas: Canvas) -> None:
    """A form that is filled in."""
    canvas.drawString(72, 750, "Name:")
    place = {"x": 120, "width": 200, "height": 40}
    canvas.acroForm.textfield(name="n", value="Ottilie Brandt", y=740, **place)
    canvas.acroForm.choice(name="c", value="Tollin", options=["Tollin", "Marn"], y=690, **place)
    canvas.acroForm.listbox(name="l", value="Oslo", options=["Oslo", "Bergen"], y=600, **place)


def in_font(name: str, text: str) -> Callable[[Canvas], Any]:
    """A line in a font of reportlab."""

    def paint(canvas: Canvas) -> None:
        canvas.setFont(name, 12)
        canvas.drawString(72, 700, text)

    return paint


def compressed() -> bytes:
    """Objects in streams, and a table of them that is one."""
    data = draw(
        lambda c: [(c.drawString(72, 700, f"page word{n}"), c.showPage()) for n in range(3)]
    )
    writer = PdfWriter(clone_from=PdfReader(BytesIO(data)))
    out = BytesIO()
    writer.compress_identical_objects()
    writer.write(out)
    return out.getvalue()


COMPOSITE = (
    "<< /Type /Font /Subtype /Type0 /BaseFont /Serif /Encoding %s /ToUnicode 6 0 R "
    "/DescendantFonts [<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Serif /DW 600 "
    "/CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>] >>"
)
CODES = "begincmap 1 begincodespacerange <{0}> <{1}> endcodespacerange {2} endcmap"


def two_bytes(text: str, encoding: str = "/Identity-H", *extra: str) -> bytes:
    """Text in two-byte codes; what is written from the right is painted from the left."""
    codes = {char: code for code, char in enumerate(sorted(set(text)), start=1)}
    pairs = (f"<{n:04X}> <{char.encode('utf-16-be').hex()}>\n" for char, n in codes.items())
    table = f"{len(codes)} beginbfchar\n{''.join(pairs)}endbfchar"
    is_arabic = text[:1] > "\u0590" and text[:1] < "\u0800"
    shown = "".join(f"{codes[char]:04X}" for char in (text[::-1] if is_arabic else text))
    content = f"BT /F1 12 Tf 72 700 Td <{shown}> Tj ET"
    font = (COMPOSITE % encoding).encode()
    return build(content, font=font, extra=[stream(CODES.format("0000", "FFFF", table)), *extra])


def mapped(content: str, font: str, table: str, n_bytes: int = 2) -> bytes:
    """Words in a font with a map to Unicode."""
    codes = CODES.format("00" * n_bytes, "FF" * n_bytes, table)
    return build(content, font=font.encode(), extra=[stream(codes)])


IMAGE = stream(
    "x", "/Subtype /Image /Width 1 /Height 1 /BitsPerComponent 8 /ColorSpace /DeviceGray"
)
SCANNED = {"resources": "/XObject << /Im 6 0 R >>", "extra": [IMAGE]}
PAINT = "q 612 0 0 792 0 0 cm /Im Do Q"
SIMPLE = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica %s >>"
NAMES = "/uni0431 /afii10017 /eacute /u1F600 /germandbls /Lslash /fi 72 /one.oldstyle /Euro"
TYPE_3 = (
    "<< /Type /Font /Subtype /Type3 /FontBBox [0 0 750 750] /FontMatrix [0.001 0 0 0.001 0 0] "
    "/CharProcs << /A 6 0 R /B 6 0 R >> /Encoding << /Differences [65 /A /B] >> "
    "/FirstChar 65 /LastChar 66 /Widths [1000 1000] /Resources << >> >>"
)
FORMS = [
    form(f"{say('outer form')} q 1 0 0 1 0 -50 cm /Inner Do Q",
         "/Resources << /Font << /F1 3 0 R >> /XObject << /Inner 7 0 R >> >>"),
    form(f"{say('inner form')} /Last Do",
         "/Resources << /Font << /F1 3 0 R >> /XObject << /Last 8 0 R >> >>"),
    form(say("innermost without resources", y=600), ""),
]  # fmt: skip
LAYER = {
    "resources": "/Properties << /L 6 0 R >>",
    "extra": ["<< /Type /OCG /Name (L) >>"],
    "catalog": "/OCProperties << /OCGs [6 0 R] /D << /OFF [6 0 R] >> >>",
}
TILE = stream(say("tiled words", 5, 5), "/PatternType 1 /PaintType 1 /TilingType 1 /XStep 400 "
              "/YStep 400 /BBox [0 0 200 50] /Resources << /Font << /F1 3 0 R >> >>")  # fmt: skip
ACRO = "/AcroForm << /Fields [6 0 R] /DR << /Font << /F1 3 0 R >> >> /DA (/F1 10 Tf 0 g) >>"


def annotate(kind: str, entries: str = "/AP << /N 7 0 R >>") -> bytes:
    """A page with a note of some kind on it."""
    note = f"<< /Subtype /{kind} /Rect [72 600 272 620] /F 4 /DA (/F1 10 Tf 0 g) {entries} >>"
    extra = [note, form(say("Remarked words", 2, 5), box="0 0 200 20")]
    return build(say("Page words"), page="/Annots [6 0 R]", catalog=ACRO, extra=extra)


COLUMNS = ((60, 500, 230, 200), (310, 500, 230, 200), (60, 250, 230, 200), (310, 250, 230, 200))
ROWS = [["Part", "Code", "Price"], *([f"Item {n}", f"K{n}", f"{17 * n}.50"] for n in range(150))]
LINK = ("https://example.org", (72, 690, 300, 712))

#: Files, all of whose words are kept.
PLAIN: dict[str, bytes | Callable[[], bytes]] = {
    "columns": lambda: flow(Paragraph(PROSE * 8, ParagraphStyle("", leading=12)), frames=COLUMNS),
    "hyphens": lambda: draw(
        lambda c: [c.drawString(72, 700 - 12 * n, line) for n, line in enumerate(BROKEN)]
    ),
    "ruled table": lambda: flow(Table(ROWS[:9], style=[("GRID", (0, 0), (-1, -1), 1, "black")])),
    "table of several pages": lambda: flow(Table(ROWS)),
    "subset of TrueType": lambda: draw(in_font("Vera", "Größe façade naïve ﬁsh ﬂow €5 ½")),
    "Symbol": lambda: draw(in_font("Symbol", "abg")),
    "ZapfDingbats": lambda: draw(in_font("ZapfDingbats", "ABC")),
    **{f"turned by {n}": lambda n=n: draw(turned(n)) for n in (10, 45, 90, 180, 270)},
    "turned page": build(
        "BT /F1 12 Tf 0 1 -1 0 300 100 Tm (Landscape words) Tj ET", page="/Rotate 90"
    ),
    "form that is filled in": lambda: draw(fields),
    "field without an appearance": annotate("Widget", "/FT /Tx /T (x) /V (Remarked words)"),
    "text box without an appearance": annotate("FreeText", "/Contents (Remarked words)"),
    **{kind: annotate(kind) for kind in ("FreeText", "Stamp", "Watermark", "Redact")},
    "note that is not shown": annotate("FreeText", "/F 2 /AP << /N 7 0 R >>"),
    "note to click on": annotate("Text", "/Contents (Sticky words)"),
    "link": lambda: draw(
        lambda c: [c.drawString(72, 700, "See https://example.org/a_b-c?d=1 now"), c.linkURL(*LINK)]
    ),
    "Arabic": two_bytes("اقرأ دليل المضخة"),
    "Hebrew": two_bytes("קרא את המדריך"),
    "CJK": two_bytes("水泵手册第一章，取扱説明書"),
    "vertical": two_bytes("水泵手册第一章", "/Identity-V"),
    "Devanagari, emoji": two_bytes("नमस्ते दुनिया 𝐀𝐱 😀 √2"),
    "table of codes": two_bytes(
        "words", "7 0 R",
        stream(CODES.format("0000", "FFFF", "1 begincidrange <0000> <FFFF> 0 endcidrange"),
               "/Type /CMap /CMapName /C"),
    ),
    "glyph of several letters": mapped(
        "BT /F1 12 Tf 72 700 Td <00010002> Tj ET", COMPOSITE % "/Identity-H",
        "2 beginbfchar\n<0001> <006F>\n<0002> <006600660069>\nendbfchar",
    ),
    "ranges of codes": mapped(
        "BT /F1 12 Tf 72 700 Td <000100020003000A000B> Tj ET", COMPOSITE % "/Identity-H",
        "2 beginbfrange <0001><0003><0041>\n<000A> <000B> [<0066006C> <0078>] endbfrange",
    ),
    "codes of one byte": mapped(
        say("abc"), SIMPLE % "/ToUnicode 6 0 R",
        "3 beginbfchar\n<61> <0416>\n<62> <044F>\n<63> <00660066006C>\nendbfchar", 1,
    ),
    "names of glyphs": build(
        say("ABCDEFG HI"), font=(SIMPLE % f"/Encoding << /Differences [65 {NAMES}] >>").encode()
    ),
    "MacRoman": build(
        say("na\\225ve caf\\216 \\336sh"), font=(SIMPLE % "/Encoding /MacRomanEncoding").encode()
    ),
    "glyphs that are drawings": build(
        say("AB BA"), font=TYPE_3.encode(), extra=[stream("750 0 0 0 750 750 d1 0 0 750 750 re f")]
    ),
    "forms in forms": build(
        f"{say('Above', y=740)} /X Do", resources="/XObject << /X 6 0 R >>", extra=FORMS
    ),
    "form that is drawn twice": build(
        "/X Do q 1 0 0 1 0 -60 cm /X Do Q", resources="/XObject << /X 6 0 R >>",
        extra=[form(say("stamped words"))],
    ),
    "recognized under a scan": build(f"{say('seen words', before='3 Tr')} {PAINT}", **SCANNED),
    "recognized over a scan": build(f"{PAINT} {say('seen words', before='3 Tr')}", **SCANNED),
    "raised and lowered": build(
        "BT /F1 10 Tf 72 700 Td (Area 10) Tj 5 Ts /F1 6 Tf (6) Tj 0 Ts /F1 10 Tf ( m) Tj 5 Ts "
        "/F1 6 Tf (2) Tj 0 Ts /F1 10 Tf ( and H) Tj -3 Ts /F1 6 Tf (2) Tj 0 Ts /F1 10 Tf (O) Tj ET"
    ),
    "spaced letters": build(f"{say('WARNING LABEL', before='8 Tc')} {say('Body of it', y=650)}"),
    "each glyph placed": build(
        " ".join(say(char, 72 + 6 * n) for n, char in enumerate("Letters one by one"))
    ),
    "drawn twice to look bold": build(f"{say('Bold words')} {say('Bold words', 72.3)}"),
    "all operators": build(
        "BT /F1 12 Tf 14 TL 72 700 Td (first) Tj (second) ' 1 2 (third row) \" T* "
        "[(four) 20 (th) -900 (fifth)] TJ ET"
    ),
    "stroked": build(f"{say('stroked words', before='1 Tr')} {say('both', y=650, before='2 Tr')}"),
    "light on dark": build(f"0 g 60 690 300 30 re f 1 g {say('light words')}"),
    "tiles": build(
        f"/Pattern cs /P scn 72 400 300 300 re f 0 g {say('seen', y=750)}",
        resources="/Pattern << /P 6 0 R >>", extra=[TILE],
    ),
    "picture in the content": build(
        f"{say('before')} q 9 0 0 9 72 600 cm BI /W 1 /H 1 /BPC 8 /CS /G ID x EI Q "
        f"{say('after', y=500)}"
    ),
    "compressed objects": compressed,
}  # fmt: skip

#: Content, entries of the page, and the words that are left out and counted.
HIDDEN: dict[str, tuple[str, dict[str, Any], str]] = {
    "clipped": (
        f"q 9 9 9 9 re W n {say('clipped words')} Q {say('seen', y=500)}", {}, "clipped words"
    ),
    "tiny": (f"{say('seen')} BT /F1 0.5 Tf 72 600 Td (tiny words) Tj ET", {}, "tiny words"),
    "white": (f"1 g {say('white words')} 0 g {say('seen', y=600)}", {}, "white words"),
    "layer that is off": (
        f"/OC /L BDC {say('layer words')} EMC {say('seen', y=600)}", LAYER, "layer words",
    ),
    "off the page": (
        f"{say('outside words')} {say('seen', y=400)}", {"page": "/CropBox [0 0 612 500]"},
        "outside words",
    ),
}  # fmt: skip


def list_cases() -> Iterator[tuple[str, bytes, str]]:
    """Yield names, files, and the words that are left out."""
    pdfmetrics.registerFont(TTFont("Vera", "Vera.ttf"))
    for name, data in PLAIN.items():
        yield name, data() if callable(data) else data, ""
    running = (f"Marn manual Page {n} of {N_PAGES} CONFIDENTIAL" for n in range(1, N_PAGES + 1))
    yield "headers, footers and stamps", draw(many_pages), " ".join(running)
    for name, (content, entries, left_out) in HIDDEN.items():
        yield name, build(content, font=HELVETICA, **entries), left_out
