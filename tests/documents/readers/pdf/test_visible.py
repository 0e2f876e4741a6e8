"""Text that a reader of a PDF cannot see is left out and counted, and nothing else is."""

from collections.abc import Sequence

import pytest

from d2l.documents.document import Document
from d2l.documents.findings import Finding
from d2l.errors import DocumentError
from tests.documents.samples import HALF_EM, make_pdf, parse_here, write_objects

SEEN = "BT /F1 10 Tf 72 700 Td (Seen.) Tj ET"
HIDDEN = "BT /F1 10 Tf 72 600 Td (hidden words) Tj ET"
N_HIDDEN = len("hiddenwords")
WHITE_BOX = "1 g 70 590 200 20 re f"


def read(content: str, *, include_hidden: bool = False) -> Document:
    return parse_here(make_pdf([content], font=HALF_EM), "a.pdf", include_hidden=include_hidden)


def build(content: str, *, resources: str = "", page: str = "", catalog: str = "",
          extra: Sequence[str] = ()) -> bytes:  # fmt: skip
    """A page with entries of its own; extra objects are numbered from 6."""
    stream = content.encode("cp1252")
    return write_objects(
        [
            f"<< /Type /Catalog /Pages 2 0 R {catalog} >>".encode(),
            b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
            HALF_EM,
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] {page} "
            f"/Resources << /Font << /F1 3 0 R >> {resources} >> /Contents 5 0 R >>".encode(),
            b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
            *(text.encode("cp1252") for text in extra),
        ]
    )


def form(content: str, entries: str = "") -> str:
    return (
        f"<< /Type /XObject /Subtype /Form /BBox [0 0 612 792] {entries} "
        f"/Length {len(content)} >>\nstream\n{content}\nendstream"
    )


GROUND = "in the color of its ground"
INVISIBLE = "drawn in the invisible mode"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (f"1 g {HIDDEN}", GROUND),
        (f"1 1 1 rg {HIDDEN}", GROUND),
        (f"0.97 0.97 1 rg {HIDDEN}", GROUND),
        (f"0 0 0 0 k {HIDDEN}", GROUND),
        (f"/DeviceRGB cs 1 1 1 sc {HIDDEN}", GROUND),
        (f"0 g 60 580 300 40 re f {HIDDEN}", GROUND),
        (f"0.2 0.2 0.6 rg 60 580 300 40 re f 0.22 0.2 0.6 rg {HIDDEN}", GROUND),
        (f"1 G 1 Tr {HIDDEN}", GROUND),
        (f"0 g 10 10 300 40 re f 1 g 60 580 300 40 re f {HIDDEN}", GROUND),
        (f"1 g {HIDDEN} 0 g 72 598 100 1 re f", GROUND),
        (HIDDEN.replace("Td", "Td 3 Tr"), INVISIBLE),
        (HIDDEN.replace("Td", "Td 7 Tr"), INVISIBLE),
        (HIDDEN.replace("10 Tf", "0 Tf"), "tiny"),
        (HIDDEN.replace("10 Tf", "0.01 Tf"), "tiny"),
        (f"q 0.05 0 0 0.05 50 600 cm {HIDDEN} Q", "tiny"),
        (HIDDEN.replace("Td", "Td 0.1 Tz"), "tiny"),
        (HIDDEN.replace("72 600", "700 600"), "off the page"),
        (HIDDEN.replace("72 600", "72 -50"), "off the page"),
        (HIDDEN.replace("72 600", "-300 600"), "off the page"),
        (f"q 0 0 10 10 re W n {HIDDEN} Q", "clipped away"),
        (f"q 0 700 m 600 700 l 600 790 l 0 790 l h W* n {HIDDEN} Q", "clipped away"),
        (f"{HIDDEN} {WHITE_BOX}", "covered"),
        (f"{HIDDEN} 1 g 70 590 30 20 re f 100 590 200 20 re f", "covered"),
        (f"{HIDDEN} 1 g " + " ".join(f"70 {590 + n} 200 1.1 re f" for n in range(20)), "covered"),
        (f"{HIDDEN} 1 G 40 w 60 603 m 300 603 l S", "covered"),
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
        "0.75 g",  # pale print
        "1 1 0 rg",  # yellow
        "0 g 60 580 300 40 re f 1 g",  # white on black
        "0.1 0.1 0.4 rg 60 580 m 300 580 l 320 600 l 300 620 l 60 620 l f 1 g",  # a pentagon
        "0 0 0.5 rg 60 590 m 60 630 300 630 300 590 c f 1 g",  # a bow
        "30 w 0 0 0.5 RG 60 603 m 300 603 l S 1 g",  # a thick line
        "/Pattern cs /P1 scn",
        "1 G 0 g 2 Tr",  # black letters with white edges
        "0 g 12 Tz",  # narrow, and still more than a point wide
        "0 g 60 580 300 40 re f* 1 g",
        " ".join(f"{n / 40} 0 0 rg 60 {590 + n / 2} 300 0.5 re f" for n in range(40)) + " 1 g",
    ],
)
def test_text_that_can_be_seen_stays(content: str) -> None:
    document = read(f"{SEEN} q {content} {HIDDEN} Q")
    assert document.text.split("\n\n") == ["Seen.", "hidden words"]
    assert document.findings == ()


