"""Text that a reader of a PDF cannot see is left out and counted, and nothing else is."""

from collections.abc import Callable

import pytest

from d2l.documents.document import Document
from d2l.errors import DocumentError
from d2l.readers.findings import Finding
from d2l.readers.pdf import viewer
from tests.documents.samples import HALF_EM, encrypt_pdf, make_pdf, parse_here, read_bytes
from tests.readers.pdf.pages import build, form, stream
from tests.sized import assert_four_times, measure

SEEN = "BT /F1 10 Tf 72 700 Td (Seen.) Tj ET"
HIDDEN = "BT /F1 10 Tf 72 600 Td (hidden words) Tj ET"
LONG = "BT /F1 10 Tf {} Td (hidden words that go on for long enough          .) Tj ET"
N_HIDDEN = len("hiddenwords")
UNSEEN = "invisible on the page"
INVISIBLE = "drawn in the invisible mode"


# Resources of the pages below; objects 6 to 11.
RESOURCES = (
    "/ExtGState << /Faint << /ca 0.02 >> /None << /ca 0 >> /Half << /ca 0.5 >> "
    "/Almost << /ca 0.95 >> /Multiply << /BM /Multiply >> /Screen << /BM /Screen >> "
    "/Masked << /SMask << /S /Luminosity /G 9 0 R >> >> /Tiny << /Font [3 0 R 0] >> >> "
    "/XObject << /Im 6 0 R >> /Pattern << /Dark 7 0 R /White 8 0 R >> /Shading << /S 10 0 R >> "
    "/ColorSpace << /Spot [/Separation /Spot /DeviceGray 11 0 R] "
    "/Index [/Indexed /DeviceRGB 1 <000000FFFFFF>] /Lab [/Lab << /WhitePoint [1 1 1] >>] >>"
)
TILE = (
    "/PatternType 1 /PaintType 1 /TilingType 1 /BBox [0 0 9 9] /XStep 9 /YStep 9 /Resources << >>"
)
EXTRA = (
    stream("x", "/Type /XObject /Subtype /Image /Width 1 /Height 1 /BitsPerComponent 8 "
                "/ColorSpace /DeviceGray"),
    stream("0.3 g 0 0 9 9 re f", TILE),
    stream("1 g 0 0 9 9 re f", TILE),
    form(
        "0 g 0 0 612 650 re f 1 g 0 650 612 142 re f",
        "/Group << /S /Transparency /CS /DeviceGray >>",
    ),
    "<< /ShadingType 2 /ColorSpace /DeviceGray /Coords [0 0 612 0] /Function << /FunctionType 2 "
    "/Domain [0 1] /C0 [0.2] /C1 [0.4] /N 1 >> >>",
    stream("{ 1 exch sub }", "/FunctionType 4 /Domain [0 1] /Range [0 1]"),
)  # fmt: skip


def read(content: str, *, include_hidden: bool = False) -> Document:
    data = build(content, resources=RESOURCES, extra=EXTRA)
    return parse_here(data, "a.pdf", include_hidden=include_hidden)


