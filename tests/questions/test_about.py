"""Which passages of a document are asked about, and which questions count."""

from typing import Any

import pytest

from d2l.questions import about
from d2l.questions.about import Excerpt, ask_about, spread, write_about
from d2l.questions.marks import Span
from d2l.questions.writer import WrittenQuestion

TEXT = "Piet Hansen came in 1887 from Rotterdam with 21 kg of lead."
MARKED = ["Piet Hansen", "1887", "Rotterdam", "21 kg"]


class Scribe:
    """A writer whose every other question fails the round trip."""

    def __init__(self) -> None:
        self.read: list[str] = []

    def write(self, text: str, spans: list[Span]) -> list[WrittenQuestion]:
        self.read.append(text)
        return [(f"What is {span.of(text)}?", span) for span in spans]

    def keep_answered(self, text: str, asked: list[WrittenQuestion]) -> list[WrittenQuestion]:
        assert text == self.read[-1]
        return asked[::2]


def test_questions_count_that_the_base_answers() -> None:
    scribe: Any = Scribe()
    asked, n_written = ask_about(scribe, Excerpt(3, 10, TEXT))
    assert n_written == 4
    assert [one.answer for one in asked] == MARKED[::2]
    assert {one.document for one in asked} == {3}
    assert [TEXT[one.start - 10 : one.stop - 10] for one in asked] == MARKED[::2]


@pytest.mark.parametrize(("most", "places"), [(None, [0, 1, 2, 3]), (2, [0, 2])])
def test_few_passages_are_spread_over_the_document(
    most: int | None, places: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    scribe = Scribe()
    texts = [f"It was {1880 + n} then." for n in range(4)]
    passages = [Excerpt(0, 100 * n, text) for n, text in enumerate(texts)]
    monkeypatch.setattr(about, "open_writer", lambda *_: scribe)
    monkeypatch.setattr(about, "cut", lambda *_: passages)
    given: Any = None
    asked, n_written = write_about(given, given, given, [""], most=most)
    assert sorted(scribe.read) == [texts[place] for place in places]
    assert [one.start for one in asked] == [100 * place + 7 for place in places]
    assert n_written == len(places)


@pytest.mark.parametrize("n", [0, 1, 2, 5, 8, 13])
def test_passages_are_taken_spread_out(n: int) -> None:
    order = spread(n)
    assert sorted(order) == list(range(n))
    if n == 8:
        assert order[:4] == [0, 4, 2, 6]
