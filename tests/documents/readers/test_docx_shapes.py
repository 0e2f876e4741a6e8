"""Shapes of a Word document: what is off the page, too small or marked is not read, nor white on
what is under a shape without a fill."""

import docx
import pytest
from docx.oxml import parse_xml

from d2l.documents.document import Document
from tests.documents.samples import parse_here, save_docx

OPEN = "http://schemas.openxmlformats.org"
NAMES = (
    f'xmlns:w="{OPEN}/wordprocessingml/2006/main" xmlns:a="{OPEN}/drawingml/2006/main" '
    f'xmlns:wp="{OPEN}/drawingml/2006/wordprocessingDrawing" '
    'xmlns:v="urn:schemas-microsoft-com:vml" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:wp14="http://schemas.microsoft.com/office/word/2010/wordprocessingDrawing"'
)
MARKED, OFF, GROUND = "marked as hidden", "off the page", "in the color of its ground"
WHITE = '<w:rPr><w:color w:val="FFFFFF"/></w:rPr>'
BLUE = '<w:shd w:val="clear" w:fill="000080"/>'
INCH = 914400


def read(*blocks: str) -> Document:
    document = docx.Document()
    document.add_paragraph("Seen.")
    for block in reversed(blocks):
        element = parse_xml(f"<w:sdt {NAMES}><w:sdtContent>{block}</w:sdtContent></w:sdt>")
        document.element.body.insert(1, element)
    return parse_here(save_docx(document), "a.docx")


def explain(*blocks: str) -> str:
    """Why the text "hidden" of blocks is not read; "" if it is."""
    found = read(*blocks)
    reasons = [finding.what for finding in found.findings]
    assert ("hidden" in found.text) == (not reasons)
    assert all(finding.count == len("hidden") for finding in found.findings)
    return "".join(reasons)


def text(own: str = "") -> str:
    return f"<w:p><w:r>{own}<w:t>hidden</w:t></w:r></w:p>"


def place(way: str, base: str, offset: int | str) -> str:
    where = offset if isinstance(offset, str) else f"<wp:posOffset>{offset}</wp:posOffset>"
    return f'<wp:position{way} relativeFrom="{base}">{where}</wp:position{way}>'


def draw(inside: str, where: str = "", size: tuple[int, int] = (3 * INCH, INCH),
         attributes: str = "", kind: str = "anchor") -> str:  # fmt: skip
    """A paragraph with a drawing."""
    return (
        f"<w:p><w:r><w:drawing><wp:{kind} {attributes}>{where}"
        f'<wp:extent cx="{size[0]}" cy="{size[1]}"/>{inside}</wp:{kind}></w:drawing></w:r></w:p>'
    )


def shape(own: str = "", fill: str = "", body: str = "", marks: str = "") -> str:
    return (
        f"<wp:docPr id='1' name='' {marks}/><wps:wsp><wps:spPr>{fill}</wps:spPr><wps:txbx>"
        f"<w:txbxContent>{text(own)}</w:txbxContent></wps:txbx><wps:bodyPr>{body}</wps:bodyPr>"
        "</wps:wsp>"
    )


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (draw(shape()), ""),
        (draw(shape(), place("H", "page", -4 * INCH)), OFF),
        (draw(shape(), place("H", "page", -2 * INCH)), ""),
        (draw(shape(), place("V", "page", 30 * INCH)), OFF),
        (draw(shape(), place("H", "margin", -2 * INCH)), ""),
        (draw(shape(), place("H", "margin", -6 * INCH)), OFF),
        (draw(shape(), place("H", "character", -6 * INCH)), ""),
        (draw(shape(), place("H", "column", -30 * INCH)), OFF),
        (draw(shape(), place("H", "page", "<wp:align>left</wp:align>")), ""),
        (draw(shape(), place("H", "page", "<wp14:pctPosHOffset>-90000</wp14:pctPosHOffset>")), OFF),
        (draw(shape(), place("H", "page", "<wp14:pctPosHOffset>9000</wp14:pctPosHOffset>")), ""),
        (draw(shape(), size=(1, 1)), "tiny"),
        (draw(shape(), size=(INCH, 1)), "tiny"),
        (draw(shape(body="<a:spAutoFit/>"), size=(INCH, 1)), ""),
        (draw(shape(), kind="inline", size=(1, INCH)), "tiny"),
        (draw(shape(), attributes='hidden="1"'), MARKED),
        (draw(shape(marks='hidden="true"')), MARKED),
        (draw(shape(marks='hidden="0"')), ""),
    ],
)
def test_boxes_that_are_not_shown(block: str, reason: str) -> None:
    assert explain(block) == reason


