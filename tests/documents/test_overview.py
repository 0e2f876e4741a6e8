import re
from itertools import pairwise
from pathlib import Path

import pytest

from d2l.documents.document import Document
from d2l.documents.intake import ReadOptions, read_inputs
from d2l.documents.overview import write_overview
from d2l.readers.parsing import Heading, Section

ROOT = Path(__file__).parents[2]


class Words:
    """A token is a word or a mark."""

    def encode(self, text: str) -> list[int]:
        return [0 for _ in re.findall(r"\w+|[^\w\s]", text)]

    def token_starts(self, text: str) -> list[int]:
        return [match.start() for match in re.finditer(r"\w+|[^\w\s]", text)]


def overview(document: Document, limit: int = 300) -> str:
    written = write_overview(document, Words(), limit)
    assert len(Words().encode(written)) <= limit
    return written


def make(*parts: tuple[int, str, str], name: str = "pump-guide.pdf", before: str = "") -> Document:
    """A document of headings (level, title), each with its text, a page each."""
    sections = [Section(before, 1)] if before else []
    for page, (level, title, text) in enumerate(parts, 1):
        sections.append(Section(f"{title}\n\n{text}", page, title, (Heading(0, level, title),)))
    return Document(name, "pdf", tuple(sections), "0" * 64, 1)


def read(path: Path) -> Document:
    return read_inputs([str(path)], ReadOptions()).documents[0]


def test_a_manual_has_title_length_chapters_and_intended_use() -> None:
    written = overview(read(ROOT / "examples" / "manual.pdf"), 400)
    title, length, *_ = written.splitlines()
    assert title == "Title: Pellen D7 Drum Coffee Roaster – User manual"
    assert length == "Length: 12 pages, 12 chapters, 37 sections, about 3,500 words"
    assert "The Pellen D7 roasts green coffee in an electrically heated steel drum." in written
    assert "- 1 Before you begin (p. 3)" in written
    assert "- 12 Warranty and service (p. 12)" in written
    assert "..." not in written  # no table of contents


def test_markdown_in_a_plain_text_file_has_an_outline() -> None:
    written = overview(read(ROOT / "examples" / "manual.txt"), 400)
    assert written.startswith("Title: Pellen D7 Drum Coffee Roaster\nLength: 12 chapters")
    assert "- 12 Warranty and service" in written


def test_numbered_headings_of_plain_text_are_the_outline() -> None:
    text = "1. Scope\n\nThis text is about rain in spring.\n\n2.1 Rain\n\nRain falls from clouds.\n"
    assert overview(Document.from_text(text)).endswith("- 1. Scope: 2.1 Rain")


def test_a_title_is_the_heading_above_all_others() -> None:
    below = [(2, "Setup", "Put the pump on a table."), (2, "Use", "Press the violet button.")]
    written = overview(make((1, "Orvane 40", "The Orvane 40 is a garden pump."), *below))
    assert written.startswith("Title: Orvane 40\n")
    assert written.endswith("- Setup (p. 2)\n- Use (p. 3)")


def test_a_first_chapter_is_no_title() -> None:
    chapters = [(1, title, f"{title} takes a while to learn.") for title in ("Setup", "Use")]
    written = overview(make(*chapters))
    assert written.startswith("Title: pump guide\n")
    assert "- Setup (p. 1)\n- Use (p. 2)" in written


def test_deep_headings_go_first_and_the_outline_reaches_the_end() -> None:
    parts = [
        part
        for n in range(1, 21)
        for part in [
            (1, f"Chapter {n}", f"Chapter number {n} begins with this sentence."),
            (2, f"Inner {n}", "More text stands in here."),
        ]
    ]
    written = overview(make(*parts), 400)
    assert [f"- Chapter {n} " in written for n in range(1, 21)] == [True] * 20
    assert "(some left out)" in written
    few = overview(make(*parts), 120)
    shown = [int(n) for n in re.findall(r"- Chapter (\d+)", few)]
    assert 4 <= len(shown) < 20
    assert max(after - before for before, after in pairwise([1, *shown, 20])) <= 8
    assert "Inner" not in few


def test_contents_notices_and_licenses_are_passed_over() -> None:
    contents = "1 Setup ... 3\n2 Use ... 4"
    written = overview(
        make(
            (1, "Contents", contents),
            (1, "License", "You may copy this program as often as you like, for a fee."),
            (1, "Setup", "Put the pump on a table of stone. " * 20),
            before="Copyright (c) 2026 Tessmer Works. All rights reserved by them.",
        ),
        90,
    )
    assert "Put the pump on a table" in written
    assert "- License (p. 2)" in written
    assert not any(word in written for word in ("rights", "as you like", "... 3", "Contents"))


def test_sentences_about_the_document_come_before_others() -> None:
    filler = " ".join(f"Number {n} is a number like any other number." for n in range(60))
    aim = "This manual explains the pump to gardeners without any experience."
    written = overview(make((1, "Setup", f"{filler} {aim}"), (1, "Use", filler)), 120)
    assert f" … {aim} … " in written


def test_an_introduction_comes_before_others() -> None:
    filler = " ".join(f"Number {n} is a number like any other number." for n in range(60))
    parts = [(1, "Warnings", filler), (1, "Introduction", "Pumps lift water uphill for you.")]
    assert "Pumps lift water uphill" in overview(make(*parts, (1, "Use", filler)), 110)


@pytest.mark.parametrize(
    "text",
    [
        "Milk\nEggs\nTwo loaves of bread\n",
        "name,age\nIda,41\nOle,12\n",
        "Invoice 4417\n\nDate: 2026-03-01\n\nPump | 2 | 310.00\n\nPay within 30 days, please.\n",
    ],
)
def test_a_short_text_without_headings_is_shown_whole(text: str) -> None:
    written = overview(Document.from_text(text, name="note"))
    assert all(line in written for line in text.splitlines() if line)
    assert "Chapters" not in written


def test_an_empty_document_has_an_overview() -> None:
    assert overview(Document.from_text("", name="-")) == "Title: none\nLength: about 0 words"
