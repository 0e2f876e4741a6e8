import time

import pytest

from d2l.documents.document import SEPARATOR, Document
from d2l.readers.parsing import Heading, Section

DIGEST = "0" * 64


def make(*sections: Section) -> Document:
    return Document("manual.pdf", "pdf", sections, DIGEST, 1)


def paged(*texts: str) -> Document:
    return make(*(Section(text, page=number) for number, text in enumerate(texts, 1)))


def titled(*pairs: tuple[str, str | None]) -> Document:
    return make(*(Section(text, heading=heading) for text, heading in pairs))


def place_of(document: Document, needle: str) -> str:
    """Where the document says that a stretch of its text stands."""
    start = document.text.index(needle)
    return document.where(start, start + len(needle))


def test_text_joins_sections_by_an_empty_line() -> None:
    assert paged("one", "two", "three").text == "one\n\ntwo\n\nthree"
    assert paged("a\nb").text == "a\nb"
    assert make().text == ""


def test_text_is_joined_once() -> None:
    document = make(Section("a"), Section("b"))
    assert document.text is document.text


def test_spans_are_the_sections_places_in_the_text() -> None:
    document = paged("one", "", "three")
    assert document.text == "one\n\n\n\nthree"
    assert [(start, stop, section.page) for start, stop, section in document.spans()] == [
        (0, 5, 1),
        (5, 7, 2),
        (7, 14, 3),  # a separator is counted after the last section too
    ]
    for start, stop, section in document.spans():
        assert document.text[start : stop - len(SEPARATOR)] == section.text


PAGES = paged("first page", "second page", "third page")


@pytest.mark.parametrize(
    ("needle", "place"),
    [
        ("first", "p. 1"),
        ("second page", "p. 2"),
        ("third page", "p. 3"),
        ("page\n\nsecond", "p. 1-2"),
        ("page\n\nsecond page\n\nt", "p. 1-3"),
    ],
)
def test_a_stretch_is_named_by_its_first_page_and_its_last(needle: str, place: str) -> None:
    assert place_of(PAGES, needle) == place
    assert PAGES.where(0, 10**9) == "p. 1-3"


@pytest.mark.parametrize(
    ("start", "stop", "place"),
    [
        (0, 2, "p. 1"),
        (2, 4, "p. 1"),  # the separator
        (4, 6, "p. 2"),
        (3, 5, "p. 1-2"),
        (0, 0, "p. 1"),  # an empty stretch is where it begins
        (4, 4, "p. 2"),
        (5, 3, "p. 2"),
    ],
)
def test_page_borders_belong_to_one_page_only(start: int, stop: int, place: str) -> None:
    assert paged("ab", "cd").where(start, stop) == place  # "ab\n\ncd"


@pytest.mark.parametrize("start", [8, 100])
def test_nothing_stands_after_the_end(start: int) -> None:
    assert paged("ab", "cd").where(start, start + 1) == ""


def test_pages_count_before_headings() -> None:
    document = make(Section("ab", page=4, heading="Filters"), Section("cd", heading="Pumps"))
    assert document.where(0, 2) == "p. 4"
    assert document.where(0, 6) == "p. 4"
    assert document.where(4, 6) == "§ Pumps"


def test_pages_need_not_be_in_order() -> None:
    document = make(Section("ab", page=9), Section("cd", page=3))
    assert document.where(0, 6) == "p. 3-9"


def test_headings_name_the_first_and_the_last_section() -> None:
    document = titled(("intro", None), ("ab", "Filters"), ("cd", "Filters"), ("ef", "Pumps"))
    assert place_of(document, "intro") == ""
    assert place_of(document, "ab") == "§ Filters"
    assert place_of(document, "ab\n\ncd") == "§ Filters"
    assert place_of(document, "cd\n\nef") == "§ Filters … Pumps"
    assert document.where(0, 1000) == "§ Filters … Pumps"
    assert titled(("ab", "")).where(0, 2) == ""


def test_a_path_has_the_headings_above_a_character_across_sections() -> None:
    document = make(
        Section("intro", page=1),
        Section(
            "Pumps\nx\nFilter\ny", 2, headings=(Heading(0, 1, "Pumps"), Heading(8, 3, "Filter"))
        ),
        Section("goes on", 3),
        Section("Motor", 4, headings=(Heading(0, 2, "Motor"),)),
        Section("Index", 5, headings=(Heading(0, 1, "Index"),)),
    )

    def path(needle: str) -> tuple[str, ...]:
        return document.heading_path(document.text.index(needle))

    assert path("intro") == ()
    assert path("Pumps") == path("x") == ("Pumps",)
    assert path("Filter") == path("y") == path("goes on") == ("Pumps", "Filter")
    assert path("Motor") == ("Pumps", "Motor")
    assert path("Index") == document.heading_path(1000) == ("Index",)
    starts = [document.text.index(title) for title in ("Pumps", "Filter", "Motor", "Index")]
    assert document.heading_starts == starts


def test_a_number_puts_a_heading_below_another_of_its_level() -> None:
    titles = ("Part I", "Chapter 4. Menus", "4.1. File", "4.2. View", "Chapter 42. Keys")
    document = make(*(Section(title, headings=(Heading(0, 2, title),)) for title in titles))
    assert [document.heading_path(start) for start in document.heading_starts] == [
        ("Part I",),
        ("Chapter 4. Menus",),
        ("Chapter 4. Menus", "4.1. File"),
        ("Chapter 4. Menus", "4.2. View"),
        ("Chapter 42. Keys",),
    ]


def test_a_document_without_pages_and_headings_has_no_places() -> None:
    assert make(Section("ab")).where(0, 2) == ""
    assert make().where(0, 0) == ""


def test_places_of_many_sections_are_found_at_once() -> None:
    """Each place looks at a few of 50,000 sections: a look at all of them takes minutes."""
    document = make(*(Section("ab", heading=f"Part {n}") for n in range(50_000)))
    start = time.process_time()
    for n in range(0, 50_000, 10):
        assert document.where(4 * n, 4 * n + 2) == f"§ Part {n}"
    assert time.process_time() - start < 5


def test_places_at_the_edges_of_sections() -> None:
    document = make(Section("", page=1), Section("ab", page=2), Section("", page=3))
    assert [document.where(at, at) for at in range(9)] == [
        *["p. 1"] * 2, *["p. 2"] * 4, *["p. 3"] * 2, ""
    ]  # fmt: skip
    assert document.where(-5, 1) == "p. 1"
    assert document.where(1, 3) == "p. 1-2"
    assert document.where(1, 2) == "p. 1"


def test_pages_are_found_by_character() -> None:
    document = paged("one", "two")
    assert [document.find_page(at) for at in (0, 3, 5, 7, 99)] == [1, 1, 2, 2, None]
