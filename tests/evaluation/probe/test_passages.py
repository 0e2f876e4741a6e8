import pytest

from d2l.compiler.originals import Stretch
from d2l.documents.document import Document
from d2l.evaluation.probe.passages import HalvedSentence, choose_passages, find_passages
from d2l.readers.parsing import Section

LONG = "one two three four five six seven eight"


def make_document(*texts: str, paged: bool = False) -> Document:
    sections = [Section(text, page=n if paged else None) for n, text in enumerate(texts, start=1)]
    return Document("a.txt", "text", tuple(sections), "0" * 64, 1)


def find(*texts: str) -> list[tuple[str, str]]:
    document = make_document(*texts)
    stretch = Stretch(document, None, 0, len(document.text))
    return [(p.given, p.wanted) for p in find_passages([stretch])]


def test_sentences_are_cut_in_two_where_half_of_their_words_are() -> None:
    assert find("A b c d e f g h i. J k l m n o p q!") == [
        ("A b c d", "e f g h i."),
        ("J k l m", "n o p q!"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "one two three four five six seven",  # seven words
        "1 2 3 4 5 6 7 8 9 10 11 12",
        "| --- | --- | --- | --- | --- | --- | --- | --- | a |",
        "One two. Three four. Five six seven. Eight nine ten.",
        "",
    ],
)
def test_short_sentences_and_rows_of_numbers_are_left_out(text: str) -> None:
    assert find(text) == []


def test_very_long_sentences_are_asked_by_their_beginning() -> None:
    words = [f"w{chr(97 + n // 26)}{chr(97 + n % 26)}" for n in range(100)]
    assert find(" ".join(words)) == [(" ".join(words[:20]), " ".join(words[20:40]))]


def test_lines_broken_by_a_pages_width_are_one_sentence() -> None:
    wrapped = (
        "   The filter of the pump must be rinsed with clear water every\n"
        "   fourteen days, or else the pressure falls.\n"
    )
    ((given, wanted),) = find(wrapped)
    assert f"{given} {wanted}" == " ".join(wrapped.split())


@pytest.mark.parametrize(
    "text",
    [
        f"A heading\n{LONG}",  # too short to be a wrapped line
        f"{'The paragraph of a PDF is one line, however long it is ' * 3}\n{LONG}",
        f"- {LONG}",
        f"  12. {LONG}",
        f"## {LONG}",
        f"^[2] {LONG}",
        f"The following lines are a list of what there is to do:\n* {LONG}\n",
        f"These words are as many as a line of a page can hold now\n\n{LONG}",
    ],
)
def test_other_lines_stand_for_themselves_without_their_marks(text: str) -> None:
    assert find(text)[-1] == ("one two three four", "five six seven eight")


def test_abbreviations_before_small_letters_end_no_sentence() -> None:
    text = "Use a clean tool, e.g. the brush or cloth that came along."
    assert find(text) == [("Use a clean tool, e.g. the", "brush or cloth that came along.")]


def test_a_sentence_that_occurs_again_is_taken_once() -> None:
    assert len(find(f"{LONG}.", f"{LONG}.", f"{LONG} nine.")) == 2


def test_passages_know_the_chunk_and_page_of_what_is_wanted() -> None:
    """A sentence belongs where its second half begins; what was not compiled is not asked."""
    document = make_document(f"{LONG}.", f"{LONG} nine.", f"{LONG} ten.", paged=True)
    text = document.text
    cut, end = text.index("five", 30) + 2, text.index("nine")
    stretches = [Stretch(document, 3, 0, cut), Stretch(document, 4, cut, end)]
    assert [(p.chunk, p.page) for p in find_passages(stretches)] == [(3, 1), (3, 2)]
    stretches = [Stretch(document, 3, 0, cut - 2), Stretch(document, 4, cut - 2, len(text))]
    assert [(p.chunk, p.page) for p in find_passages(stretches)] == [(3, 1), (4, 2), (4, 3)]


# ---- choosing -----------------------------------------------------------------------------------


def make_passages(*counts: int) -> list[HalvedSentence]:
    return [
        HalvedSentence("a.txt", chunk, None, f"{chunk}", f"{n}")
        for chunk, count in enumerate(counts)
        for n in range(count)
    ]


@pytest.mark.parametrize(
    ("counts", "limit", "expected"),
    [
        ((3, 3), 9, [3, 3]),
        ((10, 10, 10), 6, [2, 2, 2]),
        ((1, 10, 10), 9, [1, 4, 4]),
        ((1, 2, 30), 13, [1, 2, 10]),
        ((5, 5, 5, 5, 5), 2, [0, 1, 0, 1, 0]),
        ((5, 5, 5), 4, [1, 2, 1]),
    ],
)
def test_chunks_share_the_limit_evenly(
    counts: tuple[int, ...], limit: int, expected: list[int]
) -> None:
    chosen = choose_passages(make_passages(*counts), limit)
    assert [sum(p.chunk == n for p in chosen) for n in range(len(counts))] == expected
    assert chosen == sorted(chosen, key=make_passages(*counts).index)


def test_pages_share_the_limit_where_chunks_are_not_known() -> None:
    passages = [HalvedSentence("a", None, page, str(n), "x") for page in (1, 2) for n in range(9)]
    assert [p.page for p in choose_passages(passages, 4)] == [1, 1, 2, 2]
