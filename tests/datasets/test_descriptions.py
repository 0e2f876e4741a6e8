"""Descriptions are checked before anything is loaded."""

import io

import pytest

from d2l.datasets.descriptions import MAX_CHARS, check_description, read_stream
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