def move(place: str, shown: str = HIDDEN) -> str:
    return shown.replace("72 600", place)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"1 g {HIDDEN}", UNSEEN),
        (f"0.97 0.97 1 rg {HIDDEN}", UNSEEN),
        (f"0 0 0 0 k {HIDDEN}", UNSEEN),
        (f"/Spot cs 0 scn {HIDDEN}", UNSEEN),
        (f"/Index cs 1 sc {HIDDEN}", UNSEEN),
        (f"/Lab cs 100 0 0 sc {HIDDEN}", UNSEEN),
        (f"/Pattern cs /White scn {HIDDEN}", UNSEEN),
        (f"0 g 60 580 300 40 re f {HIDDEN}", UNSEEN),
        (f"0.2 0.2 0.6 rg 60 580 300 40 re f 0.22 0.2 0.6 rg {HIDDEN}", UNSEEN),
        (f"/Pattern cs /Dark scn 60 580 300 40 re f {HIDDEN}", UNSEEN),
        (f"1 G 1 Tr {HIDDEN}", UNSEEN),
        (f"1 g {HIDDEN} 0 g 72 598 100 1 re f", UNSEEN),
        (f"1.5 w 60 590 300 30 re S q /Faint gs 0 0 612 792 re f Q 1 g {HIDDEN}", UNSEEN),
        (f"/None gs {HIDDEN}", UNSEEN),
        (f"/Faint gs {HIDDEN}", UNSEEN),
        (f"/Masked gs {HIDDEN}", UNSEEN),
        (f"1 g 60 580 300 40 re f 0 g /Screen gs {HIDDEN}", UNSEEN),
        (f"0 0 1 rg 60 580 300 40 re f /Multiply gs 1 g {HIDDEN}", UNSEEN),
        (f"q 612 0 0 792 0 0 cm /None gs /Im Do Q 1 g {HIDDEN}", UNSEEN),
        (HIDDEN.replace("Td", "Td 3 Tr"), INVISIBLE),
        (HIDDEN.replace("Td", "Td 7 Tr"), INVISIBLE),
        (f"q 50 0 0 50 400 50 cm /Im Do Q {HIDDEN.replace('Td', 'Td 3 Tr')}", INVISIBLE),
        (HIDDEN.replace("10 Tf", "0 Tf"), "tiny"),
        (HIDDEN.replace("10 Tf", "0.01 Tf"), "tiny"),
        (HIDDEN.replace("/F1 10 Tf", "/Tiny gs"), "tiny"),
        (f"q 0.05 0 0 0.05 50 600 cm {HIDDEN} Q", "tiny"),
        (HIDDEN.replace("Td", "Td 0.1 Tz"), "tiny"),
        (move("700 600"), "off the page"),
        (move("72 -50"), "off the page"),
        (move("-300 600"), "off the page"),
        (f"q 0 0 10 10 re W n {HIDDEN} Q", UNSEEN),
        (f"q 0 700 m 600 700 l 600 790 l 0 790 l h W* n {HIDDEN} Q", UNSEEN),
        (f"{HIDDEN} 1 g 70 590 200 20 re f", UNSEEN),
        (f"{HIDDEN} 1 g 70 590 30 20 re f 100 590 200 20 re f", UNSEEN),
        (f"{HIDDEN} 1 g 60 590 m 120 590 200 590 300 590 c 300 620 l 60 620 l f", UNSEEN),
        (f"{HIDDEN} 1 G 40 w 60 603 m 300 603 l S", UNSEEN),
        (f"{HIDDEN} /Almost gs 1 g 60 590 300 30 re f", UNSEEN),
        (f"{HIDDEN} 60 590 300 30 re W n /S sh", UNSEEN),
    ],
)  # fmt: skip
def test_hidden_text_is_left_out_and_counted(content: str, reason: str) -> None:
    document = read(f"{SEEN} q {content} Q")
    assert document.text == "Seen."
    assert document.findings == (Finding("hidden", reason, N_HIDDEN, (1,)),)
    included = read(f"{SEEN} q {content} Q", include_hidden=True)
    assert "hidden words" in included.text
    assert (included.findings, included.include_hidden) == (document.findings, True)


