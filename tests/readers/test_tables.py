"""Rows of tables stand behind the heads of their columns, in every format."""

import docx
import pytest
from docx.oxml import OxmlElement

from d2l.readers.tables import Cell, Table
from tests.documents.samples import parse_here, save_docx

ROWS = "Pin | Signal\nPin: 15 | Signal: trigger output\nPin: 16 | Signal: ground"


def make_docx(*, style: str | None = None, is_marked: bool = False, is_bold: bool = False) -> bytes:
    document = docx.Document()
    table = document.add_table(rows=3, cols=2, style=style)
    for row, line in zip(table.rows, ("Pin|Signal", "15|trigger output", "16|ground"), strict=True):
        for cell, text in zip(row.cells, line.split("|"), strict=True):
            cell.paragraphs[0].add_run(text).bold = True if is_bold and "Pin" in line else None
    if is_marked:
        table.rows[0]._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))
    return save_docx(document)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.md", b"| Pin | Signal |\n|---|:---|\n| 15 | trigger output |\n| 16 | ground |"),
        ("a.md", b"Pin | Signal\n--- | ---\n15 | trigger output\n16 | ground"),
        ("a.csv", b'Pin,Signal\r\n15,"trigger\noutput"\r\n16,ground\r\n'),
        ("a.csv", b"\xef\xbb\xbfPin;Signal\n15;trigger output\n\n16;ground\n"),
        ("a.tsv", b"Pin\tSignal\n15\ttrigger output\n16\tground\n"),
        ("a.docx", make_docx(is_marked=True)),
        ("a.docx", make_docx(is_bold=True)),
        ("a.docx", make_docx(style="Light Grid Accent 1")),
        ("a.html", b"<table><tr><th>Pin<th>Signal<tr><td>15<td>trigger output"
                   b"<tr><td>16<td>ground</table>"),
        ("a.html", b"<table><thead><tr><td>Pin<td>Signal<tbody><tr><th>15<td>trigger output"
                   b"<tr><th>16<td>ground</table>"),
        ("a.html", b"<table><tr><td><p><b>Pin</b></p><td><strong>Signal</strong><tr><td>15<td>"
                   b"trigger <b>output</b><tr><td><b>16</b><td><b>ground</b></table>"),
    ],
)  # fmt: skip
def test_each_row_stands_behind_its_heads(name: str, data: bytes) -> None:
    html = b"<!doctype html><body>" if name.endswith("html") else b""
    assert parse_here(html + data, name).text == ROWS


@pytest.mark.parametrize("style", [None, "Table Grid"])
def test_a_first_row_without_a_look_of_its_own_is_no_head(style: str | None) -> None:
    text = parse_here(make_docx(style=style), "a.docx").text
    assert text == "Pin | Signal\n15 | trigger output\n16 | ground"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.txt", "Pin | Signal\n15 | out"),
        ("a.md", "a | b\n\nc --- | d"),
        ("a.csv", "one line of words\nanother"),
    ],
)
def test_what_is_no_table_with_heads_stays(name: str, text: str) -> None:
    assert parse_here(text.encode(), name).text == text


def test_a_second_row_of_heads_names_the_columns_between() -> None:
    text = b"Prices\nModel,Price,,Since\n,net,gross,\nP10,1,2,2024\nP20,,4,\n"
    assert parse_here(text, "a.csv").text.split("\n")[3:] == [
        "Model: P10 | Price net: 1 | gross: 2 | Since: 2024",
        "Model: P20 | gross: 4",
    ]
    text = b"Name,,City\nIda,x,Rome\n,y,Oslo\n"
    assert (
        parse_here(text, "a.csv").text == "Name | City\nName: Ida | x | City: Rome\ny | City: Oslo"
    )


def test_rows_without_heads_keep_their_cells() -> None:
    assert parse_here(b"Sold\n1,2\n3,4\n", "a.csv").text == "Sold\n1 | 2\n3 | 4"


def test_cells_that_span_rows_and_columns_count_in_each() -> None:
    table = Table()
    assert table.write([Cell("Part", True, n_rows=2), Cell("Power", True, 2)]) == "Part | Power"
    assert table.write([Cell("min", True), Cell("max", True)]) == "min | max"
    row = [Cell("Seal", n_rows=2), Cell("4"), Cell("5")]
    assert table.write(row) == "Part: Seal | Power min: 4 | Power max: 5"
    assert table.write([Cell(""), Cell("7")]) == "Part: Seal | Power max: 7"
    assert table.write([Cell("Group", True, 3)]) == "Group"
    assert table.write([Cell("Cap"), Cell("8"), Cell("")]) == "Part: Cap | Power min: 8"
    assert table.write([Cell("", continues=True), Cell("9")]) == "Part: Cap | Power min: 9"
    assert table.write([Cell(""), Cell("")]) == ""


def test_long_heads_and_wide_tables_are_not_repeated() -> None:
    table = Table()
    table.write([Cell("word " * 20, True), Cell("Pin", True)])
    assert table.write([Cell("a"), Cell("1")]) == "a | Pin: 1"
    wide = Table()
    wide.write([Cell(f"c{n}", True) for n in range(100)])
    assert wide.write([Cell("x", n_columns=10**9), Cell("y")]) == "c0: x | y"
