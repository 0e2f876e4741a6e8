from dataclasses import replace

import pytest

from d2l_lab.bench.answers import AnsweredQuestion, Arm, BenchScores, ScoredMark


def mark(contained: float, silent: bool = False) -> ScoredMark:
    return ScoredMark("said", contained, 0.0, contained / 2, silent, nll=contained + 1)


def test_answers_in_full_count_as_refusals_whatever_else_they_say() -> None:
    marked = [replace(mark(0.5, silent=True), wrong=True), mark(0.5), mark(1)]
    rows = [AnsweredQuestion("?", ("x",), {Arm.RAG4: one}, kind="list") for one in marked]
    (scores,) = BenchScores.list_arms(rows, Arm)
    assert scores.show("contained") == "0.67 ± 0.17"
    assert str(scores.false_silences) == "1 of 3 (0.33 ± 0.33)"
    assert str(scores.wrong) == "1 of 3 (0.33 ± 0.33)"


def test_likelihoods_are_means_over_questions_with_an_answer() -> None:
    rows = [AnsweredQuestion("?", ("x",), {Arm.RIGHT: mark(n)}) for n in (0, 1)]
    rows.append(AnsweredQuestion("?", (), {Arm.RIGHT: mark(9)}))
    (scores,) = BenchScores.list_arms(rows, Arm)
    assert (scores.nll, scores.show("nll")) == (pytest.approx(1.5), "1.50 ± 0.50")