@pytest.mark.parametrize(
    "content",
    [
        f"0.75 g {HIDDEN}",  # pale print
        f"1 1 0 rg {HIDDEN}",  # yellow
        f"/Half gs {HIDDEN}",
        f"/Spot cs 1 scn {HIDDEN}",
        f"/Index cs 0 sc {HIDDEN}",
        f"/Lab cs 50 0 0 sc {HIDDEN}",
        f"/Pattern cs /Dark scn {HIDDEN}",
        f"/Masked gs {move('72 720')}",
        f"/Multiply gs {HIDDEN}",
        f"0 g 60 580 300 40 re f 1 g {HIDDEN}",  # white on black
        f"0 0 0.5 rg 60 590 m 60 630 300 630 300 590 c f 1 g {HIDDEN}",  # on a bow
        f"30 w 0 0 0.5 RG 60 603 m 300 603 l S 1 g {HIDDEN}",  # on a thick line
        f"/Pattern cs /Dark scn 60 590 300 30 re f 1 g {HIDDEN}",
        f"q 60 590 300 30 re W n /S sh Q 1 g {HIDDEN}",
        f"0.3 0.2 0.4 rg 60 580 300 40 re f /Screen gs 1 0.8 0 rg {HIDDEN}",
        f"1 G 0 g 0.2 w 2 Tr {HIDDEN}",  # black letters with white edges
        f"12 Tz {HIDDEN}",  # narrow, and still more than a point wide
        move("580 600"),  # runs off the page
        f"q 0 590 90 30 re W n {HIDDEN} Q",  # is cut by its clip
        f"q 0 0 m 0 792 l 612 0 l W n {HIDDEN} Q",
        f"{HIDDEN} 1 g 70 590 20 20 re f",  # is covered in part
        f"{HIDDEN} 0 g 72 598 100 0.5 re f",  # has a line through it
        f"{HIDDEN} 1 g 60 590 300 30 re 60 590 300 30 re f*",
        f"{HIDDEN} /Faint gs 1 g 60 590 300 30 re f",
        f"{HIDDEN} /Multiply gs 1 1 0 rg 60 590 300 30 re f",
        f"{HIDDEN} 1 G 40 w [4 4] 0 d 60 603 m 300 603 l S",  # a dashed line
        f"{HIDDEN} {HIDDEN}",  # twice in one place, as some programs make it bold
        f"{HIDDEN} {move('72.3 600')}",
        "BT /F1 90 Tf 72 600 Td (HHH) Tj /F1 10 Tf 20 20 Td 1 g (hidden words) Tj ET",
        "BT /F1 10 Tf 72 600 Td [(hidden) -30000 (words)] TJ ET",
        "BT /F1 10 Tf 0.6 0.8 -0.8 0.6 72 600 Tm [(hidden) -20000 (words)] TJ ET",
        "BT /F1 10 Tf 0 1 -1 0 72 600 Tm (hidden words) Tj ET",
    ],
)  # fmt: skip
def test_text_that_can_be_seen_stays(content: str) -> None:
    document = read(f"{SEEN} q {content} Q")
    assert "hidden" in document.text
    assert "words" in document.text
    assert document.findings == ()


@pytest.mark.parametrize(
    ("place", "hidden"),
    [
        ("120 600", "1 g"),  # white, in the gap between two words that can be seen
        ("72 600", "3 Tr"),
    ],
)
def test_hidden_text_between_and_under_words_that_can_be_seen(place: str, hidden: str) -> None:
    shown = "BT /F1 10 Tf 72 600 Td [(Left) -20000 (and right.)] TJ ET"
    for order in ("{one} {two}", "{two} {one}"):
        content = order.format(one=f"q {hidden} {move(place)} Q", two=shown)
        document = read(content)
        assert document.text.split() == ["Left", "and", "right."]
        assert document.findings[0].count == N_HIDDEN


@pytest.mark.parametrize(
    "content",
    [
        LONG.format("-233 600"),
        f"q 301 590 90 30 re W n {LONG.format('72 600')} Q",
        f"{LONG.format('72 600')} 1 g 70 590 231 30 re f",
    ],
)
def test_a_last_dot_does_not_save_a_run(content: str) -> None:
    assert read(f"{SEEN} {content}").text == "Seen."


def test_what_stands_beside_hidden_text_keeps_its_place() -> None:
    shown = "BT /F1 10 Tf 72 700 Td (one ) Tj 1 g (two ) Tj 0 g (three) Tj ET"
    assert read(shown).text == read(shown.replace("(two ) Tj", "[-2000] TJ")).text
    assert "two" not in read(shown).text


@pytest.mark.parametrize(
    "operator", ["14 TL 1 g (hidden words) ' 0 g", '14 TL 1 g 0 0 (hidden words) " 0 g']
)
def test_operators_that_begin_a_line_still_do(operator: str) -> None:
    document = read(f"BT /F1 10 Tf 72 700 Td (Seen.) Tj {operator} T* (More.) Tj ET")
    assert document.text.split() == ["Seen.", "More."]


@pytest.mark.parametrize("mode", ["3 Tr", "0 Tr", "1 g"])
@pytest.mark.parametrize("order", ["{image} {text}", "{text} {image}"])
def test_the_text_of_a_scan_stays(order: str, mode: str) -> None:
    text = HIDDEN.replace("Td", f"Td {mode}")
    document = read(order.format(image="q 612 0 0 792 0 0 cm /Im Do Q", text=text))
    assert (document.text, document.findings) == ("hidden words", ())


def test_text_that_bounds_what_is_painted_later_stays() -> None:
    assert "hidden" in read(f"q {HIDDEN.replace('Td', 'Td 7 Tr')} 60 590 300 30 re f Q").text


