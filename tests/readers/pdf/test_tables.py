import pytest

from tests.documents.samples import make_pdf, pdf_line, read_bytes

COLUMNS = (72, 200, 330, 460)


def read(*pages: str) -> str:
    """Read pages; a line is a row, its cells stand between "|", and "*" before it makes it bold."""
    drawn = [
        "\n".join(
            pdf_line(cell.strip(), x, 700 - 12 * n, font="F2" if row.startswith("*") else "F1")
            for n, row in enumerate(page.split("\n"))
            for cell, x in zip(row.strip("*").split("|"), COLUMNS, strict=False)  # fewer cells
            if cell.strip()
        )
        for page in pages
    ]
    data = make_pdf(drawn).replace(b"/BaseFont /Courier", b"/BaseFont /My-Bold")
    return read_bytes(data, "a.pdf").text


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (
            "*Pin|Signal\n15|Trigger\n16|Ground",
            "Pin: 15 | Signal: Trigger\nPin: 16 | Signal: Ground",
        ),
        ("Part|Flow|Order\nF1|20|4711\nF2||4712", "Part: F2 | Order: 4712"),
        ("*|2021|2022\nSales|41|49\n*Sum|41|49\nTax|1|2", "\n\nTax | 2021: 1 | 2022: 2"),
        (
            "*Item|Size|In\nTea|S|1\nJam|M|3\nFood\nSoup|L|6\nBun|M|1",
            "Food\nItem: Soup | Size: L | In: 6\nItem: Bun | Size: M | In: 1",
        ),
        ("*Flow|Order\n*in l/h|number\n20|4711\n30|4712", "Flow in l/h: 30 | Order number: 4712"),
    ],
    ids=["bold", "above numbers", "empty corner, sum", "names between rows", "two rows of heads"],
)
def test_cells_stand_behind_the_heads_of_their_columns(page: str, text: str) -> None:
    assert read(page).endswith(text)


@pytest.mark.parametrize(
    "page",
    [
        "Weight|14 kg\nHeight|30 cm\nPower|1200 W",
        "*Weight|14 kg\n*Height|30 cm\n*Power|1200 W",
        "Berlin|our sign|your sign\n2024-03-01|AB 1|XY 12",
        "Acme|Paris|France\nBond|London|England",
    ],
    ids=["names and values", "all bold", "small letters", "words alone"],
)
def test_rows_without_a_head_stay_as_they_are(page: str) -> None:
    assert read(page) == page.replace("*", "").replace("|", " | ")


def test_a_table_goes_on_at_the_top_of_the_next_page_and_ends_with_other_columns() -> None:
    pages = ("Part|Flow|Order\nF1|20|4711", "F3|40|4713\nF4|50|4714\n\nA line.\n\n1|2|3\n4|5|6")
    assert read(*pages).endswith(
        "Part: F4 | Flow: 50 | Order: 4714\n\nA line.\n\n1 | 2 | 3\n4 | 5 | 6"
    )
