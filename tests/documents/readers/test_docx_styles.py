"""Styles of a Word document count: those of tables with their parts, and those that are a ring."""

import time

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import parse_xml

from d2l.documents.document import Document
from tests.documents.samples import parse_here, save_docx

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
MARKED, GROUND = "marked as hidden", "in the color of its ground"
WHITE = '<w:rPr><w:color w:val="FFFFFF"/></w:rPr>'
DARK = '<w:tcPr><w:shd w:val="clear" w:fill="000080"/></w:tcPr>'


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


def table(inside: str, look: str = "", *, own: str = "", style: str = "T") -> str:
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
    properties = f'<w:tblPr><w:tblStyle w:val="{style}"/><w:tblLook {look}/></w:tblPr>'
    document.element.body.insert(1, parse_xml(f"<w:tbl {W}>{properties}{rows}</w:tbl>"))
    return read(document).text.removeprefix("Seen.").strip().replace(" | ", " ").replace("\n", ",")


ALL = "00 01 02,10 11 12,20 21 22"


@pytest.mark.parametrize("style", ["T", "B"])
@pytest.mark.parametrize(
    "inside",
    [
        "<w:rPr><w:vanish/></w:rPr>",
        WHITE,
        '<w:rPr><w:sz w:val="2"/></w:rPr>',
        '<w:pPr><w:spacing w:line="1" w:lineRule="exact"/></w:pPr>',
        part("wholeTable", WHITE),
    ],
)
def test_the_style_of_a_table_hides_its_text(inside: str, style: str) -> None:
    assert table(inside, style=style) == ""


@pytest.mark.parametrize(
    ("inside", "look", "left"),
    [
        (part("firstRow", WHITE), 'w:firstRow="1"', "10 11 12,20 21 22"),
        (part("firstRow", WHITE), 'w:val="0020"', "10 11 12,20 21 22"),
        (part("firstRow", WHITE), 'w:val="0000"', ALL),
        (part("firstRow", WHITE), 'w:val="0020" w:firstRow="0"', ALL),
        (part("firstRow", WHITE, DARK), 'w:firstRow="1"', ALL),
        (part("lastRow", WHITE), 'w:lastRow="1"', "00 01 02,10 11 12"),
        (part("firstCol", WHITE), 'w:firstColumn="1"', "01 02,11 12,21 22"),
        (part("lastCol", WHITE), 'w:lastColumn="1"', "00 01,10 11,20 21"),
        (part("band1Horz", WHITE), "", "10 11 12"),
        (part("band1Horz", WHITE), 'w:firstRow="1"', "00 01 02,20 21 22"),
        (part("band2Vert", WHITE), "", "00 02,10 12,20 22"),
        (part("band2Vert", WHITE), 'w:noVBand="1"', ALL),
        (
            '<w:tblPr><w:tblStyleRowBandSize w:val="2"/></w:tblPr>' + part("band1Horz", WHITE),
            "",
            "20 21 22",
        ),
        (part("nwCell", WHITE), 'w:firstRow="1" w:firstColumn="1"', "01 02,10 11 12,20 21 22"),
        (part("nwCell", WHITE), 'w:firstRow="1"', ALL),
        # White on white if rows count over columns, but on blue if columns do.
        (
            part("firstCol", WHITE, DARK)
            + part("firstRow", '<w:tcPr><w:shd w:val="clear" w:fill="FFFFFF"/></w:tcPr>'),
            'w:firstRow="1" w:firstColumn="1"',
            ALL,
        ),
    ],
)
def test_parts_of_a_tables_style_count_where_they_are_shown(
    inside: str, look: str, left: str
) -> None:
    assert table(inside, look) == left


def test_what_a_tables_style_shades_elsewhere_is_no_ground_here() -> None:
    assert table(part("lastCol", DARK), 'w:lastColumn="1"', own=WHITE) == "02,12,22"
    assert table(part("lastCol", DARK), own=WHITE) == ""


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


@pytest.mark.parametrize("own", ["", '<w:spacing w:before="0"/>'])
def test_lines_without_height_may_be_those_of_a_style(own: str) -> None:
    document = docx.Document()
    document.add_paragraph("Seen.")
    spacing = '<w:pPr><w:spacing w:line="1" w:lineRule="exact"/></w:pPr>'
    add_style(document, "paragraph", spacing)
    add_style(document, "paragraph", "", base="T")
    body = f'<w:p {W}><w:pPr><w:pStyle w:val="B"/>{own}</w:pPr><w:r><w:t>hidden</w:t></w:r></w:p>'
    document.element.body.insert(1, parse_xml(body))
    found = read(document)
    assert (found.text, found.findings[0].what) == ("Seen.", "tiny")


@pytest.mark.parametrize(
    "own", ['<w:shd w:val="clear" w:fill="000080"/>', '<w:spacing w:lineRule="auto"/>']
)
def test_a_paragraph_counts_over_its_style(own: str) -> None:
    document = docx.Document()
    inside = '<w:shd w:val="clear" w:fill="FFFFFF"/><w:spacing w:line="1" w:lineRule="exact"/>'
    white = WHITE if "shd" in own else ""
    line = "" if white == "" else '<w:spacing w:line="240"/>'
    add_style(document, "paragraph", f"<w:pPr>{inside}</w:pPr>")
    body = (
        f'<w:p {W}><w:pPr><w:pStyle w:val="T"/>{own}{line}</w:pPr><w:r>{white}<w:t>seen</w:t></w:r>'
        "</w:p>"
    )
    document.element.body.insert(0, parse_xml(body))
    assert read(document).text == "seen"


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
    assert time.process_time() - started < 3
