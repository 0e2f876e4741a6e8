"""Of alternatives, fields and changes in a Word document, what is shown is read, and only that."""

import docx
import pytest
from docx.opc.constants import RELATIONSHIP_TYPE as RT
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml

from d2l.readers.findings import Finding
from tests.documents.samples import parse_here, save_docx
from tests.readers.docx_cases import CASES, NUMBERING, make, math, numbered, p

NAMES = (
    'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" '
    'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006" '
    'xmlns:wps="http://schemas.microsoft.com/office/word/2010/wordprocessingShape" '
    'xmlns:w14="http://schemas.microsoft.com/office/word/2010/wordml" xmlns:own="urn:own"'
)
CHARTS = "http://schemas.openxmlformats.org/drawingml/2006/chart"
OTHER, SHOWN = "<w:r><w:t>other</w:t></w:r>", "<w:r><w:t>shown</w:t></w:r>"


def read(inline: str) -> str:
    """The text of a document with a paragraph of this content."""
    return read_block(f"<w:p>{inline}</w:p>")


def read_block(block: str) -> str:
    document = docx.Document()
    document.element.body.insert(0, parse_xml(f"<w:sdt {NAMES}><w:sdtContent>"
                                              f"{block}</w:sdtContent></w:sdt>"))  # fmt: skip
    return parse_here(save_docx(document), "a.docx").text


def choices(*branches: tuple[str, str], last: str = "") -> str:
    inside = "".join(
        f'<mc:Choice Requires="{needed}">{branch}</mc:Choice>' for needed, branch in branches
    )
    fallback = f"<mc:Fallback>{last}</mc:Fallback>" if last else ""
    return f"<mc:AlternateContent>{inside}{fallback}</mc:AlternateContent>"


@pytest.mark.parametrize(
    "alternates",
    [
        choices(("own", OTHER), last=SHOWN),
        choices(("nowhere", OTHER), last=SHOWN),
        choices(("wps own", OTHER), ("w14", SHOWN), last=OTHER),
        choices(("wps", SHOWN), ("w14", OTHER)),
        choices(("wps w14", SHOWN), last=OTHER),
        choices(("wps", choices(("own", OTHER), last=SHOWN)), last=OTHER),
        choices(("own", OTHER)) + SHOWN,
    ],
)
def test_the_first_alternative_that_word_knows_is_read(alternates: str) -> None:
    assert read(alternates) == "shown"


def test_alternatives_may_be_paragraphs() -> None:
    block = choices(("own", f"<w:p>{OTHER}</w:p>"), last=f"<w:p>{SHOWN}</w:p>")
    assert read_block(block + f"<w:p>{SHOWN}</w:p>") == "shown\n\nshown"


def test_symbols_that_word_names_by_number_are_read_once() -> None:
    space = "http://schemas.microsoft.com/office/word/2015/wordml/symex"
    symbol = choices(("s", '<s:symEx s:char="1F60A"/>'), last="<w:t>\U0001f60a</w:t>")
    assert read(f'<w:r xmlns:s="{space}"><w:t>a</w:t>{symbol}</w:r>') == "a\U0001f60a"


def field(code: str, result: str | None) -> str:
    """A field of runs; its code and result are runs too."""
    begin, separate, end = (
        f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>' for kind in ("begin", "separate", "end")
    )
    return begin + code + ("" if result is None else separate + result) + end


def instruct(code: str) -> str:
    return f"<w:r><w:instrText> {code} </w:instrText></w:r>"


@pytest.mark.parametrize(
    "inline",
    [
        field(OTHER, SHOWN),
        field(OTHER, None) + SHOWN,
        field(instruct("PAGEREF a"), SHOWN),
        field(instruct("IF ") + field(instruct("REF a"), OTHER), SHOWN),
        '<w:r><w:fldChar w:fldCharType="begin"/></w:r>' + SHOWN,
        '<w:r><w:fldChar w:fldCharType="end"/></w:r>' + SHOWN,
        f'<w:fldSimple w:instr="REF a">{SHOWN}</w:fldSimple>',
    ],
)
def test_fields_show_their_result_alone(inline: str) -> None:
    assert read(inline) == "shown"


def test_fields_go_on_over_paragraphs_but_not_out_of_a_text_box() -> None:
    begin, end = (f'<w:r><w:fldChar w:fldCharType="{kind}"/></w:r>' for kind in ("begin", "end"))
    assert read_block(f"<w:p>{begin}{OTHER}</w:p><w:p>{OTHER}{end}{SHOWN}</w:p>") == "shown"
    box = f"<w:r><w:pict><w:txbxContent><w:p>{begin}</w:p></w:txbxContent></w:pict></w:r>"
    assert read_block(f"<w:p>{box}{SHOWN}{end}</w:p>") == "shown"


