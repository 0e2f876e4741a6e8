import pytest

from d2l.readers.pdf.layout import clean_line
from tests.documents.samples import HALF_EM, make_pdf, pdf_line, pdf_page, read_bytes


def read(*lines: str) -> str:
    return read_bytes(make_pdf(["\n".join(lines)], font=HALF_EM), "a.pdf").text


def rows(*cells: tuple[str, ...], columns: tuple[float, ...]) -> list[str]:
    return [
        pdf_line(text, x, 700 - 12 * row)
        for row, texts in enumerate(cells)
        for text, x in zip(texts, columns, strict=True)
    ]


@pytest.mark.parametrize(
    ("drawn", "text"),
    [
        ("Aufsatz ¨uber die Gr¨oße", "Aufsatz über die Größe"),
        ("Bah´a’´ı, Pozna´n, Le´sniak", "Bahá’í, Poznań, Leśniak"),
        ("Franc¸ois, Fran¸cois, voil`a, Espa˜na, ˇCech", "François, François, voilà, España, Čech"),
        ("that´s, I´m, they´re", "that´s, I´m, they´re"),
        ("`ls` of http://x.org/˜ann, 2ˆn", "`ls` of http://x.org/˜ann, 2ˆn"),
        ("the ﬁrst oﬃce", "the first office"),
    ],
)
def test_accents_drawn_apart_join_their_letters_and_other_signs_stay(drawn: str, text: str) -> None:
    assert clean_line(drawn) == text


def test_bullet_at_a_code_without_a_character_stays() -> None:
    bullets = [pdf_line("\x7f", 72, 700 - 12 * n) for n in range(3)]
    items = [pdf_line(text, 90, 700 - 12 * n) for n, text in enumerate(("Oil", "Seal", "Gasket"))]
    drawn = [line for pair in zip(bullets, items, strict=True) for line in pair]
    assert read(*drawn) == "• Oil\n• Seal\n• Gasket"


def test_cells_that_do_not_begin_below_each_other_come_apart() -> None:
    assert read(
        *rows(("command", "name"), columns=(100, 200)),
        *(line.replace("700", "688") for line in rows(("setting", "choices"), columns=(90, 195))),
    ) == "command | name\nsetting | choices"  # fmt: skip


def test_raised_number_does_not_run_into_the_digits_before_it() -> None:
    power = "(about 10) Tj /F1 7 Tf 40 4 Td (6) Tj /F1 10 Tf 3.5 -4 Td ( pumps) Tj"
    assert read(f"BT /F1 10 Tf 72 700 Td {power} ET") == "about 10^6 pumps"


def test_cells_of_one_text_object_come_apart() -> None:
    moves = "(Part) Tj 100 0 Td (Code) Tj -100 -14 Td (Seal) Tj 100 0 Td (S-1) Tj"
    assert read(f"BT /F1 10 Tf 72 700 Td {moves} ET") == "Part | Code\nSeal | S-1"


def test_stretched_line_of_a_paragraph_is_no_row() -> None:
    page = [
        pdf_line("An address that cannot be broken stretches a line of justified text a lot, see",
                 72, 700),
        pdf_line("it at", 72, 688), pdf_line("example.org/" + "a" * 57, 117, 688),
        pdf_line("and what follows it.", 72, 676),
    ]  # fmt: skip
    assert " | " not in read(*page)


def test_words_placed_one_by_one_in_a_justified_line_are_no_cells() -> None:
    home = "BT 1 0 0 1 0 0 Tm 1 0 0 1"  # as ReportLab begins every text
    words = (("A", 72), ("pump", 86), ("leaks", 115))  # 9 points apart
    assert read(*(f"{home} {x} 700 Tm /F1 10 Tf ({word}) Tj ET" for word, x in words)) == (
        "A pump leaks"
    )


def test_line_below_the_last_cell_goes_on_with_it() -> None:
    text = (("-a", "Reads every file of the folder that is"), ("-b", "Writes nothing."))
    first, second = rows(text[0], columns=(72, 110)), rows(text[1], columns=(72, 110))
    page = [*first, pdf_line("named, and of those below it.", 110, 688)]
    page += [line.replace("700", "676") for line in second]
    assert read(*page) == (
        "-a | Reads every file of the folder that is named, and of those below it.\n"
        "-b | Writes nothing."
    )


def test_contents_are_no_table() -> None:
    contents = rows(
        ("1.1", "Seals . . . . . . . . .", "3"),
        ("1.2", "Pumps . . . . . . . . .", "5"),
        ("1.3", "Index . . . . . . . . .", "12"),
        columns=(72, 100, 300),
    )
    assert read(*contents) == "1.1 Seals ... 3\n1.2 Pumps ... 5\n1.3 Index ... 12"


def test_lines_of_a_narrow_column_that_end_at_one_edge_are_a_paragraph() -> None:
    page = pdf_page(["Every pump has its seals", "which last a year in all", "but hot oil."])
    assert read(page) == "Every pump has its seals which last a year in all but hot oil."


def test_short_line_ends_a_paragraph_though_a_small_letter_follows() -> None:
    page = pdf_page([
        "The first line of this page is a full one and shows how wide the column of text is, so",
            "that this one is short:",
        "pump --seal=oil --speed=1200 --verbose --quiet",
        "starts the pump.",
    ])  # fmt: skip
    assert read(page).endswith(
        "short:\npump --seal=oil --speed=1200 --verbose --quiet\nstarts the pump."
    )
