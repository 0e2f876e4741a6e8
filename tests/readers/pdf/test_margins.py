"""Running headers, footers and page numbers go; facts in the margins stay."""

import re
from collections import Counter
from collections.abc import Iterable

import pytest

from tests.documents.samples import parse_here
from tests.readers.pdf.margin_cases import KINDS, draw, make


def count_words(texts: Iterable[str]) -> Counter[str]:
    return Counter(" ".join(texts).replace(" | ", " ").split())


@pytest.mark.parametrize("variant", range(4))
@pytest.mark.parametrize("kind", KINDS)
def test_lines_that_stand_once_stay_and_running_lines_go(kind: str, variant: int) -> None:
    pages = make(kind, variant)
    document = parse_here(draw(pages), "a.pdf")
    facts = [line.text for lines in pages for line in lines if not line.running]
    assert count_words([document.text]) == count_words(facts)
    n_dropped = sum(finding.count for finding in document.findings if finding.kind == "furniture")
    running = [line.text for lines in pages for line in lines if line.running]
    assert n_dropped >= len("".join(running))
    assert bool(document.remarks) == bool(running)


def test_the_first_dropped_lines_are_named() -> None:
    document = parse_here(draw(make("minutes", 0)), "a.pdf")
    n_chars = 6 * len("Minutes of the board") + 6 * len("Page 1 of 6")
    assert document.remarks == (
        f"{n_chars} characters of running headers and footers left out: "
        '"Minutes of the board", "Page 1 of 6"',
    )
    sorts = [(finding.what, finding.pages) for finding in document.findings]
    assert sorts == [
        ("Minutes of the board", tuple(range(1, 7))),
        ("Page 1 of 6", tuple(range(1, 7))),
    ]


def test_a_page_keeps_running_lines_that_are_its_only_text() -> None:
    pages = make("minutes", 0)
    pages[3] = [line for line in pages[3] if line.running]
    text = parse_here(draw(pages), "a.pdf").text
    assert re.findall("Minutes of the board|Page . of 6", text) == [
        "Minutes of the board",
        "Page 4 of 6",
    ]
