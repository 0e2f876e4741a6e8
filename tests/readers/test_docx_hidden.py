"""Text of a Word document that a reader cannot see is left out and counted, and nothing else is."""

from collections.abc import Callable

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import parse_xml
from docx.shared import Pt, RGBColor

from d2l.documents.document import Document
from d2l.readers.findings import Finding
from tests.documents.samples import parse_here, save_docx

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
WPS = 'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"'
WP = 'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"'
W14 = 'xmlns:w14="http://schemas.microsoft.com/office/word/2010/wordml"'
VML = 'xmlns:v="urn:schemas-microsoft-com:vml"'
WHITE = '<w:color w:val="FFFFFF"/>'
MARKED, GROUND = "marked as hidden", "in the color of its ground"
N_HIDDEN = len("hiddenwords")


def read(document: docx.document.Document, *, include_hidden: bool = False) -> Document:
    return parse_here(save_docx(document), "a.docx", include_hidden=include_hidden)


def build(run: str = "", paragraph: str = "", *, before: str = "") -> docx.document.Document:
    """A document with a paragraph of a run, both with properties of their own."""
    document = docx.Document()
    document.add_paragraph("Seen.")
    made = document.add_paragraph()._p
    for xml in (
        f"<w:pPr {W}>{paragraph}</w:pPr>",
        before,
        f"<w:r {W}><w:rPr>{run}</w:rPr><w:t>hidden words</w:t></w:r>",
    ):
        if xml:
            made.append(parse_xml(xml))
    return document


@pytest.mark.parametrize(
    ("run", "paragraph", "reason"),
    [
        ("<w:vanish/>", "", MARKED),
        ('<w:vanish w:val="true"/>', "", MARKED),
        ('<w:color w:val="FFFFFF"/>', "", GROUND),
        ('<w:color w:val="fefefe"/>', "", GROUND),
        ('<w:color w:val="FFFF00"/><w:highlight w:val="yellow"/>', "", GROUND),
        ('<w:color w:val="102030"/><w:shd w:val="clear" w:fill="102030"/>', "", GROUND),
        ('<w:color w:val="102030"/>', '<w:shd w:val="clear" w:fill="102031"/>', GROUND),
        ('<w:color w:val="102030"/><w:shd w:val="solid" w:color="102030"/>', "", GROUND),
        ('<w:sz w:val="2"/>', "", "tiny"),
        ('<w:sz w:val="1"/>', "", "tiny"),
        ('<w:sz w:val="0"/>', "", "tiny"),
        ('<w:sz w:val="1pt"/>', "", "tiny"),
        ('<w:rtl/><w:szCs w:val="2"/>', "", "tiny"),
        ('<w:color w:val="FFFFFF" w:themeColor="background1"/>', "", GROUND),
        (WHITE + '<w:shd w:val="clear" w:fill="FFFFFF" w:themeFill="background1"/>', "", GROUND),
        (WHITE + '<w:shd w:val="nil" w:fill="000080"/>', "", GROUND),
        (WHITE + '<w:shd w:val="clear" w:fill="nothing"/>', "", GROUND),
        (WHITE + '<w:highlight w:val="nothing"/>', "", GROUND),
        (WHITE + '<w:highlight w:val="none"/>', "", GROUND),
    ],
)
def test_hidden_text_is_left_out_and_counted(run: str, paragraph: str, reason: str) -> None:
    document = read(build(run, paragraph))
    assert document.text == "Seen."
    assert document.findings == (Finding("hidden", reason, N_HIDDEN),)
    included = read(build(run, paragraph), include_hidden=True)
    assert included.text == "Seen.\n\nhidden words"
    assert included.findings == document.findings


