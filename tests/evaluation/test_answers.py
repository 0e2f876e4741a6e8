import math
from dataclasses import replace

import pytest

from d2l.evaluation.answers import AnsweredQuestion, Arm, ArmScores, MarkedAnswer


def mark(contained: float, em: float = 0.0, silent: bool = False) -> MarkedAnswer:
    return MarkedAnswer("said", contained, em, contained / 2, silent)


def score_arms(questions: list[AnsweredQuestion]) -> list[ArmScores]:
    return ArmScores.list_arms(questions, Arm)


def ask(arm: Arm, *answers: MarkedAnswer, wanted: tuple[str, ...] = ("x",)) -> list[ArmScores]:
    return score_arms([AnsweredQuestion("?", wanted, {arm: answer}) for answer in answers])


def test_every_mean_comes_with_its_count_and_standard_error() -> None:
    (adapter,) = ask(Arm.ADAPTER, mark(1, 1), mark(0, 2), mark(1, 6))
    assert (adapter.arm, adapter.n) == ("adapter", 3)
    assert adapter.contained == pytest.approx(2 / 3)
    # Sample deviation over the root of n; for shares, sqrt(p (1 - p) / (n - 1)).
    assert adapter.stderr["contained"] == pytest.approx(math.sqrt(2 / 3 * 1 / 3 / 2))
    assert adapter.em == pytest.approx(3.0)
    assert adapter.stderr["em"] == pytest.approx(math.sqrt((4 + 1 + 9) / 2 / 3))
    assert str(adapter.recall) == "2 of 3 (0.67 ± 0.33)"
    assert adapter.show("em") == "3.00 ± 1.53"
    (base,) = ask(Arm.BASE, mark(0.0))
    assert set(base.stderr.values()) == {None}  # one question says nothing of the spread


def test_arms_come_in_order_with_the_questions_that_they_were_asked() -> None:
    both = {Arm.BASE: mark(0), Arm.PROMPT: replace(mark(1), n_cut=3)}
    rows = [AnsweredQuestion("?", ("x",), both), AnsweredQuestion("?", ("x",), {Arm.BASE: mark(1)})]
    prompt, base = score_arms(rows)
    assert [(s.arm, s.n, s.n_cut) for s in (prompt, base)] == [("prompt", 1, 1), ("base", 2, 0)]


def test_false_answers_and_false_silences_are_counted() -> None:
    answered = [mark(0, silent=silent) for silent in (True, False, False, False)]
    unanswered = [mark(0, silent=silent) for silent in (False, True, True)]
    rows = [AnsweredQuestion("?", ("x",), {Arm.PARTS: answer}) for answer in answered]
    rows += [AnsweredQuestion("?", (), {Arm.PARTS: answer}) for answer in unanswered]
    (scores,) = score_arms(rows)
    assert scores.n == 4  # the others have no answer
    assert str(scores.false_answers) == "1 of 3 (0.33 ± 0.33)"
    assert str(scores.false_silences) == "1 of 4 (0.25 ± 0.25)"
    (answerable,) = ask(Arm.PARTS, *answered)
    assert answerable.false_answers is None
    (alone,) = ask(Arm.PARTS, *unanswered, wanted=())
    assert (alone.n, alone.contained, alone.recall, alone.false_silences) == (0, None, None, None)
    assert alone.show("em") == "–"


def test_an_answer_that_holds_the_reference_is_no_false_silence() -> None:
    """The document itself may say that something is not known."""
    (scores,) = ask(Arm.PARTS, mark(1, silent=True))
    assert scores.false_silences is not None
    assert scores.false_silences.count == 0
