"""Text of a Word document that a reader cannot see is left out and counted, and nothing else is."""

import io
import zipfile
from collections.abc import Callable

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE
from docx.oxml import parse_xml
from docx.shared import Pt, RGBColor

from d2l.documents.document import Document
from d2l.documents.findings import Finding
from tests.documents.samples import parse_here, save_docx

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
WPS = 'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape"'
A = 'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main"'
WP = 'xmlns:wp="http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"'
W14 = 'xmlns:w14="http://schemas.microsoft.com/office/word/2010/wordml"'
FILLED = (
    f'<w14:textFill {W14}><w14:solidFill><w14:srgbClr w14:val="{{}}></w14:solidFill></w14:textFill>'
)
NAMED = '<w:color w:val="000000" w:themeColor="{}"/>'
LIGHTER = (
    '<w14:srgbClr w14:val="000000"><w14:lumMod w14:val="0"/><w14:lumOff w14:val="{}"/>'
    "</w14:srgbClr>"
)
OUTLINED = (
    f'<w14:textOutline {W14}><w14:solidFill><w14:srgbClr w14:val="{{}}"/></w14:solidFill>'
    "</w14:textOutline>"
)
WHITE = '<w:color w:val="FFFFFF"/>'
MARKED, GROUND = "marked as hidden", "in the color of its ground"
N_HIDDEN = len("hiddenwords")


def fill_letters(color: str) -> str:
    return f"<w14:textFill {W14}><w14:solidFill>{color}</w14:solidFill></w14:textFill>"


def graded(*colors: str) -> str:
    """Letters filled with a gradient."""
    stops = "".join(f'<w14:gs><w14:srgbClr w14:val="{color}"/></w14:gs>' for color in colors)
    fill = f"<w14:gradFill><w14:gsLst>{stops}</w14:gsLst></w14:gradFill>"
    return f"<w14:textFill {W14}>{fill}</w14:textFill>"


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
        ('<w:w w:val="1"/>', "", "tiny"),
        ('<w:sz w:val="1pt"/>', "", "tiny"),
        ("", '<w:spacing w:line="20" w:lineRule="exact"/>', "tiny"),
        ('<w:color w:val="auto" w:themeColor="background1"/>', "", GROUND),
        ('<w:color w:val="000000" w:themeColor="background1"/>', "", GROUND),
        (f"<w14:textFill {W14}><w14:noFill/></w14:textFill>", "", "transparent"),
        (FILLED.format('000000"><w14:alpha w14:val="100000"/></w14:srgbClr'), "", "transparent"),
        (FILLED.format('FFFFFF"></w14:srgbClr'), "", GROUND),
        ('<w:rtl/><w:szCs w:val="2"/>', "", "tiny"),
        (NAMED.format('background1" w:themeTint="FF'), "", GROUND),
        (NAMED.format('background1" w:themeShade="FE'), "", GROUND),
        (NAMED.format('text1" w:themeTint="08'), "", GROUND),
        (fill_letters('<w14:schemeClr w14:val="bg1"/>'), "", GROUND),
        (fill_letters('<w14:prstClr w14:val="white"/>'), "", GROUND),
        (fill_letters(LIGHTER.format(100000)), "", GROUND),
        (graded("FFFFFF", "FEFEFE"), "", GROUND),
        (WHITE + '<w:shd w:val="clear" w:fill="000000" w:themeFill="background1"/>', "", GROUND),
        (WHITE + '<w:shd w:val="pct5" w:fill="FFFFFF" w:color="FFFFFF"/>', "", GROUND),
        (WHITE + '<w:shd w:val="pct5" w:fill="auto" w:color="auto"/>', "", GROUND),
        (WHITE + '<w:shd w:val="horzStripe" w:fill="FFFFFF" w:color="FFFFFF"/>', "", GROUND),
        (WHITE + '<w:shd w:val="clear" w:fill="nothing"/>', "", GROUND),
        (WHITE + '<w:highlight w:val="nothing"/>', "", GROUND),
        (WHITE + '<w:highlight w:val="none"/>', "", GROUND),
        (WHITE + OUTLINED.format("FFFFFF"), "", GROUND),
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
        ("", '<w:spacing w:line="240" w:lineRule="exact"/>'),
        ("", '<w:spacing w:line="1" w:lineRule="auto"/>'),
        ('<w:color w:val="auto" w:themeColor="text1"/>', ""),
        ('<w:color w:val="BFBFBF" w:themeColor="background1" w:themeShade="BF"/>', ""),
        ('<w:color w:val="FFFFFF" w:themeColor="accent1"/>', '<w:shd w:val="clear" w:fill="80"/>'),
        (FILLED.format('000000"><w14:alpha w14:val="40000"/></w14:srgbClr'), ""),
        (FILLED.format('333333"></w14:srgbClr'), ""),
        ('<w:rtl/><w:sz w:val="2"/><w:szCs w:val="24"/>', ""),
        (NAMED.format('text1" w:themeTint="80'), ""),
        (NAMED.format("accent1"), ""),
        (fill_letters('<w14:schemeClr w14:val="accent1"/>'), ""),
        (fill_letters('<w14:prstClr w14:val="dkBlue"/>'), ""),
        (fill_letters(LIGHTER.format(50000)), ""),
        (WHITE + graded("FFFFFF", "000080"), ""),
        (WHITE + '<w:shd w:val="clear" w:fill="FFFFFF" w:themeFill="accent1"/>', ""),
        (WHITE + '<w:shd w:val="pct50" w:fill="auto" w:color="auto"/>', ""),
        (WHITE + '<w:shd w:val="horzStripe" w:fill="FFFFFF" w:color="000000"/>', ""),
        (WHITE + OUTLINED.format("000000"), ""),
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


