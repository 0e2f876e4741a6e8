"""Styles of a Word document count, those of tables where they are the same for all cells."""

import time

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import parse_xml

from d2l.documents.document import Document
from d2l.errors import DocumentError
from tests.documents.samples import parse_here, save_docx

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
WHITE = '<w:rPr><w:color w:val="FFFFFF"/></w:rPr>'
TINY = '<w:rPr><w:sz w:val="2"/></w:rPr>'
SHADE = '<w:shd w:val="clear" w:fill="000080"/>'
DARK = f"<w:tcPr>{SHADE}</w:tcPr>"


def read(document: docx.document.Document) -> Document:
    return parse_here(save_docx(document), "a.docx")


def add_style(document: docx.document.Document, kind: str, inside: str, base: str = "") -> None:
    """Add style "T", or "B" with what it is based on."""
    identity = "B" if base else "T"
    based = f'<w:basedOn w:val="{base}"/>' if base else ""
    document.styles.element.append(
        parse_xml(
            f'<w:style {W} w:type="{kind}" w:styleId="{identity}"><w:name w:val="{identity}"/>'
            f"{based}{inside}</w:style>"
        )
    )


def part(name: str, *inside: str) -> str:
    return f'<w:tblStylePr w:type="{name}">{"".join(inside)}</w:tblStylePr>'


def table(inside: str, *, own: str = "", style: str = "T", usual: str = "") -> str:
    """The text of a table of three rows and columns, whose cells have their place as text."""
    document = docx.Document()
    document.add_paragraph("Seen.")
    add_style(document, "table", inside)
    add_style(document, "table", "", base="T")
    rows = "".join(
        "<w:tr>"
        + "".join(
            f"<w:tc><w:p><w:r>{own}<w:t>{row}{column}</w:t></w:r></w:p></w:tc>"
            for column in range(3)
        )
        + "</w:tr>"
        for row in range(3)
    )
    properties = f'<w:tblPr><w:tblStyle w:val="{style}"/></w:tblPr>'
    (defaults,) = document.styles.element.iter("{*}rPrDefault")
    if usual:
        defaults[:] = [parse_xml(usual.replace("<w:rPr", f"<w:rPr {W}"))]
    document.element.body.insert(1, parse_xml(f"<w:tbl {W}>{properties}{rows}</w:tbl>"))
    return read(document).text.removeprefix("Seen.").strip().replace(" | ", " ").replace("\n", ",")


@pytest.mark.parametrize("style", ["T", "B"])
@pytest.mark.parametrize("inside", ["<w:rPr><w:vanish/></w:rPr>", WHITE, TINY])
def test_the_style_of_a_table_hides_its_text(inside: str, style: str) -> None:
    assert table(inside, style=style) == ""


@pytest.mark.parametrize("style", ["T", "B"])
@pytest.mark.parametrize(
    "inside",
    [
        WHITE + DARK,
        part("firstRow", DARK),
        part("wholeTable", WHITE, DARK),
        f"<w:tblPr>{SHADE}</w:tblPr>",
        f"<w:pPr>{SHADE}</w:pPr>",
    ],
)
def test_white_text_in_a_table_whose_style_may_shade_it_stays(inside: str, style: str) -> None:
    own = "" if WHITE in inside else WHITE
    assert table(inside, own=own, style=style) == "00 01 02,10 11 12,20 21 22"


def test_text_that_all_else_hides_may_be_shown_by_a_part_of_a_tables_style() -> None:
    shown = part("firstRow", '<w:rPr><w:color w:val="000000"/><w:sz w:val="20"/></w:rPr>')
    usual = '<w:rPr><w:color w:val="FFFFFF"/><w:sz w:val="2"/></w:rPr>'
    assert table(shown, usual=usual).startswith("00")
    with pytest.raises(DocumentError, match="all of its text is hidden"):
        table("", usual=usual)