@pytest.mark.parametrize(
    ("run", "paragraph"),
    [
        ('<w:vanish w:val="0"/>', ""),
        ('<w:vanish w:val="false"/>', ""),
        ("<w:webHidden/>", ""),
        ('<w:color w:val="FFFFFF"/><w:highlight w:val="darkBlue"/>', ""),
        ('<w:color w:val="FFFFFF"/><w:shd w:val="clear" w:fill="000080"/>', ""),
        ('<w:color w:val="FFFFFF"/>', '<w:shd w:val="clear" w:fill="000080"/>'),
        ('<w:color w:val="FFFFFF"/>', '<w:shd w:val="pct50" w:fill="FFFFFF"/>'),
        ('<w:color w:val="auto"/>', ""),
        ('<w:color w:val="BFBFBF"/>', ""),
        (f'<w:sz w:val="{"9" * 5000}"/>', ""),
        ('<w:sz w:val="6"/>', ""),
        ('<w:sz w:val="10pt"/>', ""),
        ("", "<w:rPr><w:vanish/></w:rPr>"),
        ('<w:color w:val="auto" w:themeColor="text1"/>', ""),
        ('<w:color w:val="BFBFBF" w:themeColor="background1" w:themeShade="BF"/>', ""),
        ('<w:color w:val="FFFFFF" w:themeColor="accent1"/>', ""),
        ('<w:color w:val="101010" w:themeColor="background1"/>', ""),
        ('<w:rtl/><w:sz w:val="2"/><w:szCs w:val="24"/>', ""),
        (WHITE + f"<w14:textFill {W14}/>", ""),
        (WHITE + f"<w14:textOutline {W14}/>", ""),
        (WHITE + "<w:shadow/>", ""),
        (WHITE + '<w:shd w:val="clear" w:fill="FFFFFF" w:themeFill="accent1"/>', ""),
        (WHITE + '<w:shd w:val="pct50" w:fill="auto" w:color="auto"/>', ""),
        (WHITE + '<w:shd w:val="solid" w:fill="FFFFFF"/>', ""),
        (WHITE + '<w:shd w:val="horzStripe" w:fill="FFFFFF" w:color="000000"/>', ""),
    ],
)
def test_text_that_can_be_seen_stays(run: str, paragraph: str) -> None:
    document = read(build(run, paragraph))
    assert (document.text, document.findings) == ("Seen.\n\nhidden words", ())


def with_style(change: Callable[[docx.styles.style.CharacterStyle], None], kind: WD_STYLE_TYPE,
               on: str) -> docx.document.Document:  # fmt: skip
    """Text of a style that is based on the style that is changed."""
    document = docx.Document()
    document.add_paragraph("Seen.")
    parent = document.styles.add_style("Parent", kind)
    change(parent)
    child = document.styles.add_style("Child", kind)
    child.base_style = parent
    paragraph = document.add_paragraph(style=child if on == "paragraph" else None)
    paragraph.add_run("hidden words", style=child if on == "run" else None)
    return document


def hide(style: docx.styles.style.CharacterStyle) -> None:
    style.font.hidden = True


def whiten(style: docx.styles.style.CharacterStyle) -> None:
    style.font.color.rgb = RGBColor(255, 255, 255)


def shrink(style: docx.styles.style.CharacterStyle) -> None:
    style.font.size = Pt(1)


@pytest.mark.parametrize(("change", "reason"), [(hide, MARKED), (whiten, GROUND), (shrink, "tiny")])
@pytest.mark.parametrize("on", ["paragraph", "run"])
def test_styles_count(
    change: Callable[[docx.styles.style.CharacterStyle], None], reason: str, on: str
) -> None:
    kind = WD_STYLE_TYPE.PARAGRAPH if on == "paragraph" else WD_STYLE_TYPE.CHARACTER
    document = read(with_style(change, kind, on))
    assert (document.text, document.findings[0].what) == ("Seen.", reason)


def test_a_run_may_show_what_its_style_hides() -> None:
    made = with_style(hide, WD_STYLE_TYPE.PARAGRAPH, "paragraph")
    made.paragraphs[-1].runs[0].font.hidden = False
    assert read(made).text == "Seen.\n\nhidden words"


def white_cell(cell_shade: str = "", style: str = "") -> docx.document.Document:
    document = docx.Document()
    table = document.add_table(rows=1, cols=2, style=style or None)
    table.cell(0, 0).text = "Seen."
    cell = table.cell(0, 1)
    run = cell.paragraphs[0].add_run("hidden words")
    run.font.color.rgb = RGBColor(255, 255, 255)
    if cell_shade:
        cell._tc.get_or_add_tcPr().append(
            parse_xml(f'<w:shd {W} w:val="clear" w:fill="{cell_shade}"/>')
        )
    return document


@pytest.mark.parametrize(
    ("shade", "style", "is_hidden"),
    [
        ("", "", True),
        ("FFFFFF", "", True),
        ("000080", "", False),
        ("", "Medium Shading 1 Accent 1", False),  # whose heading row is white on blue
        ("", "Table Grid", True),
    ],
)
def test_cells_have_a_ground_of_their_own(shade: str, style: str, is_hidden: bool) -> None:
    assert ("hidden" not in read(white_cell(shade, style)).text) == is_hidden


ROW = (
    "<w:tbl {W}><w:tblPr>{table}</w:tblPr><w:tr><w:tblPrEx>{row}</w:tblPrEx><w:tc><w:tcPr>{cell}"
    "</w:tcPr><w:p><w:r><w:rPr>{WHITE}</w:rPr><w:t>hidden words</w:t></w:r></w:p></w:tc></w:tr>"
    "</w:tbl>"
)
BLUE, AUTO = (f'<w:shd w:val="clear" w:fill="{fill}"/>' for fill in ("000080", "auto"))