@pytest.mark.parametrize(
    "content",
    [
        HIDDEN.replace("72 600", "580 600"),  # runs off the page
        f"q 0 590 90 30 re W n {HIDDEN} Q",  # is cut by its clip
        f"{HIDDEN} 1 g 70 590 20 20 re f",  # is covered in part
        f"{HIDDEN} 0 g 72 598 100 0.5 re f",  # has a line through it
        f"{HIDDEN} 1 g " + " ".join(f"70 {590 + 2 * n} 200 1 re f" for n in range(10)),  # strips
        f"{HIDDEN} 1 G 40 w [4 4] 0 d 60 603 m 300 603 l S",  # a dashed line
        f"{HIDDEN} q 1 0 0 1 0 0 cm 100 0 0 20 70 590 cm BI /W 1 /H 1 /BPC 8 /CS /G ID \xff EI Q",
    ],
)
def test_text_that_is_seen_in_part_stays(content: str) -> None:
    document = read(f"{SEEN} {content}")
    assert "hidden words" in document.text
    assert document.findings == ()


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


IMAGE = "<< /Type /XObject /Subtype /Image /Width 1 /Height 1 >>\nstream\n\nendstream"


@pytest.mark.parametrize("order", ["{image} {text}", "{text} {image}"])
def test_the_text_of_a_scan_stays(order: str) -> None:
    content = order.format(
        image="q 612 0 0 792 0 0 cm /Im Do Q", text=HIDDEN.replace("Td", "Td 3 Tr")
    )
    document = parse_here(build(content, resources="/XObject << /Im 6 0 R >>", extra=[IMAGE]))
    assert (document.text, document.findings) == ("hidden words", ())


def test_invisible_text_beside_an_image_is_no_scan() -> None:
    content = f"{SEEN} q 50 0 0 50 400 50 cm /Im Do Q {HIDDEN.replace('Td', 'Td 3 Tr')}"
    document = parse_here(build(content, resources="/XObject << /Im 6 0 R >>", extra=[IMAGE]))
    assert (document.text, document.findings[0].what) == ("Seen.", INVISIBLE)


def test_text_outside_of_the_crop_box_is_hidden() -> None:
    document = parse_here(build(f"{SEEN} {HIDDEN}", page="/CropBox [0 650 612 792]"))
    assert (document.text, document.findings[0].what) == ("Seen.", "off the page")


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("/ca 0", "transparent"),
        ("/ca 0.01 /CA 0.01", "transparent"),
        ("/Font [3 0 R 0]", "tiny"),
        ("/ca 0.06", "transparent"),
        ("/BM /Screen", GROUND),  # black
        ("/BM [/Lighten /Normal]", GROUND),
        ("/BM /Difference", GROUND),
        ("/BM /Multiply", ""),
        ("/BM /Overlay", GROUND),  # lightens white paper, whatever the ink
        ("/ca 0.5", ""),
    ],
)
def test_states_of_graphics_count(state: str, reason: str) -> None:
    shown = "BT /F1 10 Tf /G gs 72 600 Td (hidden words) Tj ET"
    data = build(f"{SEEN} {shown}", resources=f"/ExtGState << /G << {state} >> >>")
    document = parse_here(data)
    assert [finding.what for finding in document.findings] == ([reason] if reason else [])
    assert ("hidden" in document.text) == (not reason)


