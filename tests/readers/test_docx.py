import re
import zipfile
from collections.abc import Iterator
from io import BytesIO

import docx
import pytest
from docx.enum.style import WD_STYLE_TYPE
from docx.opc.constants import RELATIONSHIP_TYPE as RT
from docx.opc.packuri import PackURI
from docx.opc.part import Part
from docx.oxml import parse_xml

from d2l.errors import DocumentError
from d2l.readers.findings import Finding
from d2l.readers.parsing import Heading, Section
from tests.documents import samples
from tests.documents.samples import make_docx, make_zip, parse_here, read_bytes, save_docx
from tests.sized import assert_four_times, measure

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def list_members(data: bytes) -> Iterator[tuple[str, bytes]]:
    with zipfile.ZipFile(BytesIO(data)) as archive:
        yield from ((name, archive.read(name)) for name in archive.namelist())


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (make_docx()[:5000], "its ZIP directory cannot be read"),
        (make_zip({"word/document.xml": b"<a/>"}), "KeyError"),
    ],
)
def test_damaged_document_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_bytes(data, "a.docx")
    assert caught.value.message == f"a.docx: damaged or not a valid DOCX document ({why})"


def test_document_without_text_is_refused() -> None:
    with pytest.raises(DocumentError, match=r"^a.docx: no text in this docx document$"):
        read_bytes(save_docx(docx.Document()), "a.docx")


@pytest.mark.parametrize(
    "kind",
    [
        "ms-word.document.macroEnabled.main",
        "ms-word.template.macroEnabledTemplate.main",
        "openxmlformats-officedocument.wordprocessingml.template.main",
    ],
)
def test_document_with_macros_and_template_are_read(kind: str) -> None:
    members = dict(list_members(make_docx()))
    types = members["[Content_Types].xml"]
    usual = b"openxmlformats-officedocument.wordprocessingml.document.main"
    members["[Content_Types].xml"] = types.replace(usual, kind.encode())
    assert read_bytes(make_zip(members), "a.docm").text == read_bytes(make_docx(), "a.docx").text


@pytest.mark.parametrize("part", ["document", "styles", "numbering", "settings"])
def test_parts_of_a_type_that_is_not_known_are_read(part: str) -> None:
    members = dict(list_members(make_docx()))
    types = members["[Content_Types].xml"].replace(f"{part}.xml".encode(), b"?")
    override = f'<Override PartName="/word/{part}.xml" ContentType="application/xml"/></Types>'
    members["[Content_Types].xml"] = types.replace(b"</Types>", override.encode())
    assert read_bytes(make_zip(members), "a.docx").text == read_bytes(make_docx(), "a.docx").text


RELATIONS = "word/_rels/document.xml.rels"


def test_a_relation_without_a_target_is_damage_and_without_a_type_is_passed_over() -> None:
    members = dict(list_members(make_docx()))
    whole = members[RELATIONS]
    members[RELATIONS] = whole.replace(b' Target="theme/theme1.xml"', b"")
    assert members[RELATIONS] != whole
    with pytest.raises(DocumentError, match=r"damaged or not a valid DOCX document \(TypeError\)"):
        read_bytes(make_zip(members), "a.docx")
    kept = re.sub(rb'Type="[^"]*/theme"', b"", whole)
    assert kept != whole
    members[RELATIONS] = kept
    assert read_bytes(make_zip(members), "a.docx").text == read_bytes(make_docx(), "a.docx").text


@pytest.mark.parametrize("target", ["NULL", "../NULL", "/word/media/gone.png", "theme/gone.xml"])
def test_relations_to_parts_that_are_not_there_are_passed_over(target: str) -> None:
    members = dict(list_members(make_docx()))
    relation = f'<Relationship Id="x" Type="http://x/image" Target="{target}"/></Relationships>'
    members[RELATIONS] = members[RELATIONS].replace(b"</Relationships>", relation.encode())
    assert parse_here(make_zip(members), "a.docx").text == read_bytes(make_docx(), "a.docx").text


def with_note(properties: str) -> bytes:
    """A document with a footnote of two paragraphs, whose mark has properties."""
    document = docx.Document()
    text = "".join(f"<w:p><w:r><w:t>{line}</w:t></w:r></w:p>" for line in ("See A.", "And B."))
    notes = Part(
        PackURI("/word/footnotes.xml"),
        "application/vnd.openxmlformats-officedocument.wordprocessingml.footnotes+xml",
        f'<w:footnotes {W}><w:footnote w:id="2">{text}</w:footnote></w:footnotes>'.encode(),
        document.part.package,
    )
    document.part.relate_to(notes, RT.FOOTNOTES)
    paragraph = document.add_paragraph("Why")
    mark = f'<w:r {W}><w:rPr>{properties}</w:rPr><w:t>!</w:t><w:footnoteReference w:id="2"/></w:r>'
    paragraph._p.append(parse_xml(mark))
    return save_docx(document)


def test_paragraphs_of_a_footnote_stay_apart() -> None:
    assert parse_here(with_note(""), "a.docx").text == "Why![1]\n\n[1] See A. And B."