def box(content: str, fill: str = "") -> str:
    return (
        f"<w:r {W}><w:drawing><wps:wsp {WPS}><wps:spPr>{fill}</wps:spPr><wps:txbx><w:txbxContent>"
        f"{content}</w:txbxContent></wps:txbx></wps:wsp></w:drawing></w:r>"
    )


CLEAR = f'<a:solidFill {A}><a:srgbClr val="000000"><a:alpha val="{{}}"/></a:srgbClr></a:solidFill>'


def paragraph(text: str, run: str = "") -> str:
    return f"<w:p {W}><w:r><w:rPr>{run}</w:rPr><w:t>{text}</w:t></w:r></w:p>"


@pytest.mark.parametrize(
    ("fill", "is_hidden"),
    [
        ("", True),
        (f'<a:solidFill {A}><a:srgbClr val="FFFFFF"/></a:solidFill>', True),
        (f'<a:solidFill {A}><a:srgbClr val="000080"/></a:solidFill>', False),
        (f'<a:solidFill {A}><a:schemeClr val="bg1"/></a:solidFill>', True),
        (f'<a:solidFill {A}><a:schemeClr val="accent1"/></a:solidFill>', False),
        (f'<a:solidFill {A}><a:prstClr val="white"/></a:solidFill>', True),
        (f'<a:solidFill {A}><a:prstClr val="navy"/></a:solidFill>', False),
        (CLEAR.format(0), True),
        (CLEAR.format(80000), False),
        (f"<a:noFill {A}/>", True),
        (f"<a:blipFill {A}/>", False),
    ],
)
def test_shapes_have_a_ground_of_their_own(fill: str, is_hidden: bool) -> None:
    document = docx.Document()
    document.add_paragraph("Seen.")._p.append(
        parse_xml(box(paragraph("hidden words", WHITE), fill))
    )
    assert ("hidden" not in read(document).text) == is_hidden


def test_text_on_a_picture_behind_it_stays_until_the_page_ends() -> None:
    anchor = (
        f'<w:r {W}><w:drawing><wp:anchor {WP} behindDoc="1"><wp:extent cx="1270000" cy="254000"/>'
        "<pic/></wp:anchor></w:drawing></w:r>"
    )
    document = build(WHITE, before=anchor)
    document.add_page_break()
    document._body._body.insert_element_before(parse_xml(paragraph("gone", WHITE)), "w:sectPr")
    assert read(document).text == "Seen.\n\nhidden words"


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


@pytest.mark.parametrize(
    ("show", "is_hidden"), [('<m:show m:val="0"/>', True), ("<m:show/>", False), ("", False)]
)
def test_phantoms_of_formulas_are_hidden(show: str, is_hidden: bool) -> None:
    formula = (
        '<m:oMath xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"><m:phant>'
        f"<m:phantPr>{show}</m:phantPr><m:e><m:r><m:t>hidden words</m:t></m:r></m:e></m:phant>"
        "</m:oMath>"
    )
    found = read(build(before=formula, run="<w:vanish/>"))
    assert ("hidden" not in found.text) == is_hidden


def test_a_page_of_no_color_is_white() -> None:
    for color, is_hidden in (("nothing", True), ("FFFFFF", True), ("000080", False)):
        document = build(WHITE)
        background = parse_xml(f'<w:background {W} w:color="{color}"><w:x/></w:background>')
        document.element.insert(0, background)
        document.settings.element.insert(0, parse_xml(f"<w:displayBackgroundShape {W}/>"))
        assert ("hidden" not in read(document).text) == is_hidden


ROW = (
    "<w:tbl {W}><w:tblPr/><w:tblGrid><w:gridCol/></w:tblGrid><w:tr><w:trPr>{row}</w:trPr><w:tc>"
    "<w:tcPr/><w:p><w:r><w:t>hidden words</w:t></w:r></w:p></w:tc></w:tr></w:tbl>"
)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("<w:hidden/>", MARKED),
        ('<w:trHeight w:val="1" w:hRule="exact"/>', "tiny"),
        ('<w:hidden w:val="0"/>', ""),
        ('<w:trHeight w:val="1" w:hRule="atLeast"/>', ""),
        ('<w:trHeight w:val="300" w:hRule="exact"/>', ""),
    ],
)
def test_rows_without_height_or_marked_as_hidden_are(row: str, reason: str) -> None:
    document = docx.Document()
    document.add_paragraph("Seen.")
    document.element.body.insert(1, parse_xml(ROW.format(W=W, row=row)))
    found = read(document)
    assert [finding.what for finding in found.findings] == ([reason] if reason else [])
    assert ("hidden" in found.text) == (not reason)


def test_the_theme_says_what_its_names_mean() -> None:
    data = save_docx(build('<w:color w:val="auto" w:themeColor="background1"/>'))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    theme = parts["word/theme/theme1.xml"]
    assert b'lastClr="FFFFFF"' in theme
    dark, broken = theme.replace(b'lastClr="FFFFFF"', b'lastClr="101010"'), b"<a"
    for changed in (dark, broken):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            for name, part in (parts | {"word/theme/theme1.xml": changed}).items():
                archive.writestr(name, part)
        assert "hidden words" in parse_here(out.getvalue(), "a.docx").text