@pytest.mark.parametrize(
    ("shades", "is_hidden"),
    [({}, True), ({"cell": AUTO}, True), ({"row": BLUE}, False), ({"table": BLUE}, False),
     ({"table": BLUE, "cell": AUTO}, False)],
)  # fmt: skip
def test_rows_and_tables_may_be_shaded_as_a_whole(shades: dict[str, str], is_hidden: bool) -> None:
    document = docx.Document()
    document.add_paragraph("Seen.")
    parts = {"table": "", "row": "", "cell": ""} | shades
    document.element.body.insert(1, parse_xml(ROW.format(W=W, WHITE=WHITE, **parts)))
    assert ("hidden" not in read(document).text) == is_hidden


def box(content: str) -> str:
    return (
        f"<w:r {W}><w:drawing><wps:wsp {WPS}><wps:txbx><w:txbxContent>"
        f"{content}</w:txbxContent></wps:txbx></wps:wsp></w:drawing></w:r>"
    )


def paragraph(text: str, run: str = "") -> str:
    return f"<w:p {W}><w:r><w:rPr>{run}</w:rPr><w:t>{text}</w:t></w:r></w:p>"


SHADED = paragraph("hidden words", WHITE).replace("<w:r>", "<w:pPr>{}</w:pPr><w:r>")


@pytest.mark.parametrize(
    ("content", "is_hidden"),
    [
        (paragraph("hidden words", WHITE), False),
        (SHADED.format('<w:shd w:val="clear" w:fill="FFFFFF"/>'), True),
        (SHADED.format(BLUE), False),
        (paragraph("hidden words", "<w:vanish/>"), True),
    ],
)
def test_what_is_under_a_text_box_is_not_known(content: str, is_hidden: bool) -> None:
    document = docx.Document()
    document.add_paragraph("Seen.")._p.append(parse_xml(box(content)))
    assert ("hidden" not in read(document).text) == is_hidden


@pytest.mark.parametrize(
    ("drawing", "is_hidden"),
    [
        (f'<w:drawing><wp:anchor {WP} behindDoc="1"><pic/></wp:anchor></w:drawing>', False),
        (f'<w:drawing><wp:anchor {WP} behindDoc="0"><pic/></wp:anchor></w:drawing>', True),
        (f"<w:drawing><wp:inline {WP}><pic/></wp:inline></w:drawing>", True),
        (f'<w:pict><v:rect {VML} style="z-index:-5;width:9pt"/></w:pict>', False),
        (f'<w:pict><v:rect {VML} style="z-index:5;width:9pt"/></w:pict>', True),
    ],
)
@pytest.mark.parametrize("place", ["body", "header"])
def test_text_may_lie_on_a_picture_behind_it(drawing: str, is_hidden: bool, place: str) -> None:
    run = f"<w:r {W}>{drawing}</w:r>"
    document = build(WHITE, before=run if place == "body" else "")
    if place == "header":
        document.sections[0].header.paragraphs[0]._p.append(parse_xml(run))
    assert ("hidden" not in read(document).text) == is_hidden


def test_boxes_in_hidden_runs_are_hidden() -> None:
    made = box(paragraph("hidden words"))
    made = made.replace("<w:drawing>", "<w:rPr><w:vanish/></w:rPr><w:drawing>")
    document = docx.Document()
    document.add_paragraph("Seen.")._p.append(parse_xml(made))
    assert read(document).text == "Seen."
    assert read(document).findings == (Finding("hidden", MARKED, N_HIDDEN),)
    assert read(document, include_hidden=True).text == "Seen.\n\nhidden words"


@pytest.mark.parametrize("depth", [1, 2, 3, 30])
def test_boxes_inside_boxes_are_read_once(depth: int) -> None:
    content = paragraph("Innermost.")
    for level in range(depth):
        outer = paragraph(f"Level {level}.")
        content = outer.replace("</w:p>", box(content) + "</w:p>")
    document = docx.Document()
    document._body._body.insert_element_before(parse_xml(content), "w:sectPr")
    expected = [f"Level {level}." for level in reversed(range(depth))] + ["Innermost."]
    assert read(document).text.split("\n\n") == expected


def test_a_page_of_no_color_is_white() -> None:
    for color, is_hidden in (("nothing", True), ("FFFFFF", True), ("000080", False)):
        document = build(WHITE)
        background = parse_xml(f'<w:background {W} w:color="{color}"><w:x/></w:background>')
        document.element.insert(0, background)
        document.settings.element.insert(0, parse_xml(f"<w:displayBackgroundShape {W}/>"))
        assert ("hidden" not in read(document).text) == is_hidden
