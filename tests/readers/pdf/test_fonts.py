import pytest

from tests.documents.samples import make_pdf, pdf_line, read_bytes

TO_UNICODE = (
    b"1 begincodespacerange <0000> <FFFF> endcodespacerange\n"
    b"2 beginbfchar\n<0001> <0061>\n<0020> <003D>\nendbfchar\n"
    b"1 beginbfrange\n<0002> <0004> <0062>\nendbfrange"
)
COMPOSITE = (
    b"<< /Type /Font /Subtype /Type0 /BaseFont /Serif /Encoding /Identity-H %s /DescendantFonts "
    b"[<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Serif /CIDSystemInfo << /Registry (Adobe) "
    b"/Ordering (Identity) /Supplement 0 >> /DW 600 /W [1 [500 500 500 500] 32 [838]] >>] >>"
)
NAMED = b"<< /Type /Font /Subtype /Type1 /BaseFont /X /Encoding << /Differences [65 %s] >> >>"


def read(font: bytes, shown: str, *extra: bytes) -> tuple[str, tuple[str, ...]]:
    page = f"BT /F1 10 Tf 72 700 Td {shown} ET"
    document = read_bytes(make_pdf([page], font=font, extra=extra), "a.pdf")
    return document.text, document.notes


def test_font_with_more_widths_than_codes_is_read() -> None:
    font = (
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Times-Roman /Encoding /WinAnsiEncoding "
        b"/FirstChar 0 /Widths [" + b"250 500 " * 128 + b"500] >>"
    )
    assert read(font, "(Dear reader) Tj") == ("Dear reader", ())


@pytest.mark.parametrize("widths", ["null", "[null]", "[]", "<< >>"])
def test_font_whose_widths_are_no_numbers_does_not_lose_the_page(widths: str) -> None:
    font = f"<< /Type /Font /Subtype /TrueType /FirstChar 32 /Widths {widths} >>".encode()
    page = f"BT /F9 10 Tf 72 700 Td (odd) Tj ET {pdf_line('even', 72, 600)}"
    resources = b"<< /F9 6 0 R /F1 3 0 R"
    data = make_pdf([page], extra=[font]).replace(b"<< /F1 3 0 R", resources, 1)
    assert "even" in read_bytes(data, "a.pdf").text


@pytest.mark.parametrize(
    "entries", ["/Subtype /Type0 /ToUnicode 6 0 R", "/FirstChar (x) /Widths [1 2]", "/Encoding 7"]
)
def test_font_that_is_not_of_its_kind_does_not_lose_the_page(entries: str) -> None:
    font = f"<< /Type /Font /BaseFont /Odd {entries} >>".encode()
    content = f"{pdf_line('odd', 72, 700, font='F9')} {pdf_line('even', 72, 600)}"
    stream = b"<< /Length 1 >>\nstream\nx\nendstream"
    data = make_pdf([content], extra=[stream, font]).replace(b"/F1 3", b"/F9 7 0 R /F1 3", 1)
    assert "even" in read_bytes(data, "a.pdf").text


def test_words_come_apart_in_a_font_whose_glyph_32_is_no_space() -> None:
    stream = b"<< /Length %d >>\nstream\n%s\nendstream" % (len(TO_UNICODE), TO_UNICODE)
    shown = "[<00010002> -317 <0003002000010004>] TJ"
    assert read(COMPOSITE % b"/ToUnicode 6 0 R", shown, stream) == ("ab c=ad", ())


def test_names_of_glyph_variants_and_ligatures_become_their_characters() -> None:
    font = NAMED % b"/a.sc /f_i /f_f_l /grave.ts1 /b"
    assert read(font, "(ABCDE) Tj") == ("afiffl`b", ())


@pytest.mark.parametrize(
    ("font", "shown"),
    [
        (COMPOSITE % b"", "<00240025> Tj"),
        (COMPOSITE.replace(b"Identity-H", b"EUC-H") % b"", "<BCE8B0B7> Tj"),
        (NAMED % b"/g36 /g37", "(AB) Tj"),
    ],
    ids=["glyph numbers", "codes that are not read", "numbered names"],
)
def test_fonts_that_do_not_tell_their_characters_are_noted(font: bytes, shown: str) -> None:
    _, notes = read(font, shown)
    assert notes == (
        "1 of 1 pages (p. 1) have fonts that do not tell their characters; "
        "run OCR if the text is garbled",
    )
