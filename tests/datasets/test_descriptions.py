"""Descriptions are checked before anything is loaded; bad rows of a table lose nothing else."""

import io
from pathlib import Path

import pytest

from d2l.datasets.descriptions import (
    MAX_CHARS,
    DescriptionRow,
    check_description,
    read_stream,
    read_table,
)
from d2l.errors import DescriptionError


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("  sort lists \n", "sort lists"),
        ('"sort lists"', "sort lists"),
        ("'sort lists'", "sort lists"),
        ('say "yes"', 'say "yes"'),
        ("résumé des textes", "résumé des textes"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
    ],
)
def test_descriptions_lose_white_space_and_quotes_around(given: str, text: str) -> None:
    assert check_description(given) == text


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "the description is empty"),
        (" \n ", "the description is empty"),
        ('""', "the description is empty"),
        ("a\x00b", "the description is not text"),
        ("\udcff", "the description is not text"),
        ("x" * (MAX_CHARS + 1), "the description has 20,001 characters, at most 20,000 are read"),
    ],
)
def test_what_is_no_description_is_refused(given: str, message: str) -> None:
    with pytest.raises(DescriptionError) as raised:
        check_description(given)
    assert raised.value.message == message


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the description on standard input is empty"),
        (b"\x89PNG\xff\xfe", "the description on standard input is not UTF-8 text"),
        (b"\x00\x01", "the description on standard input is not text"),
        (b"word " * 1_000_000, "the description on standard input is larger than 80,000 bytes"),
    ],
)
def test_standard_input_is_checked(data: bytes, message: str) -> None:
    stream = io.BytesIO(data)
    with pytest.raises(DescriptionError) as raised:
        read_stream(stream)
    assert raised.value.message == message
    assert stream.tell() <= 4 * MAX_CHARS + 1  # megabytes are not read to their end
    assert read_stream(io.BytesIO("é\n".encode())) == "é"


def test_rows_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "tasks.tsv"
    path.write_bytes(
        b"name\tdescription\r\n"
        b"sort\tsort lists\r\n"
        b"\n"
        b"no tab here\n"
        b"../up\tescape\n"
        b"empty\t \n"
        b"a\tb\tc\td\n"
        b"binary\t\xff\xfe\n"
        b"SORT\tagain\n"
        b"last one\t\"say 'yes'\"\n"
    )
    rows = read_table(path)
    good = [row for row in rows if row.error is None]
    assert good == [
        DescriptionRow(2, "sort", "sort lists"),
        DescriptionRow(10, "last one", "say 'yes'"),
    ]
    assert {row.line: row.error.message for row in rows if row.error is not None} == {
        4: f"{path}, line 4: has 1 column, expected 2 or 3",
        5: f"{path}, line 5: '../up' cannot be the name of a folder",
        6: f"{path}, line 6: the description is empty",
        7: f"{path}, line 7: has 4 columns, expected 2 or 3",
        8: f"{path}, line 8 is not UTF-8 text",
        9: f"{path}, line 9: 'SORT' is the name in line 2, too",
    }


def test_tables_without_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "tasks.tsv"
    with pytest.raises(DescriptionError, match="cannot be read"):
        read_table(path)
    path.write_text("\n\n", "utf-8")
    with pytest.raises(DescriptionError, match="has no rows"):
        read_table(path)
