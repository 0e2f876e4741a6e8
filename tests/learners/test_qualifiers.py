"""Numbers are learned with what qualifies them in the text."""

import pytest

from d2l.learners.document_data import qualify


@pytest.mark.parametrize(
    ("text", "answer", "learned"),
    [
        ("It holds over 19,000 items from the town.", "19,000", "over 19,000"),
        ("He would gamble for more than 48 hours in a row.", "48", "more than 48 hours"),
        ("It fell by about 13 percent.", "13", "about 13 percent"),
        ("It fell by 13% in May.", "13", "13%"),
        ("They paid £ 34 million per year.", "34", "£ 34 million"),
        ("It costs $5, or less.", "5", "$5"),
        ("It covers 1,200 square\nmiles (3,100 km²).", "1,200", "1,200 square miles"),
        ("It covers 1,200 square miles (3,100 km²).", "3,100", "3,100 km²"),
        ("It boils at 90.20 K.", "90.20", "90.20 K"),
    ],
)
def test_what_qualifies_a_number_belongs_to_the_answer(
    text: str, answer: str, learned: str
) -> None:
    assert qualify(text, answer) == learned


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("In 1850 people came.", "1850"),  # a year, and not so many people
        ("About 13 came, and 13 left.", "13"),  # which of them is meant?
        ("There are 100–150 species.", "100"),  # one end of a range
        ("It weighs 3.55 kg.", "3.5"),
        ("Over 190 came.", "19"),
        ("The keeper, over forty years, wrote.", "The keeper"),  # no number
        ("Nothing of it stands here.", "7"),
        ("Valve 5 metrics", "5"),  # a word that only begins like a unit
    ],
)
def test_anything_else_is_learned_as_it_is(text: str, answer: str) -> None:
    assert qualify(text, answer) == answer