def test_text_outside_of_the_crop_box_is_hidden() -> None:
    data = build(f"{SEEN} {HIDDEN}", page="/CropBox [0 650 612 792] /Rotate 90")
    document = parse_here(data)
    assert (document.text, document.findings[0].what) == ("Seen.", "off the page")


BOX = form("1 g 60 590 300 30 re f", box="60 590 360 620")


@pytest.mark.parametrize(
    ("entries", "is_hidden"),
    [
        ("/Subtype /Square /AP << /N 6 0 R >>", True),
        ("/Subtype /Stamp /AS /On /AP << /N << /On 6 0 R >> >>", True),
        ("/Subtype /Stamp /AS /Off /AP << /N << /On 6 0 R >> >>", False),
        ("/Subtype /Square /F 2 /AP << /N 6 0 R >>", False),
        ("/Subtype /Square /F 32 /AP << /N 6 0 R >>", False),
        ("/Subtype /Popup /AP << /N 6 0 R >>", False),
        ("/Subtype /Highlight /AP << /N 6 0 R >>", False),
        ("/Subtype /Square", False),
        ("/Subtype /Square /AP << /N 7 0 R >>", False),
    ],
)
def test_what_annotations_show_covers_text(entries: str, is_hidden: bool) -> None:
    annotation = f"/Annots [<< /Rect [60 590 360 620] {entries} >>]"
    extra = [BOX, BOX.replace("re f", "re S")]
    document = parse_here(build(f"{SEEN} {HIDDEN}", page=annotation, extra=extra))
    assert [finding.what for finding in document.findings] == [UNSEEN] * is_hidden
    assert ("hidden" not in document.text) == is_hidden


def test_pages_are_named_and_counts_added_up() -> None:
    pages = [SEEN, f"{SEEN} 1 g {HIDDEN}", f"{SEEN} 1 g {HIDDEN}", SEEN]
    document = parse_here(make_pdf(pages, font=HALF_EM), "a.pdf")
    assert document.findings == (Finding("hidden", UNSEEN, 2 * N_HIDDEN, (2, 3)),)


def test_a_document_of_hidden_text_alone_is_refused_with_the_way_on() -> None:
    with pytest.raises(DocumentError) as caught:
        read(f"1 g {HIDDEN}")
    assert caught.value.message == f"a.pdf: all of its text is hidden ({UNSEEN})"
    assert "--include-hidden" in str(caught.value.hint)
    assert read(f"1 g {HIDDEN}", include_hidden=True).text == "hidden words"


def test_hidden_text_of_an_encrypted_file_is_left_out() -> None:
    locked = encrypt_pdf(build(f"{SEEN} 1 g {HIDDEN}"), "open", "boss")
    for password in ("open", "boss"):
        document = read_bytes(locked, "a.pdf", password=password)
        assert (document.text, document.findings[0].what) == ("Seen.", UNSEEN)


def test_operands_of_the_wrong_kind_are_passed_over() -> None:
    bad = "/x /y cm (a) w 1 2 re /no gs [] sc /None cs /no Do /OC /no BDC 1 Tr (x) Tz 5 l W n Q Q"
    assert "Seen." in read(f"q {bad} Q {SEEN}").text


def test_numbers_too_large_to_multiply_hide_nothing_else() -> None:
    huge = "1" + "0" * 38
    content = (
        f"q {huge} 0 0 {huge} 0 0 cm " * 5 + f"-1 -1 m -{huge} -1 l -1 -{huge} l f " + "Q " * 5
    )
    document = read(f"{SEEN} {content} {HIDDEN}")
    assert document.text.split("\n\n") == ["Seen.", "hidden words"]


@pytest.mark.parametrize("size", [8.5, 9_000])
def test_pages_of_any_size_keep_their_text_and_lose_what_is_hidden(size: float) -> None:
    content = "BT /F1 {0} Tf {1} {1} Td (Seen.) Tj 1 g 0 {1} Td (hidden) Tj ET"
    content = content.format(0.02 * size if size < 10 else 10, 0.1 * size)
    data = build(content).replace(b"[0 0 612 792]", f"[0 0 {size} {size}]".encode())
    document = parse_here(data)
    assert (document.text, document.findings[0].what) == ("Seen.", UNSEEN)


