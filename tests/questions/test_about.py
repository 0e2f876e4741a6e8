"""How much is asked about a document: of every passage, and in other words, within a time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from d2l.questions import about
from d2l.questions.about import Effort, Excerpt, ask_about, spread, write_about
from d2l.questions.marks import AboutText, Span
from d2l.questions.writer import WrittenQuestion

N_PASSAGES = 4

TEXT = "Piet Hansen came in 1887 from Rotterdam with 21 kg of lead."


class Clock:
    """Shows a time that passes only where something is asked."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


class Model:
    """Takes the hooks that a base's model takes."""

    def __init__(self) -> None:
        self.hooks: dict[int, Callable[..., None]] = {}

    def register_forward_pre_hook(self, hook: Callable[..., None]) -> Any:
        self.hooks[id(hook)] = hook
        return SimpleNamespace(remove=lambda: self.hooks.pop(id(hook)))


@dataclass
class Desk:
    """A base that is asked, and what it was asked: the passage, and the likeliest questions, those
    in other words, or both."""

    model: Model = field(default_factory=Model)
    calls: list[tuple[int, str]] = field(default_factory=list)

    def write(self, effort: Effort) -> list[AboutText]:
        given: Any = None
        return write_about(self, given, given, [""], effort=effort)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Passages whose likeliest questions take a second each, those in two other wordings 0.9, and
    all of these together 1.5."""
    made, clock = Desk(), Clock()

    def ask(
        _writer: Any, passage: Excerpt, _effort: Effort, temperatures: tuple[float, ...]
    ) -> list[AboutText]:
        others = sum(heat > 0 for heat in temperatures)
        kind = "others" if 0.0 not in temperatures else "both" if others else "likeliest"
        made.calls.append((passage.start, kind))
        clock.now += {"likeliest": 1, "both": 1.5, "others": 0.9}[kind]
        for hook in made.model.hooks.values():  # as the last pass of the base would
            hook()
        asked = [] if kind == "others" else ["Who?"]
        asked += [f"Who {k}?" for k in range(others)]
        start = passage.start
        return [AboutText(0, start, start + 1, f"{question}{start}", "x") for question in asked]

    passages = [Excerpt(0, number, "") for number in range(N_PASSAGES)]
    monkeypatch.setattr(about, "time", clock)
    monkeypatch.setattr(about, "open_writer", lambda *_: object())
    monkeypatch.setattr(about, "cut", lambda *_: passages)
    monkeypatch.setattr(about, "ask_about", ask)
    return made


def test_without_other_wordings_every_passage_is_asked_about_once(desk: Desk) -> None:
    assert len(desk.write(Effort())) == N_PASSAGES
    assert sorted(desk.calls) == [(number, "likeliest") for number in range(N_PASSAGES)]


def test_few_passages_are_spread_over_the_document(desk: Desk) -> None:
    desk.write(Effort(most=2))
    assert [number for number, _ in desk.calls] == [0, 2]


def test_with_other_wordings_and_time_for_them_every_passage_is_read_once(desk: Desk) -> None:
    found = desk.write(Effort(wordings=2))
    assert sorted(desk.calls) == [(number, "both") for number in range(N_PASSAGES)]
    assert len({one.question for one in found}) == len(found) == 3 * N_PASSAGES
    assert [one.start for one in found] == sorted(one.start for one in found)


@pytest.mark.parametrize(
    ("seconds", "first", "behind", "n_questions"),
    [
        (0.5, "l", "", 0),
        (2.5, "lll", "", 2),
        (4.95, "llll", "", 4),
        (5.95, "lllb", "o", 4 + 2 + 2),  # for the last passage there is time
        (6.5, "llbb", "o", 4 + 4 + 2),
        (7.5, "lbbb", "o", 3 * N_PASSAGES),  # after the first there is for all, as it tells
    ],
)
def test_asking_ends_with_its_time_in_the_middle_of_a_passage(
    desk: Desk, seconds: float, first: str, behind: str, n_questions: int
) -> None:
    found = desk.write(Effort(Clock.now + seconds, wordings=2))
    assert "".join(kind[0] for _, kind in desk.calls) == first + behind
    assert len(found) == n_questions
    asked, again = desk.calls[: len(first)], desk.calls[len(first) :]
    assert len({number for number, _ in asked}) == len(asked)
    assert {number for number, _ in again} <= {n for n, kind in asked if kind == "likeliest"}
    assert not desk.model.hooks  # the base is as it was


def test_asking_stops_where_the_needed_questions_are_out_of_reach(desk: Desk) -> None:
    effort = Effort(Clock.now + 10.0, needed=30)  # one a second
    assert len(desk.write(effort)) == 1
    assert effort.is_hopeless(1, Clock.now)
    assert len(desk.write(Effort(Clock.now + 20.0, needed=4))) == N_PASSAGES


class Scribe:
    """A writer whose every other question fails the round trip."""

    def write(self, text: str, spans: list[Span], **_: Any) -> list[WrittenQuestion]:
        return [(f"What is {span.of(text)}?", span) for span in spans]

    def keep_answered(self, text: str, asked: list[WrittenQuestion]) -> list[WrittenQuestion]:
        assert text == TEXT
        return asked[::2]


@pytest.mark.parametrize(("checked", "share"), [(True, 2), (False, 1)])
def test_questions_may_count_whatever_the_base_answers(checked: bool, share: int) -> None:
    scribe: Any = Scribe()
    counts: list[int] = []
    effort = Effort(checked=checked, report=counts.append)
    asked = ask_about(scribe, Excerpt(3, 10, TEXT), effort, (0.0,))
    assert counts == [4]
    marked = ["Piet Hansen", "1887", "Rotterdam", "21 kg"]
    assert [one.answer for one in asked] == marked[::share]
    assert {one.document for one in asked} == {3}
    assert [TEXT[one.start - 10 : one.stop - 10] for one in asked] == marked[::share]


@pytest.mark.parametrize("n", [0, 1, 2, 5, 8, 13])
def test_passages_are_taken_spread_out(n: int) -> None:
    order = spread(n)
    assert sorted(order) == list(range(n))
    if n == 8:
        assert order[:4] == [0, 4, 2, 6]