@pytest.mark.parametrize("blend", ["ColorBurn", "Overlay", "SoftLight", "Screen"])
def test_white_on_paper_is_hidden_however_it_is_blended(blend: str) -> None:
    data = build(f"{SEEN} /G gs 1 g {HIDDEN}", resources=f"/ExtGState << /G << /BM /{blend} >> >>")
    assert parse_here(data).text == "Seen."


@pytest.mark.parametrize(("alpha", "is_hidden"), [(0.2, True), (0.5, False)])
def test_groups_inside_groups_are_as_faint_as_both_together(alpha: float, is_hidden: bool) -> None:
    states = f"/ExtGState << /G << /ca {alpha} >> >>"
    group = "/Group << /S /Transparency >>"
    inner = form(f"/G gs {HIDDEN}", f"{group} /Resources << /Font << /F1 3 0 R >> {states} >>")
    data = build(
        f"{SEEN} /G gs /Fm Do", resources=f"{states} /XObject << /Fm 6 0 R >>", extra=[inner]
    )
    assert ("hidden" not in parse_here(data).text) == is_hidden


def test_white_that_multiplies_is_hidden_on_any_ground() -> None:
    content = f"{SEEN} 0 0 1 rg 60 580 300 40 re f /G gs 1 g {HIDDEN}"
    data = build(content, resources="/ExtGState << /G << /BM /Multiply >> >>")
    assert parse_here(data).text == "Seen."


@pytest.mark.parametrize(
    ("space", "operands", "is_hidden"),
    [
        ("[/ICCBased 6 0 R]", "1 1 1", True),
        ("[/ICCBased 6 0 R]", "0 0 0", False),
        ("[/Indexed /DeviceRGB 1 <000000FFFFFF>]", "1", True),
        ("[/Indexed /DeviceRGB 1 <000000FFFFFF>]", "0", False),
        ("[/Separation /Spot /DeviceCMYK 7 0 R]", "0", True),
        ("[/Separation /Spot /DeviceCMYK 7 0 R]", "1", False),
        ("[/Separation /Black /DeviceCMYK 7 0 R]", "0.01", True),
        ("[/DeviceN [/A /B] /DeviceCMYK 7 0 R]", "0 0", True),
        ("[/Lab << /WhitePoint [1 1 1] >>]", "100 0 0", True),
        ("[/Lab << /WhitePoint [1 1 1] >>]", "50 0 0", False),
        ("[/CalGray << /WhitePoint [1 1 1] >>]", "1", True),
        ("[/Pattern]", "/P1", False),
    ],
)
def test_white_is_white_in_every_color_space(space: str, operands: str, is_hidden: bool) -> None:
    profile = "<< /N 3 /Length 0 >>\nstream\n\nendstream"
    tint = "<< /FunctionType 2 /Domain [0 1] /C0 [0 0 0 0] /C1 [0 1 1 0] /N 1 >>"
    data = build(
        f"{SEEN} /CS0 cs {operands} scn {HIDDEN}",
        resources=f"/ColorSpace << /CS0 {space} >>",
        extra=[profile, tint],
    )
    assert ("hidden" not in parse_here(data).text) == is_hidden


LAYERS = "/OCProperties << /OCGs [6 0 R 7 0 R] /D << %s >> >>"
LAYER = "<< /Type /OCG /Name (Notes) %s >>"