def test_text_too_small_for_the_pixels_of_a_page_is_taken_to_be_seen() -> None:
    data = build(SEEN).replace(b"[0 0 612 792]", b"[0 0 90000 90000]")
    assert parse_here(data).text == "Seen."


def test_text_without_a_font_is_hidden() -> None:
    document = read(f"{HIDDEN.replace('/F1 10 Tf', '')} {SEEN}")
    assert (document.text, document.findings[0].what) == ("Seen.", UNSEEN)


def test_text_in_a_font_that_the_viewer_lacks_is_taken_to_be_seen() -> None:
    font = (
        b"<< /Type /Font /Subtype /Type0 /BaseFont /MSMincho /Encoding /90ms-RKSJ-H "
        b"/DescendantFonts [<< /Type /Font /Subtype /CIDFontType2 /BaseFont /MSMincho /DW 1000 "
        b"/CIDSystemInfo << /Registry (Adobe) /Ordering (Japan1) /Supplement 2 >> >>] >>"
    )
    shown = "BT /F1 20 Tf 72 600 Td <93fa967b8cea> Tj ET"
    document = parse_here(make_pdf([shown], font=font), "a.pdf")
    assert (document.text, document.findings) == ("日本語", ())


def test_a_letter_before_many_spaces_of_a_font_of_two_byte_codes_stays() -> None:
    font = (
        b"<< /Type /Font /Subtype /Type0 /BaseFont /Serif /Encoding /UniJIS-UTF16-H "
        b"/DescendantFonts [<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Serif /DW 500 "
        b"/CIDSystemInfo << /Registry (Adobe) /Ordering (Japan1) /Supplement 2 >> >>] >>"
    )
    shown = f"BT /F1 10 Tf 72 600 Td <0031{'0020' * 80}> Tj ET"
    assert parse_here(make_pdf([shown], font=font), "a.pdf").text == "1"
    with pytest.raises(DocumentError, match=UNSEEN):
        parse_here(make_pdf([f"1 g {shown}"], font=font), "a.pdf")


def test_text_that_cannot_be_drawn_is_taken_to_be_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise viewer.pdfium.PdfiumError("no")

    monkeypatch.setattr(viewer.pdfium, "PdfDocument", fail)
    document = read(f"{SEEN} {HIDDEN}")
    assert "hidden" in document.text
    assert document.notes[0].startswith("1 of 1 pages (p. 1) have content that pdfium cannot draw")


def test_the_end_of_a_line_that_is_too_long_is_kept_and_told() -> None:
    shown = "BT /F1 10 Tf 560 700 Td (on the page ) Tj (and off it) Tj ET"
    document = read(f"{SEEN} {shown}")
    assert document.text.endswith("on the page and off it")
    assert document.findings == (
        Finding("overflow", "ends of lines off the page", len("andoffit"), (1,)),
    )


def test_the_end_of_a_line_far_off_the_page_is_hidden() -> None:
    document = read(f"{SEEN} BT /F1 10 Tf 560 700 Td (on the page ) Tj ({'x' * 200}) Tj ET")
    assert document.text.endswith("on the page")
    assert document.findings == (Finding("hidden", "off the page", 200, (1,)),)


@pytest.mark.parametrize(
    ("make", "n"),
    [
        (lambda n: f"0.2 g 60 590 300 30 re f {HIDDEN} " * n, 500),
        (lambda n: f"q 60 590 300 30 re W n /S sh Q {HIDDEN} " * n, 300),
        (lambda n: "BT /F1 10 Tf 72 600 Td " + "(a word ) Tj " * n + "ET", 1000),
        (lambda n: "BT /F1 4 Tf 0 780 Td " + "(a) Tj 1 -1 Td " * n + "ET", 500),
        (lambda n: f"BT /F1 400 Tf 72 100 Td (H) Tj ET {HIDDEN} " * n, 100),
    ],
    ids=["areas over text", "shadings", "a line of many runs", "glyphs", "text over text"],
)
def test_four_times_as_much_on_a_page_takes_about_four_times_as_long(
    make: Callable[[int], str], n: int
) -> None:
    def take(n: int) -> float:
        data = build(f"{SEEN} {make(n)}", resources=RESOURCES, extra=EXTRA)
        return measure(lambda data: parse_here(data, "a.pdf", include_hidden=True), data)

    take(10)
    assert_four_times(take, n // 2)
