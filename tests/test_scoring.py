import pytest

from d2l.scoring import contains_answer, normalize_answer


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
def test_a_reference_counts_where_it_stands_as_whole_words(
    answer: str, references: list[str], found: bool
) -> None:
    assert contains_answer(answer, references) is found