def test_deleted_rows_are_no_part_of_a_table() -> None:
    row = "<w:tr><w:trPr>{}</w:trPr><w:tc><w:p>{}</w:p></w:tc></w:tr>"
    gone, kept = row.format("<w:del/>", OTHER), row.format("<w:ins/>", SHOWN)
    assert read_block(f"<w:tbl>{gone}{kept}</w:tbl>") == "shown"


@pytest.mark.parametrize("change", ["del", "moveFrom"])
def test_deletions_in_notes_are_left_out(change: str) -> None:
    document = docx.Document()
    note = (
        f'<w:footnotes {NAMES}><w:footnote w:id="2"><w:p>{SHOWN}<w:{change}>{OTHER}</w:{change}>'
        "</w:p></w:footnote></w:footnotes>"
    )
    kind = "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml"
    part = Part(PackURI("/word/footnotes.xml"), kind, note.encode(), document.part.package)
    document.part.relate_to(part, RT.FOOTNOTES)
    paragraph = document.add_paragraph("Why")
    paragraph._p.append(parse_xml(f'<w:r {NAMES}><w:footnoteReference w:id="2"/></w:r>'))
    assert parse_here(save_docx(document), "a.docx").text == "Why[1]\n\n[1] shown"


@pytest.mark.parametrize(
    ("case", "text"),
    [
        (
            "lists",
            "5. first\n  a) inner\n  b) other\n    5.i deep\n6. second\n  a) inner\n"
            "Article I article\n- dotted\n07 padded\n(Y) lettered\n(Z) next\n(AA) doubled\n"
            "3. third",
        ),
        ("signs", "Angle αЖ"),
        (
            "note with a link",
            "Body[1]\n\n[1] the noted words linked tabbed table in the note after it",
        ),
    ],
)
def test_numbers_signs_and_notes_are_those_that_are_printed(case: str, text: str) -> None:
    assert parse_here(CASES[case][0], "a.docx").text == text


def test_fractions_and_powers_of_formulas_are_told_from_numbers() -> None:
    power = f"<m:sSup><m:e>{math('10')}</m:e><m:sup>{math('6')}</m:sup></m:sSup>"
    total = f"<m:nary><m:sub>{math('i')}</m:sub><m:sup/><m:e>{math('x')}</m:e></m:nary>"
    half = f"<m:f><m:num>{math('1')}</m:num><m:den>{math('2')}</m:den></m:f>"
    data = make(p(f"<m:oMath>{half}{math('=')}{power}{total}</m:oMath>"))
    assert parse_here(data, "a.docx").text == "1/2=10^6ix"


def test_a_heading_has_its_number() -> None:
    heading = numbered("Duties", 2).replace("<w:numPr>", '<w:outlineLvl w:val="0"/><w:numPr>')
    sections = parse_here(make(heading, numbering=NUMBERING), "a.docx").sections
    assert [section.heading for section in sections] == ["Article I Duties"]


@pytest.mark.parametrize(
    ("case", "n_chars"),
    [("header and footer", 17), ("comment", 8), ("changes", 7), ("plain", 0)],
)
def test_text_beside_the_body_is_counted(case: str, n_chars: int) -> None:
    what = f"{n_chars} characters of headers, footers, comments and deletions left out"
    assert parse_here(CASES[case][0], "a.docx").remarks == ((what,) if n_chars else ())


def test_text_under_a_merged_cell_is_hidden() -> None:
    data = CASES["text under a merged cell"][0]
    found = parse_here(data, "a.docx").findings
    assert found == (Finding("hidden", "under a merged cell", len("buriedwords")),)
    assert "buried words" in parse_here(data, "a.docx", include_hidden=True).text


def test_charts_and_inserted_documents_are_noted() -> None:
    chart = f'<a:graphic xmlns:c="{CHARTS}"><c:chart/></a:graphic>'
    drawing = f"<w:r><w:drawing><wp:inline>{chart}</wp:inline></w:drawing></w:r>"
    data = make(p("Before", drawing) + '<w:altChunk r:id="link"/>')
    notes = parse_here(data, "a.docx").notes
    assert notes == ("charts, diagrams or inserted documents that are not read: 2",)