def draw_old(style: str = "", own: str = "", attributes: str = "", inside: str = "") -> str:
    """A paragraph with a shape of VML."""
    return (
        f'<w:p><w:r><w:pict><v:shape style="{style}" {attributes}>{inside}<v:textbox>'
        f"<w:txbxContent>{text(own)}</w:txbxContent></v:textbox></v:shape></w:pict></w:r></w:p>"
    )


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (draw_old("position:absolute;margin-left:36pt;width:90pt;height:90pt"), ""),
        (draw_old("position:absolute;Visibility: Hidden"), MARKED),
        (draw_old("position:absolute;margin-left:-9999pt"), OFF),
        (draw_old("position:absolute;top:90in"), OFF),
        (draw_old("position:absolute;margin-left:-9999pt;mso-position-horizontal:left"), ""),
        (draw_old("margin-left:-9999pt"), ""),
        (draw_old("width:0;height:90pt"), "tiny"),
        (draw_old("width:0;height:90pt;mso-width-percent:400"), ""),
        (draw_old(own=WHITE), GROUND),
        (draw_old(own=WHITE, attributes='fillcolor="#fff [3212]"'), GROUND),
        (draw_old(own=WHITE, attributes='fillcolor="#000080"'), ""),
        (draw_old(own=WHITE, attributes='filled="f" fillcolor="#000080"'), GROUND),
        (
            draw_old(own=WHITE, attributes='fillcolor="navy"', inside='<v:fill opacity="0"/>'),
            GROUND,
        ),
        (draw_old(own=WHITE, inside='<v:fill type="gradient" color2="white"/>'), GROUND),
        (draw_old(own=WHITE, inside='<v:fill type="gradient" color2="navy"/>'), ""),
    ],
)
def test_older_boxes_that_are_not_shown(block: str, reason: str) -> None:
    assert explain(block) == reason


PICTURE = "<pic/>"
SMALL, LARGE = (12700, 12700), (5 * INCH, INCH)


@pytest.mark.parametrize(
    ("under", "reason"),
    [
        ("", GROUND),
        (draw(PICTURE, size=LARGE), ""),
        (draw(PICTURE, size=LARGE, kind="inline"), ""),
        (draw(PICTURE, size=SMALL), GROUND),
        (draw(PICTURE, place("V", "page", -9 * INCH), size=LARGE), GROUND),
        (draw("", size=LARGE), GROUND),
        (draw(shape(fill="<a:noFill/>").replace("hidden", ""), size=LARGE), GROUND),
        (draw('<wps:wsp><wps:spPr><a:blipFill/></wps:spPr></wps:wsp>', size=LARGE), ""),
        ('<w:p><w:r><w:pict><v:rect style="width:90pt;height:90pt" fillcolor="red"/></w:pict></w:r>'
         "</w:p>", ""),
        ('<w:p><w:r><w:pict><v:group style="width:90pt;height:90pt"><v:rect fillcolor="red"/>'
         "</v:group></w:pict></w:r></w:p>", ""),
    ],
)  # fmt: skip
def test_shapes_without_a_fill_may_lie_on_a_picture_if_there_is_one(
    under: str, reason: str
) -> None:
    assert explain(under, draw(shape(WHITE, "<a:noFill/>"))) == reason


def test_shapes_without_a_fill_show_what_is_shaded_around_them() -> None:
    box = draw(shape(WHITE, "<a:noFill/>"))
    cell = f"<w:tbl><w:tr><w:tc><w:tcPr>{BLUE}</w:tcPr>{box}</w:tc></w:tr></w:tbl>"
    assert explain(cell) == ""
    assert explain(box.replace("<w:p>", f"<w:p><w:pPr>{BLUE}</w:pPr>", 1)) == ""


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (draw(PICTURE, size=LARGE, attributes='behindDoc="1"'), ""),
        (draw(PICTURE, size=LARGE), GROUND),
        (draw(PICTURE, size=(1, 1), attributes='behindDoc="1"'), GROUND),
        (draw(PICTURE, size=(INCH, 1), attributes='behindDoc="1"'), GROUND),
        (draw("", size=LARGE, attributes='behindDoc="1"'), GROUND),
        (draw(PICTURE, place("H", "page", -9 * INCH), LARGE, 'behindDoc="1"'), GROUND),
    ],
)
def test_text_lies_on_a_picture_that_has_room_for_it(picture: str, reason: str) -> None:
    assert explain(picture, text(WHITE)) == reason


def test_a_small_picture_does_not_carry_a_page_of_white_text() -> None:
    picture = draw(PICTURE, size=(INCH, INCH), attributes='behindDoc="1"')
    document = read(picture, *[text(WHITE)] * 100)
    assert 0 < document.text.count("hidden") < 60
    assert document.findings[0].what == GROUND


def table(properties: str, own: str = "") -> str:
    return (
        f'<w:tbl><w:tblPr>{properties}<w:tblW w:w="2000" w:type="dxa"/></w:tblPr><w:tr><w:tc>'
        f"{text(own)}</w:tc></w:tr></w:tbl>"
    )


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ('<w:tblpPr w:horzAnchor="page" w:tblpX="-30000" w:tblpY="1"/>', OFF),
        ('<w:tblpPr w:horzAnchor="page" w:tblpX="-1500"/>', ""),
        ('<w:tblpPr w:horzAnchor="page" w:tblpX="-30000" w:tblpXSpec="left"/>', ""),
        ('<w:tblpPr w:vertAnchor="page" w:tblpY="30000"/>', OFF),
        ('<w:tblInd w:w="-30000" w:type="dxa"/>', OFF),
        ('<w:tblInd w:w="-300" w:type="dxa"/>', ""),
    ],
)
def test_tables_off_the_page(properties: str, reason: str) -> None:
    assert explain(table(properties)) == reason
