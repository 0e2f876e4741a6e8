import docx
import pytest
from docx.oxml import parse_xml

from d2l.documents.document import Section
from d2l.errors import DocumentError
from tests.documents import samples
from tests.documents.samples import make_docx, make_zip, read_bytes, save_docx

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


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


def test_headings_lists_and_tables_come_in_order_and_merged_cells_once() -> None:
    assert read_bytes(make_docx(), "a.docx").sections == (
        Section("Pump manual\n\nRead this first.", heading="Pump manual"),
        Section(
            "Parts\n\n- Impeller\n- Seal\n\nPart | Code | Price\nSeal | S-1 | 4\n5\n\n"
            "After the table.",
            heading="Parts",
        ),
    )


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


def test_paper_keeps_its_headings_and_its_table() -> None:
    document = samples.read_shared("paper.docx")
    headings = [section.heading for section in document.sections]
    assert headings[1:3] == ["Abstract", "Introduction"]
    assert "\n13 | 14 | 49e168b7-d2ae-407f-a055-2167576f39a1 | 15 | 16 | 17\n" in document.text
