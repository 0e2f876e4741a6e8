"""How much is asked about a document: every passage once, then in other words, within a time."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from d2l.compiler import question_writer
from d2l.compiler.question_writer import AboutText, Effort, Passage, write_about
from d2l.inference.writer.prompts import Span
from d2l.inference.writer.questions import Asked, Chance

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
    """A base that is asked, and what it was asked: (passage, wordings), 0 for the likeliest."""

    model: Model = field(default_factory=Model)
    calls: list[tuple[int, int]] = field(default_factory=list)

    def write(self, effort: Effort) -> list[AboutText]:
        given: Any = None
        return write_about(self, given, given, [""], effort=effort)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Passages whose first questions take a second each, and each other wording 0.45 of it."""
    made, clock = Desk(), Clock()

    def ask(
        _writer: Any, passage: Passage, *, chance: Chance | None = None, checked: bool
    ) -> list[AboutText]:
        assert checked
        n = 0 if chance is None else chance.wordings
        made.calls.append((passage.start, n))
        clock.now += 0.45 * n if n else 1
        for hook in made.model.hooks.values():  # as the last pass of the base would
            hook()
        questions = ["Who?", *(f"Who {k}?" for k in range(n))]
        start = passage.start
        return [AboutText(0, start, start + 1, f"{question}{start}", "x") for question in questions]

    passages = [Passage(0, number, "") for number in range(N_PASSAGES)]
    monkeypatch.setattr(question_writer, "time", clock)
    monkeypatch.setattr(question_writer, "open_writer", lambda *_: object())
    monkeypatch.setattr(question_writer, "cut", lambda *_: passages)
    monkeypatch.setattr(question_writer, "ask_about", ask)
    return made


def test_without_a_chance_every_passage_is_asked_about_once(desk: Desk) -> None:
    assert len(desk.write(Effort())) == N_PASSAGES
    assert sorted(desk.calls) == [(number, 0) for number in range(N_PASSAGES)]


def test_other_wordings_come_behind_and_none_twice(desk: Desk) -> None:
    found = desk.write(Effort(chance=Chance(2)))
    assert [n for _, n in desk.calls] == [0] * N_PASSAGES + [2] * N_PASSAGES
    assert len({one.question for one in found}) == len(found) == 3 * N_PASSAGES
    assert [one.start for one in found] == sorted(one.start for one in found)


@pytest.mark.parametrize(
    ("seconds", "likeliest", "again", "questions"),
    [(0.5, 1, 0, 0), (2.5, 3, 0, 2), (4.95, 4, 0, 4), (5.95, 4, 2, 8), (6.5, 4, 2, 8)],
)
def test_asking_ends_with_its_time_in_the_middle_of_a_passage(
    desk: Desk, seconds: float, likeliest: int, again: int, questions: int
) -> None:
    found = desk.write(Effort(Clock.now + seconds, Chance(2)))
    assert [n for _, n in desk.calls] == [0] * likeliest + [2] * again
    assert len(found) == questions
    assert not desk.model.hooks  # the base is as it was


class Scribe:
    """A writer whose every other question fails the round trip."""

    def write(self, text: str, spans: list[Span], *, chance: Chance | None = None) -> list[Asked]:
        assert chance is None
        return [Asked(f"What is {span.of(text)}?", span) for span in spans]

    def keep_answered(self, text: str, asked: list[Asked]) -> list[Asked]:
        assert text == TEXT
        return asked[::2]


@pytest.mark.parametrize(("checked", "share"), [(True, 2), (False, 1)])
def test_questions_may_count_whatever_the_base_answers(checked: bool, share: int) -> None:
    scribe: Any = Scribe()
    about = question_writer.ask_about(scribe, Passage(3, 10, TEXT), checked=checked)
    marked = ["Piet Hansen", "1887", "Rotterdam", "21 kg"]
    assert [one.answer for one in about] == marked[::share]
    assert {one.document for one in about} == {3}
    assert [TEXT[one.start - 10 : one.stop - 10] for one in about] == marked[::share]