@pytest.mark.parametrize(
    ("catalog", "content", "is_hidden"),
    [
        ("/OFF [6 0 R]", "6 0 R", True),
        ("/OFF [7 0 R]", "6 0 R", False),
        ("/BaseState /OFF", "6 0 R", True),
        ("/BaseState /OFF /ON [6 0 R]", "6 0 R", False),
        ("/AS [<< /Event /View /Category [/View] /OCGs [6 0 R] >>]", "6 0 R", True),
        ("/AS [<< /Event /Print /Category [/Print] /OCGs [6 0 R] >>]", "6 0 R", False),
        ("/OFF [6 0 R]", "<< /Type /OCMD /OCGs [6 0 R 7 0 R] >>", False),
        ("/OFF [6 0 R]", "<< /Type /OCMD /OCGs [6 0 R 7 0 R] /P /AllOn >>", True),
        ("/OFF [6 0 R]", "<< /Type /OCMD /OCGs 6 0 R >>", True),
        ("/OFF [6 0 R]", "<< /Type /OCMD /OCGs 6 0 R /P /AllOff >>", False),
        ("/OFF [6 0 R]", "<< /Type /OCMD /VE [/Not 6 0 R] >>", False),
        ("/OFF [6 0 R]", "<< /Type /OCMD /VE [/And 6 0 R 7 0 R] >>", True),
    ],
)
def test_layers_that_are_off_are_hidden(catalog: str, content: str, is_hidden: bool) -> None:
    data = build(
        f"{SEEN} /OC /L1 BDC /Span BMC {HIDDEN} EMC EMC",
        resources=f"/Properties << /L1 {content} >>",
        catalog=LAYERS % catalog,
        extra=[LAYER % "/Usage << /View << /ViewState /OFF >> >>", LAYER % ""],
    )
    document = parse_here(data)
    assert [finding.what for finding in document.findings] == (
        ["on a layer that is off"] if is_hidden else []
    )
    assert ("hidden" in document.text) != is_hidden


FONT = "/Resources << /Font << /F1 3 0 R >> >>"


@pytest.mark.parametrize(
    ("before", "inner", "entries"),
    [
        ("1 g", HIDDEN, FONT),
        ("", f"1 g {HIDDEN}", FONT),
        ("", HIDDEN, f"{FONT} /Matrix [0.01 0 0 0.01 0 0]"),
        ("1 0 0 1 700 0 cm", HIDDEN, FONT),
        ("", HIDDEN, FONT.replace("/Resources", "/BBox [0 0 10 10] /Resources")),
        ("", HIDDEN, f"{FONT} /OC 7 0 R"),
    ],
)
def test_forms_are_looked_into(before: str, inner: str, entries: str) -> None:
    content = f"{SEEN} q {before} /Fm Do Q"
    shown = form(f"{inner}", entries)
    if "/BBox" in entries:
        shown = shown.replace("/BBox [0 0 612 792] ", "", 1)
    data = build(
        content,
        resources="/XObject << /Fm 6 0 R >>",
        catalog=(LAYERS % "/OFF [7 0 R]").replace("6 0 R ", ""),
        extra=[shown, LAYER % ""],
    )
    document = parse_here(data)
    assert (document.text, document.findings[0].count) == ("Seen.", N_HIDDEN)


def test_a_form_that_is_seen_once_and_hidden_once_is_read_once() -> None:
    data = build(
        f"q 1 0 0 1 700 0 cm /Fm Do Q /Fm Do {SEEN}",
        resources="/XObject << /Fm 6 0 R >>",
        extra=[form(HIDDEN.replace("hidden words", "Also seen."), FONT)],
    )
    document = parse_here(data)
    assert sorted(document.text.split("\n\n")) == ["Also seen.", "Seen."]
    assert document.findings == (Finding("hidden", "off the page", len("Alsoseen."), (1,)),)


def test_pages_are_named_and_counts_added_up() -> None:
    pages = [SEEN, f"{SEEN} 1 g {HIDDEN}", f"{SEEN} 1 g {HIDDEN}", SEEN]
    document = parse_here(make_pdf(pages, font=HALF_EM), "a.pdf")
    assert document.findings == (Finding("hidden", GROUND, 2 * N_HIDDEN, (2, 3)),)


def test_a_document_of_hidden_text_alone_is_refused_with_the_way_on() -> None:
    with pytest.raises(DocumentError) as caught:
        read(f"1 g {HIDDEN}")
    assert caught.value.message == f"a.pdf: all of its text is hidden ({GROUND})"
    assert "--include-hidden" in str(caught.value.hint)
    assert read(f"1 g {HIDDEN}", include_hidden=True).text == "hidden words"


def test_operands_of_the_wrong_kind_are_passed_over() -> None:
    bad = "/x /y cm (a) w 1 2 re /no gs [] sc /None cs /no Do /OC /no BDC 1 Tr (x) Tz 5 l W n Q Q"
    assert "Seen." in read(f"q {bad} Q {SEEN}").text


def test_the_page_that_is_small_itself_keeps_its_text() -> None:
    content = "BT /F1 0.16 Tf 1 10 Td (Seen.) Tj ET"
    data = build(content).replace(b"[0 0 612 792]", b"[0 0 8.5 11]  ")
    assert parse_here(data).text == "Seen."


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
