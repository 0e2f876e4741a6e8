from unittest.mock import Mock

import pytest

from d2l.documents.document import Document
from d2l.documents.read import read_document
from d2l.errors import DocumentError
from d2l.readers.pdf.reader import UNSEEN
from d2l.readers.pdf.runs import MAX_LAYERS, MAX_MARKS
from d2l.readers.pdf.viewer import Viewer, ViewError
from tests.documents import samples
from tests.documents.samples import (
    SCAN,
    encrypt_pdf,
    make_pdf,
    parse_here,
    pdf_line,
    pdf_page,
    read_bytes,
    write_objects,
)
from tests.readers.pdf.pages import build, form, stream

WORDS = ["No", "New", "Hot", "Dry", "Old", "Big", "Wet", "Far", "Red"]
PLAIN = make_pdf([pdf_page(["Secret text."])])


def refusal(data: bytes, **options: object) -> tuple[str, str | None]:
    with pytest.raises(DocumentError) as caught:
        read_bytes(data, "a.pdf", **options)
    return caught.value.message, caught.value.hint


def test_encrypted_file_needs_its_password() -> None:
    locked = encrypt_pdf(PLAIN, "open", "boss")
    assert refusal(locked) == (
        "a.pdf: encrypted; it needs a password",
        "give the password with --password",
    )
    assert refusal(locked, password="guess") == (
        "a.pdf: wrong password",
        "give the password that opens this file with --password",
    )
    for password in ("open", "boss"):
        assert read_bytes(locked, "a.pdf", password=password).text == "Secret text."


def test_empty_user_password_opens_by_itself_and_an_empty_owner_password_does_not() -> None:
    assert read_bytes(encrypt_pdf(PLAIN, "", "boss"), "a.pdf").text == "Secret text."
    assert read_bytes(encrypt_pdf(PLAIN, "", ""), "a.pdf").text == "Secret text."
    assert refusal(encrypt_pdf(PLAIN, "open", ""))[0] == "a.pdf: encrypted; it needs a password"


def test_scan_is_refused_with_the_number_of_its_pages() -> None:
    hint = "make the text readable first, for example with ocrmypdf, and give the result"
    assert refusal(make_pdf([SCAN])) == (
        "a.pdf: its only page has scanned images and no text",
        hint,
    )
    assert refusal(make_pdf([SCAN] * 12)) == (
        "a.pdf: all 12 pages have scanned images and no text",
        hint,
    )
    assert refusal(make_pdf(["", ""])) == ("a.pdf: all 2 pages have no text", hint)


def test_pages_without_text_are_noted_if_they_hold_images() -> None:
    document = read_bytes(make_pdf([pdf_page(["One"]), SCAN, "", pdf_page(["Four"])]), "a.pdf")
    assert [(section.page, section.text) for section in document.sections] == [
        (1, "One"),
        (4, "Four"),
    ]
    assert document.notes == (
        "1 of 4 pages (p. 2) have no text, only images; run OCR to read them",
    )


def test_truncated_file_is_refused() -> None:
    whole = make_pdf([pdf_page(["One two three."])] * 3)
    for share in (0.3, 0.6, 0.97):
        message, hint = refusal(whole[: int(share * len(whole))])
        assert message.startswith("a.pdf: damaged or not a valid PDF (")
        assert hint is not None