def test_a_note_is_as_hidden_as_its_mark_unless_that_is_only_hard_to_see() -> None:
    data = with_note("<w:vanish/>")
    found = parse_here(data, "a.docx")
    n_chars = len("!SeeA.AndB.")
    assert found.text == "Why"
    assert found.findings == (Finding("hidden", "marked as hidden", n_chars),)
    included = parse_here(data, "a.docx", include_hidden=True)
    assert included.text == "Why![1]\n\n[1] See A. And B."
    white = parse_here(with_note('<w:color w:val="FFFFFF"/>'), "a.docx")
    assert white.text == "Why\n\n[1] See A. And B."
    assert white.findings == (Finding("hidden", "in the color of its ground", 1),)


def test_headings_lists_and_tables_come_in_order_and_merged_cells_once() -> None:
    assert read_bytes(make_docx(), "a.docx").sections == (
        Section(
            "Pump manual\n\nRead this first.",
            heading="Pump manual",
            headings=(Heading(0, 1, "Pump manual"),),
        ),
        Section(
            "Parts\n\n- Impeller\n- Seal\n\nPart | Code | Price\nSeal | S-1 | 4\n5\n\n"
            "After the table.",
            heading="Parts",
            headings=(Heading(0, 2, "Parts"),),
        ),
    )


def test_levels_of_headings_come_from_their_outline_or_the_names_of_their_styles() -> None:
    document = docx.Document()
    document.add_heading("Pumps", 1)
    document.add_heading("Filters", 3)
    outlined = document.add_paragraph("Cleaning")
    outlined._p.get_or_add_pPr().append(parse_xml(f'<w:outlineLvl {W} w:val="1"/>'))
    plain = document.add_heading("Not a heading", 2)
    plain._p.get_or_add_pPr().append(parse_xml(f'<w:outlineLvl {W} w:val="9"/>'))
    style = document.styles.add_style("My own", WD_STYLE_TYPE.PARAGRAPH)
    style.base_style = document.styles["Heading 4"]
    document.add_paragraph("Rinsing", style="My own")
    sections = parse_here(save_docx(document), "a.docx").sections
    assert [section.headings for section in sections] == [
        (Heading(0, 1, "Pumps"),),
        (Heading(0, 3, "Filters"),),
        (Heading(0, 2, "Cleaning"),),
        (Heading(0, 4, "Rinsing"),),
    ]


def test_content_controls_insertions_and_links_are_read_and_deletions_are_not() -> None:
    document = docx.Document()
    for xml in (
        f"<w:sdt {W}><w:sdtContent><w:p><w:r><w:t>Cover</w:t></w:r></w:p></w:sdtContent></w:sdt>",
        f"<w:p {W}><w:r><w:t>Keep </w:t></w:r><w:del><w:r><w:delText>old</w:delText></w:r></w:del>"
        "<w:ins><w:r><w:t>new</w:t></w:r></w:ins><w:hyperlink><w:r><w:t> link</w:t></w:r>"
        "</w:hyperlink><w:r><w:tab/><w:t>end</w:t><w:br/><w:t>next</w:t></w:r></w:p>",
    ):
        document.element.body.insert(0, parse_xml(xml))
    assert read_bytes(save_docx(document), "a.docx").text == "Keep new link\tend\nnext\n\nCover"


def test_numbered_paragraphs_count_up() -> None:
    document = docx.Document()
    for text in ("Open", "Close"):
        document.add_paragraph(text, style="List Number")
    assert read_bytes(save_docx(document), "a.docx").text == "1. Open\n2. Close"


def test_many_lists_of_many_kinds_take_no_time() -> None:
    def take(n: int) -> float:
        document = docx.Document()
        root = document.part.numbering_part.element
        level = '<w:lvl w:ilvl="0"><w:numFmt w:val="bullet"/></w:lvl>'
        for at in range(900, 900 + n):
            for xml in (
                f'<w:abstractNum {W} w:abstractNumId="{at}">{level}</w:abstractNum>',
                f'<w:num {W} w:numId="{at}"><w:abstractNumId w:val="{at}"/></w:num>',
            ):
                root.append(parse_xml(xml))
        properties = f'<w:pPr><w:numPr><w:numId w:val="{899 + n}"/></w:numPr></w:pPr>'
        item = f"<w:p {W}>{properties}<w:r><w:t>A</w:t></w:r></w:p>"
        document.element.body.insert(0, parse_xml(item))
        data = save_docx(document)
        assert parse_here(data, "a.docx").text == "- A"
        return measure(lambda data: parse_here(data, "a.docx"), data)

    assert_four_times(take, 1_000)


def test_paper_keeps_its_headings_and_its_table() -> None:
    document = samples.read_shared("paper.docx")
    headings = [section.heading for section in document.sections]
    assert headings[1:3] == ["Abstract", "Introduction"]
    assert "\n13 | 14 | 49e168b7-d2ae-407f-a055-2167576f39a1 | 15 | 16 | 17\n" in document.text
