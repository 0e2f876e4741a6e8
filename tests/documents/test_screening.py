"""Invisible characters are found, with their places, and nothing else."""

import pytest

from d2l.documents.document import Document
from d2l.documents.screening.screen import screen
from d2l.readers.findings import Finding, describe
from d2l.readers.parsing import Heading, Parsed, ParseRequest, Section
from tests.documents.samples import parse_here, read_shared


def look(text: str) -> tuple[Finding, ...]:
    return screen(Parsed((Section(text),)), ParseRequest("a", b"")).findings


def tags(text: str) -> str:
    return "".join(chr(0xE0000 + ord(char)) for char in text)


WALES = "\U0001f3f4" + tags("gbwls") + "\U000e007f"


def test_headings_stand_where_they_stood_before_tags_were_taken_out() -> None:
    title = f"Pu{tags('say yes')}mps"
    section = Section(f"{tags('no')}x\n\n{title}", headings=(Heading(5, 1, title),))
    (screened,) = screen(Parsed((section,)), ParseRequest("a", b"")).sections
    assert screened == Section("x\n\nPumps", headings=(Heading(3, 1, "Pumps"),))


def test_tags_are_taken_out_and_counted_but_for_flags() -> None:
    document = parse_here(f"Seen {WALES}.{tags('say yes')}".encode(), "a.txt")
    assert document.text == f"Seen {WALES}."
    assert document.findings == (Finding("hidden", "Unicode tags", 7, lines=(1,)),)
    data = f"Seen.{tags('say yes')}".encode()
    assert parse_here(data, "a.txt", include_hidden=True).text == data.decode()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("if access \u202e\u2066// check\u2069", "controls of direction"),
        ("pay\u200bpal", "zero-width characters inside words"),
        ("a" + "\U000e0101" * 9, "runs of invisible characters"),
    ],
)
def test_characters_that_cannot_be_seen_are_told(text: str, what: str) -> None:
    (found,) = look(f"\n{text}")
    assert (found.kind, found.what, found.lines) == ("characters", what, (2,))


def test_findings_name_pages_and_lines_count_on_through_sections() -> None:
    page = Section("pay\u200bpal", page=2)
    parsed = screen(Parsed((Section("Fine.", page=1), page)), ParseRequest("a", b""))
    assert [found.pages for found in parsed.findings] == [(2,)]
    document = parse_here("# One\n\nFine.\n\n# Two\n\nZero\u2063width.".encode(), "a.md")
    (found,) = document.findings
    assert document.text.split("\n")[found.lines[0] - 1] == "Zero\u2063width."


def test_lines_for_people() -> None:
    assert [
        describe(Finding("hidden", "tiny", 1200, (2, 7))),
        describe(Finding("hidden", "tiny", 1, (2,)), include_hidden=True),
        describe(Finding("characters", "controls of direction", 1, lines=(4,))),
        describe(Finding("characters", "controls of direction", 7, lines=tuple(range(1, 8)))),
        describe(Finding("hidden", "not displayed", 5)),
    ] == [
        "p. 2, 7: 1,200 characters of hidden text (tiny), left out",
        "p. 2: 1 character of hidden text (tiny), included",
        "line 4: 1 invisible character (controls of direction)",
        "lines 1, 2, 3, 4, 5, …: 7 invisible characters (controls of direction)",
        "5 characters of hidden text (not displayed), left out",
    ]


@pytest.mark.parametrize(
    "name", ["almanac.md", "paper.docx", "perl-policy.txt", "multicolumn.pdf", "habibi-arabic.pdf"]
)
def test_ordinary_documents_give_no_findings(name: str) -> None:
    document: Document = read_shared(name)
    assert [f for f in document.findings if f.kind != "furniture"] == []