@pytest.mark.parametrize(
    "objects",
    [
        [b"<< /Type /Catalog >>"],
        [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"],
        [b"<< /Type /Catalog /Pages 9 0 R >>"],
        [b"null"],
        [b"<< /Type /Catalog /Pages 2 0 R >>", b"<< /Type /Pages /Kids [] /Count 0 >>"],
    ],
    ids=["no pages", "loop", "dangling", "null", "zero pages"],
)
def test_broken_structure_is_refused(objects: list[bytes]) -> None:
    assert refusal(write_objects(objects))[0].startswith("a.pdf: damaged or not a valid PDF (")


def test_deeply_nested_arrays_do_not_crash() -> None:
    message, _ = refusal(
        write_objects([b"<< /Type /Catalog /Pages " + b"[" * 50_000 + b"]" * 50_000 + b" >>"])
    )
    assert message.startswith("a.pdf: damaged or not a valid ")


def test_repaired_file_is_read_and_noted() -> None:
    broken = PLAIN.replace(b"startxref\n", b"startxref\n9")
    document = read_bytes(broken, "a.pdf")
    assert document.text == "Secret text."
    assert document.notes == (
        "the file is damaged; it was repaired, check that no text is missing",
    )


def manual(n_pages: int) -> Document:
    pages = []
    for number in range(1, n_pages + 1):
        side = f"{number} Chapter 2. Pumps" if number % 2 else f"2.{number}. Seals {number}"
        body = [
            f"{WORDS[number]} pumps are told of on this page in words of their own, and then on",
            f"over the end of the line until the {WORDS[-number]} ones stop.",
        ]
        titles = ["Pumps", "Seals"] if number == 1 else []
        pages.append(
            "\n".join(
                (
                    pdf_line("Pump Manual, Release 7", 72, 760),
                    pdf_page([*titles, *body]),
                    pdf_line(side, 72, 40),
                )
            )
        )
    return read_bytes(make_pdf(pages), "a.pdf")


def test_running_headers_and_numbered_footers_are_dropped() -> None:
    document = manual(6)
    assert [section.page for section in document.sections] == [1, 2, 3, 4, 5, 6]
    assert document.sections[3].text == (
        "Old pumps are told of on this page in words of their own, and then on over the end of the "
        "line until the Big ones stop."
    )
    running = 6 * "Pump Manual, Release 7" + 3 * "0 Chapter 2. Pumps" + 3 * "2.0. Seals 0"
    assert document.remarks == (
        f"{len(running)} characters of running headers and footers left out: "
        '"Pump Manual, Release 7", "1 Chapter 2. Pumps", "2.2. Seals 2", …',
    )


def test_rows_of_a_table_that_goes_on_are_no_headers() -> None:
    pages = [
        [f"Bolt {31 * n * row} costs {17 * n * row}." for row in range(2, 9)] for n in (3, 5, 7)
    ]
    document = read_bytes(make_pdf([pdf_page(rows) for rows in pages]), "a.pdf")
    assert document.text.split() == " ".join(row for rows in pages for row in rows).split()
    assert not document.remarks


@pytest.mark.parametrize("filter", ["/Unknown", "[/ASCIIHexDecode /DCTDecode]", "7"])
def test_form_that_cannot_be_read_is_noted(filter: str) -> None:
    lost = stream(pdf_line("lost", 72, 600), f"/Subtype /Form /BBox [0 0 9 9] /Filter {filter}")
    content = pdf_line("Seen.", 72, 700) + " /X Do"
    document = parse_here(build(content, resources="/XObject << /X 6 0 R >>", extra=[lost]))
    assert document.text == "Seen."
    assert document.notes[0] == "1 of 1 pages (p. 1) have damaged content that could not be read"


def test_pages_that_pdfium_takes_too_long_for_are_noted() -> None:
    layers = f"/OCProperties << /OCGs [{'6 0 R ' * (MAX_LAYERS + 1)}] >>"
    marked = "/P BMC " * (MAX_MARKS + 1)
    for content, catalog in ((marked, ""), ("", layers)):
        data = build(content + pdf_line("Seen.", 72, 700), catalog=catalog, extra=["<< >>"])
        document = parse_here(data)
        assert document.text == "Seen."
        assert document.notes == (f"1 of 1 pages (p. 1) have {UNSEEN}",)


def test_annotations_that_cannot_be_read_are_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    content, page = pdf_line("Seen.", 72, 700), "/Annots [<< /Subtype /Stamp /Rect [0 0 9 9] >>]"
    assert parse_here(build(content, page=page)).notes == ()
    monkeypatch.setattr(Viewer, "flatten", Mock(side_effect=ViewError))
    assert parse_here(build(content, page=page)).notes == (
        "1 of 1 pages (p. 1) have annotations or form fields that could not be read",
    )


def fill_in(texts: list[tuple[str, int, int]], values: list[tuple[str, int, int]]) -> bytes:
    """A page of a form: its texts, and the values of its fields, with their positions."""
    numbers = " ".join(f"{6 + n} 0 R" for n in range(len(values)))
    acro = f"/AcroForm << /Fields [{numbers}] /DR << /Font << /F1 3 0 R >> >> >>"
    fields = [
        f"<< /Type /Annot /Subtype /Widget /FT /Tx /T (t{x}_{y}) /V ({value}) /F 4 "
        f"/DA (/F1 10 Tf 0 g) /Rect [{x} {y - 4} {x + 120} {y + 12}] >>"
        for value, x, y in values
    ]
    content = "\n".join(pdf_line(text, x, y) for text, x, y in texts)
    return build(content, page=f"/Annots [{numbers}]", catalog=acro, extra=fields)


def test_values_of_a_form_stand_beside_their_labels() -> None:
    labels = [("Form of the yard", 72, 740), ("Name:", 72, 700), ("Date:", 330, 700),
              ("agree", 90, 680), ("Remarks", 72, 660), ("Thank you.", 72, 560)]  # fmt: skip
    values = [("Dry it", 72, 638), ("3 May", 380, 700), ("Ida Holm", 120, 700), ("X", 72, 680)]
    assert parse_here(fill_in(labels, values)).text == (
        "Form of the yard\n\nName: Ida Holm Date: 3 May\nX agree\nRemarks\nDry it\n\nThank you."
    )


def test_values_without_a_page_of_labels_are_read_in_order() -> None:
    assert parse_here(fill_in([], [("One", 72, 700), ("Two", 72, 600)])).text.split() == [
        "One",
        "Two",
    ]
    high = fill_in([("Below.", 72, 500)], [("Above.", 72, 700)])
    assert parse_here(high).text.split() == ["Above.", "Below."]


def test_file_of_annotations_alone_is_read() -> None:
    note = "/Annots [<< /Subtype /Stamp /Rect [9 9 99 99] /AP << /N 6 0 R >> >>]"
    data = build("", page=note, extra=[form(pdf_line("Oslo", 9, 9))])
    assert parse_here(data).text == "Oslo"
    locked = encrypt_pdf(data, "user")
    assert read_bytes(locked, "a.pdf", password="user").text == "Oslo"


def test_text_that_is_all_there_is_on_every_page_stays() -> None:
    document = read_bytes(make_pdf([pdf_page(["A certificate."])] * 5), "a.pdf")
    assert [section.text for section in document.sections] == ["A certificate."] * 5


def test_two_pages_are_too_few_to_tell_a_header() -> None:
    assert "Pump Manual, Release 7" in manual(2).text


@pytest.mark.parametrize("footers", [("I", "II", "III", "IV"), ("Page 1 of 2", "Page 2 of 2")])
def test_page_numbers_in_capitals_and_of_two_pages_are_dropped(footers: tuple[str, ...]) -> None:
    pages = [
        pdf_page([f"{word} pumps leak."]) + "\n" + pdf_line(footer, 300, 40)
        for word, footer in zip(WORDS, footers, strict=False)
    ]
    document = read_bytes(make_pdf(pages), "a.pdf")
    assert [section.text for section in document.sections] == [
        f"{word} pumps leak." for word in WORDS[: len(footers)]
    ]


def test_line_ends_of_paragraphs_go_and_others_stay() -> None:
    page = pdf_page(
        [
            "The first paragraph of this page is set in lines that are all of about one width, so",
            "that each of them is full, and one of them ends in a broken word because of the hyph-",
            "enation of a type-",
            "setter. It stops here.",
            "• the first item of a list, which is too long for one line of this page and so goes",
            "on in a second line",
            "• the second item",
            "1. Open the lid.",
            "2. Close it.",
        ]
    )
    assert read_bytes(make_pdf([page]), "a.pdf").text == (
        "The first paragraph of this page is set in lines that are all of about one width, so "
        "that each of them is full, and one of them ends in a broken word because of the "
        "hyphenation of a typesetter. It stops here.\n"
        "• the first item of a list, which is too long for one line of this page and so goes on "
        "in a second line\n• the second item\n1. Open the lid.\n2. Close it."
    )


def test_cells_drawn_one_by_one_come_in_rows() -> None:
    cells = [
        pdf_line(f"{name}{row}", x, 600 - 24 * row)
        for row in range(3)
        for name, x in (("Part", 72), ("Code", 200), ("Price", 320))
    ]
    assert read_bytes(make_pdf(["\n".join(cells)]), "a.pdf").text == (
        "Part0 | Code0 | Price0\nPart1 | Code1 | Price1\nPart2 | Code2 | Price2"
    )


def test_code_keeps_its_lines() -> None:
    lines = [pdf_line(text, 72, 700 - 12 * n, font="F2") for n, text in enumerate(("a/b/", "a/c/"))]
    prose = [pdf_line("Some prose above.", 72, 740)]
    assert read_bytes(make_pdf(["\n".join(prose + lines)]), "a.pdf").text == (
        "Some prose above.\n\na/b/\na/c/"
    )


@pytest.mark.slow
def test_manual_has_no_headers_and_no_page_numbers() -> None:
    document = samples.read_shared("developers-reference.pdf")
    with_header = [s for s in document.sections if "Reference, Release 13.20" in s.text]
    assert len(with_header) == 6  # pages without other text
    assert all(len(section.text) < 120 for section in with_header)
    assert "Chapter 4. Resources for Debian Members" not in document.text
    page = next(section for section in document.sections if section.page == 24)
    assert page.heading is not None
    assert page.heading.startswith("salsa.debian.org")
    assert page.text.startswith("If you have some Debian-specific information which you want to")
    assert page.text.endswith("• password and preferred shell on Debian Project machines")


@pytest.mark.slow
def test_words_of_justified_text_come_apart() -> None:
    document = samples.read_shared("developers-reference.pdf")
    assert "In addition, if you have some packages ready for inclusion in Debian" in document.text
    assert "\ndists/stable/main/binary-amd64/\ndists/stable/main/binary-armel/\n" in document.text


@pytest.mark.slow
def test_cyrillic_manual_reads_well() -> None:
    document = samples.read_shared("debian-faq.ru.pdf")
    assert "ГЛАВА 3." not in document.text
    assert "Идея свободной Unix-подобной системы исходит от проекта GNU" in document.text
    assert "по определению свободного ПО (https://www.debian.org/social" in document.text


def test_columns_are_read_one_after_the_other() -> None:
    document = samples.read_shared("multicolumn.pdf")
    assert (
        "Lorem ipsum dolor sit amet, consectetuer adipiscing elit. Ut purus elit" in document.text
    )
    assert document.sections[0].text.endswith("Nam feugiat")
    assert "\nDenmark 5.8 42,951 Copenhagen Danish\n" in document.text


def test_rows_of_a_table_without_rules_keep_their_cells() -> None:
    document = samples.read_shared("invoice-borderless-table.pdf")
    assert (
        "\nProduct Code: SKU-8847 | Category: Electronics | Unit Cost: $45.00 | "
        "Total Value: $13,005.00 | Last Audit: 2024-10-15\n"
    ) in document.text
    assert "\nLocation: B-07 | Actual: 289 | Variance: -23\n" in document.text  # empty cells
    assert "\nReport ID: SPARSE-2024-INV-1234\nWarehouse: Distribution" in document.text


def test_sample_files_that_are_locked_scanned_or_damaged() -> None:
    locked = samples.shared_doc("encrypted-user-password.pdf")
    with pytest.raises(DocumentError, match="encrypted; it needs a password"):
        read_document(locked)
    text = "pdf encryption test\npassword: asdfzxcv"
    assert samples.read_shared("encrypted-user-password.pdf", "asdfzxcv").text == text
    assert samples.read_shared("encrypted-empty-password.pdf").text == text
    with pytest.raises(DocumentError, match="its only page has scanned images and no text"):
        samples.read_shared("scan-no-text.pdf")
    damaged = samples.read_shared("malformed-helloworld-bad.pdf")
    assert (damaged.text, len(damaged.notes)) == ("Hello, world!", 1)
    assert samples.read_shared("habibi-arabic.pdf").text == "حَبيبي habibi حَبيبي"
