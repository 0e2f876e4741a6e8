"""Names of chunks, as users write them."""

import pytest

from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.selectors import describe_places, select
from d2l.errors import AdapterError

CHUNKS = [
    ChunkRecord(index=index, document=document, source=source, n_tokens=9)
    for index, (document, source) in enumerate(
        (
            ("docs/manual.pdf", "p. 1-3"),
            ("docs/manual.pdf", "p. 3"),
            ("docs/manual.pdf", "p. 4-12"),
            ("notes: a list.md", "§ Filters"),
            ("notes: a list.md", ""),
        )
    )
]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("docs/manual.pdf", (0, 1, 2)),
        ("manual.pdf", (0, 1, 2)),
        ("manual.pdf:p. 2", (0,)),
        ("manual.pdf:p.3", (0, 1)),
        ("manual.pdf:p. 12-14", (2,)),
        ("manual.pdf:p. 3–5", (0, 1, 2)),
        ("manual.pdf:#1", (1,)),
        ("notes: a list.md", (3, 4)),
        ("notes: a list.md:§ Filters", (3,)),
        ("notes: a list.md:Filters", (3,)),
        (":#4", (4,)),
        (":p. 1", (0,)),
    ],
)
def test_documents_and_places_are_found(text: str, expected: tuple[int, ...]) -> None:
    assert select(text, CHUNKS)[0] == list(expected)


def test_with_one_document_the_place_is_enough() -> None:
    assert select("p. 4", CHUNKS[:3])[0] == [2]
    assert select("#0", CHUNKS[:3])[0] == [0]


def test_pages_that_share_a_chunk_are_named() -> None:
    assert select("manual.pdf:p. 12", CHUNKS)[1] == [
        "chunk 2 of docs/manual.pdf also holds text of page 4, 5, 6, 7, 8, 9, 10, 11",
    ]
    assert select("manual.pdf:p. 1-12", CHUNKS)[1] == []


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("other.pdf", "other.pdf: the adapter has no such document", "it has: docs/manual.pdf, "),
        ("p. 3", "p. 3: the adapter has no such document", "it has: "),
        (
            "manual.pdf:p. 99",
            "no chunk of the adapter lies there",
            "holds docs/manual.pdf: p. 1-12",
        ),
        ("manual.pdf:#3", "no chunk of the adapter lies there", 'number, "#0" to "#2"'),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(text: str, message: str, hint: str) -> None:
    with pytest.raises(AdapterError, match=message) as caught:
        select(text, CHUNKS)
    assert hint in str(caught.value.hint)


def test_a_range_of_any_length_is_compared_at_once() -> None:
    assert select("manual.pdf:p. 4-99999999999", CHUNKS)[0] == [2]


def test_a_source_of_any_length_is_named_in_a_short_remark() -> None:
    chunk = ChunkRecord(index=0, document="a.pdf", source="p. 1-99999999999", n_tokens=1)
    _, (remark,) = select("a.pdf:p. 5", [chunk])
    assert remark.startswith("chunk 0 of a.pdf also holds text of page 1, 2, 3, 4, 6, ")
    assert remark.endswith(", 21, …")
    with pytest.raises(AdapterError, match="no chunk of the adapter lies there"):
        select("a.pdf:p. " + "9" * 5000, [chunk])


def test_places_are_described_briefly_and_each_page_once() -> None:
    assert describe_places(CHUNKS, range(5)) == (
        "docs/manual.pdf: p. 1-12; notes: a list.md: § Filters, #4"
    )
    assert describe_places(CHUNKS, [0, 2]) == "docs/manual.pdf: p. 1-12"
    apart = [
        ChunkRecord(index=n, document="a.pdf", source=f"p. {2 * n}", n_tokens=9) for n in range(12)
    ]
    assert describe_places(apart, [1, 3, 4]) == "a.pdf: p. 2, 6, 8"
    assert describe_places(apart, range(12)) == ("a.pdf: p. 0, 2, 4, 6, 8, 10, 12, 14, … (4 more)")


def test_a_heading_is_enough_and_those_above_a_chunk_count() -> None:
    above = [("1 Setup",), ("1 Setup", "1.1 Cables"), ("2 Use",), ("Filters",), ()]
    assert select("filters", CHUNKS)[0] == [3]
    assert select("1 setup", CHUNKS, above)[0] == [0, 1]
    assert select("manual.pdf:§ 1.1 Cables", CHUNKS, above)[0] == [1]
    with pytest.raises(AdapterError, match="has no such document"):
        select("1.1 Cables", CHUNKS)
