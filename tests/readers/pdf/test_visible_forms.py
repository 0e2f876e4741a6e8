"""Text of a PDF that is hidden by a layer, or inside forms."""

import pytest

from d2l.readers.findings import Finding
from tests.documents.samples import parse_here
from tests.readers.pdf.pages import FONT, build, form
from tests.readers.pdf.test_visible import HIDDEN, N_HIDDEN, SEEN, UNSEEN

LAYERS = "/OCProperties << /OCGs [6 0 R 7 0 R] /D << %s >> >>"
LAYER = "<< /Type /OCG /Name (Notes) %s >>"


@pytest.mark.parametrize(
    ("catalog", "content", "is_hidden"),
    [
        ("/OFF [6 0 R]", "6 0 R", True),
        ("/OFF [7 0 R]", "6 0 R", False),
        ("/BaseState /OFF", "6 0 R", True),
        ("/BaseState /OFF /ON [6 0 R]", "6 0 R", False),
        ("/OFF [6 0 R]", "<< /Type /OCMD /OCGs [6 0 R 7 0 R] >>", False),
        ("/OFF [6 0 R]", "<< /Type /OCMD /OCGs [6 0 R 7 0 R] /P /AllOn >>", True),
        ("/OFF [6 0 R]", "<< /Type /OCMD /OCGs [6 0 R] /P /AllOff >>", False),
        ("/OFF [6 0 R]", "<< /Type /OCMD /VE [/Not 6 0 R] >>", False),
        ("/OFF [6 0 R]", "<< /Type /OCMD /VE [/And 6 0 R 7 0 R] >>", True),
    ],
)
def test_layers_that_are_off_are_hidden(catalog: str, content: str, is_hidden: bool) -> None:
    data = build(
        f"{SEEN} /OC /L1 BDC /Span BMC {HIDDEN} EMC EMC",
        resources=f"/Properties << /L1 {content} >>",
        catalog=LAYERS % catalog,
        extra=[LAYER % "", LAYER % ""],
    )
    document = parse_here(data)
    assert [finding.what for finding in document.findings] == [UNSEEN] * is_hidden
    assert ("hidden" in document.text) != is_hidden


@pytest.mark.parametrize(
    ("before", "inner"),
    [
        ("1 g", form(HIDDEN)),
        ("", form(f"1 g {HIDDEN}")),
        ("", form(HIDDEN, f"{FONT} /Matrix [0.01 0 0 0.01 0 0]")),
        ("1 0 0 1 700 0 cm", form(HIDDEN)),
        ("", form(HIDDEN, box="0 0 10 10")),
        ("", form(HIDDEN, f"{FONT} /OC 7 0 R")),
        ("/None gs", form(HIDDEN, f"{FONT} /Group << /S /Transparency >>")),
    ],
)
def test_forms_are_looked_into(before: str, inner: str) -> None:
    data = build(
        f"{SEEN} q {before} /Fm Do Q",
        resources="/XObject << /Fm 6 0 R >> /ExtGState << /None << /ca 0 >> >>",
        catalog=(LAYERS % "/OFF [7 0 R]").replace("6 0 R ", ""),
        extra=[inner, LAYER % ""],
    )
    document = parse_here(data)
    assert (document.text, document.findings[0].count) == ("Seen.", N_HIDDEN)


def test_a_form_that_is_seen_once_and_hidden_once_is_read_once() -> None:
    data = build(
        f"q 1 0 0 1 700 0 cm /Fm Do Q /Fm Do {SEEN}",
        resources="/XObject << /Fm 6 0 R >>",
        extra=[form(HIDDEN.replace("hidden words", "Also seen."))],
    )
    document = parse_here(data)
    assert sorted(document.text.split("\n\n")) == ["Also seen.", "Seen."]
    assert document.findings == (Finding("hidden", "off the page", len("Alsoseen."), (1,)),)


def test_a_form_keeps_what_is_beside_its_hidden_text() -> None:
    data = build(
        "/Fm Do",
        resources="/XObject << /Fm 6 0 R >>",
        extra=[form("BT /F1 10 Tf 72 700 Td (one ) Tj 1 g (two ) Tj 0 g (three) Tj ET")],
    )
    assert parse_here(data).text.split() == ["one", "three"]


@pytest.mark.parametrize("depth", [3, 12, 60])
def test_text_of_forms_inside_forms_is_hidden_however_deep(depth: int) -> None:
    inner = "/Resources << /XObject << /Fm {} 0 R >> >>"
    forms = [form("/Fm Do", inner.format(number)) for number in range(7, 6 + depth)]
    forms.append(form(f"1 g {HIDDEN}"))
    data = build(f"{SEEN} /Fm Do", resources="/XObject << /Fm 6 0 R >>", extra=forms)
    document = parse_here(data)
    assert document.text == "Seen."
    assert document.findings


def test_forms_without_end_are_read_once_and_noted() -> None:
    resources = "/XObject << /Fm 6 0 R >>"
    own = form(f"{HIDDEN} /Fm Do /Fm Do", f"/Resources << /Font << /F1 3 0 R >> {resources} >>")
    document = parse_here(build(f"{SEEN} /Fm Do", resources=resources, extra=[own]))
    assert document.text.split("\n\n") == ["Seen.", "hidden words"]
    assert document.notes == (
        "1 of 1 pages (p. 1) have content that pdfium cannot draw; hidden text there is not left "
        "out",
    )
