import statistics

import pytest

from d2l.evaluation.metrics import (
    contains_answer,
    match_exactly,
    normalize_answer,
    pick_evenly,
    show_mean,
    take_mean,
    token_f1,
)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The Pump", "pump"),
        ("a pump, an axe and the sea", "pump axe and sea"),
        ("  every \t 14\n days. ", "every 14 days"),
        ("U.S.A.", "usa"),
        ("it's 'quoted'", "its quoted"),
        ("well-known", "wellknown"),
        ("3.5 bar", "35 bar"),
        ("€3,000", "€3000"),
        ("theory another antler", "theory another antler"),  # articles are whole words
        ("the the", ""),
        ("THE", ""),
        ("", ""),
        ("?!", ""),
        # Punctuation goes before articles, so it can make one and can hide one.
        ("t.h.e pump", "pump"),
        ("a-pump", "apump"),
        # As in the original, marks outside ASCII stay.
        ("“pump”", "“pump”"),
    ],
)
def test_answers_are_normalized_by_squads_rule(text: str, normalized: str) -> None:
    assert normalize_answer(text) == normalized


@pytest.mark.parametrize(
    ("answer", "references", "found"),
    [
        ("14 days", ["14 days"], True),
        ("Every 14 days.", ["14 days"], True),
        ("It is rinsed every 14 days, by the keeper.", ["14 days"], True),
        ("The Harbor!", ["the harbor"], True),
        ("harbor", ["the harbor"], True),
        ("14 long days", ["14 days"], False),
        ("days 14", ["14 days"], False),
        ("15", ["5"], False),
        ("5", ["15"], False),
        ("party", ["art"], False),
        ("It starts at 21:40", ["2140"], True),
        ("no", ["yes", "No."], True),
        ("maybe", ["yes", "no"], False),
        ("anything", [], False),
        ("", ["14 days"], False),
        ("anything", [""], False),
        ("anything", ["the"], False),
    ],
)
def test_references_count_as_whole_words(answer: str, references: list[str], found: bool) -> None:
    assert contains_answer(answer, references) is found


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("The 14 days.", ["14 days"], True, 1.0),
        ("every 14 days", ["14 days"], False, 2 * (2 / 3) * 1 / (2 / 3 + 1)),
        ("14 long days", ["days 14 short ones"], False, 2 * (2 / 3) * (2 / 4) / (2 / 3 + 2 / 4)),
        ("red red blue", ["red"], False, 2 * (1 / 3) * 1 / (1 / 3 + 1)),  # a word counts once
        ("blue", ["red", "Blue!", "dark blue"], True, 1.0),  # the best of the references
        ("dark", ["red", "dark blue"], False, 2 * 1 * (1 / 2) / (1 + 1 / 2)),
        ("blue", ["red"], False, 0.0),
        ("", ["red"], False, 0.0),
        ("the", ["a"], True, 0.0),  # nothing is left of both; SQuAD v1.1 gives no F1 for it
        ("red", [], False, 0.0),
    ],
)
def test_exact_match_and_f1_are_those_of_squad(
    answer: str, references: list[str], exact: bool, f1: float
) -> None:
    assert match_exactly(answer, references) is exact
    assert token_f1(answer, references) == pytest.approx(f1)


def test_means_have_the_error_of_a_sample() -> None:
    values = [0.5, 2.0, -1.0, 4.0, 0.25]
    mean, error = take_mean(values)
    assert mean == pytest.approx(statistics.mean(values))
    assert error == pytest.approx(statistics.stdev(values) / 5**0.5)
    assert show_mean(mean, error) == "1.15 ± 0.86"
    assert show_mean(mean, error, "+.1f") == "+1.1 ± 0.9"


def test_a_single_value_has_no_error() -> None:
    assert take_mean([3.25]) == (3.25, None)
    assert show_mean(3.25, None) == "3.25"


def test_questions_are_picked_evenly() -> None:
    assert pick_evenly(range(10), 1) == [5]
    assert pick_evenly(range(10), 2) == [2, 7]
    assert pick_evenly(range(100), 4) == [12, 37, 62, 87]
    assert pick_evenly("abc", 9) == ["a", "b", "c"]
    assert pick_evenly("abc", 0) == []