def test_no_part_of_a_style_that_word_has_is_hidden() -> None:
    document = docx.Document()
    names = [style.name for style in document.styles if style.type == WD_STYLE_TYPE.TABLE]
    for name in (name for name in names if "Accent" not in name or "Accent 3" in name):
        for look in ("01E0", "00A0", "0000"):
            made = document.add_table(2, 2, style=name)
            (shown,) = made._tbl.tblPr.iterchildren("{*}tblLook")
            shown.attrib.clear()
            shown.set(shown.tag.replace("tblLook", "val"), look)
            for cell in (*made.rows[0].cells, *made.rows[1].cells):
                cell.text = "x"
    assert not read(document).findings


def test_a_paragraph_counts_over_its_style() -> None:
    document = docx.Document()
    add_style(document, "paragraph", '<w:pPr><w:shd w:val="clear" w:fill="FFFFFF"/></w:pPr>')
    body = (
        f'<w:p {W}><w:pPr><w:pStyle w:val="T"/>{SHADE}</w:pPr><w:r>{WHITE}<w:t>seen</w:t></w:r>'
        "</w:p>"
    )
    document.element.body.insert(0, parse_xml(body))
    assert read(document).text == "seen"


@pytest.mark.parametrize(("style", "is_hidden"), [("T", True), ("B", True), ("C", False)])
def test_two_styles_that_hide_show_together(style: str, is_hidden: bool) -> None:
    document = docx.Document()
    document.add_paragraph("Seen.")
    add_style(document, "paragraph", "<w:rPr><w:vanish/></w:rPr>")
    add_style(document, "paragraph", "", base="T")
    mark = "<w:rPr><w:vanish/></w:rPr>"
    document.styles.element.append(
        parse_xml(f'<w:style {W} w:type="character" w:styleId="C">{mark}</w:style>')
    )
    of_run = '<w:rPr><w:rStyle w:val="C"/></w:rPr>' if style == "C" else ""
    body = (
        f'<w:p {W}><w:pPr><w:pStyle w:val="B"/></w:pPr><w:r>{of_run}<w:t>hidden</w:t></w:r></w:p>'
    )
    document.element.body.insert(1, parse_xml(body))
    assert ("hidden" not in read(document).text) == is_hidden


def test_a_style_of_another_kind_is_none() -> None:
    document = docx.Document()
    document.add_paragraph("Seen.")
    add_style(document, "paragraph", "<w:rPr><w:vanish/></w:rPr>")
    body = (
        f'<w:p {W}><w:pPr><w:pStyle w:val="T"/></w:pPr><w:r><w:rPr><w:rStyle w:val="T"/></w:rPr>'
        "<w:t>hidden</w:t></w:r></w:p>"
    )
    document.element.body.insert(1, parse_xml(body))
    assert read(document).text == "Seen."


def test_a_long_chain_of_styles_hides_and_a_ring_takes_no_time() -> None:
    document = docx.Document()
    document.add_paragraph("Seen.")
    n_styles = 8000
    add_style(document, "paragraph", "<w:rPr><w:vanish/></w:rPr>")
    for number in range(n_styles):
        base = f"S{number - 1}" if number else "T"
        ring = f"R{(number + 1) % n_styles}"
        for name, parent in ((f"S{number}", base), (f"R{number}", ring)):
            document.styles.element.append(
                parse_xml(
                    f'<w:style {W} w:type="paragraph" w:styleId="{name}">'
                    f'<w:basedOn w:val="{parent}"/></w:style>'
                )
            )
    for name, text in ((f"S{n_styles - 1}", "hidden"), ("R0", "shown")):
        body = (
            f'<w:p {W}><w:pPr><w:pStyle w:val="{name}"/></w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>'
        )
        document.element.body.insert(1, parse_xml(body))
    data = save_docx(document)
    started = time.process_time()
    assert parse_here(data, "a.docx").text == "Seen.\n\nshown"
    assert time.process_time() - started < 30
