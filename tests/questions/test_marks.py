"""The answers that can be asked for in a text, kind by kind."""

from itertools import pairwise

import pytest

from d2l.questions.marks import Kind, Span, choose_answers, find_answers


def find(text: str, kind: Kind) -> list[str]:
    return [one.of(text) for one in find_answers(text) if one.kind == kind]


@pytest.mark.parametrize(
    ("text", "kind", "wanted"),
    [
        ("The pump was built on 3 May 1931 in the port.", "date", ["3 May 1931"]),
        (
            "It opened in March 1904, and closed on 2020-05-17.",
            "date",
            ["March 1904", "2020-05-17"],
        ),
        ("In 1998, it moved.", "date", ["1998"]),
        ("It weighs 12 kg and costs $3.5 million.", "number", ["12 kg", "$3.5 million"]),
        ("It takes 5–8 bar, 3-4 days and 2.5–3 km.", "number", ["5–8 bar", "3-4 days", "2.5–3 km"]),
        (
            "Wait 30 minutes, at 95 percent or 1,450 W.",
            "number",
            ["30 minutes", "95 percent", "1,450 W"],
        ),
        (
            "It was made by Mara Lind for the Kern County office.",
            "name",
            ["Mara Lind", "Kern County"],
        ),
        ("He moved to Oldport with Bank of England notes.", "name", ["Oldport", "Bank of England"]),
        ('See the part called "Pump care" first.', "quotation", ["Pump care"]),
        ("She rinsed the copper filter of the old pump.", "thing", ["copper filter", "old pump"]),
        (
            "It has thirty-one doors and half an hour, no onerous one.",
            "number",
            ["thirty-one", "half"],
        ),
        ("They wait for seven days.", "number", ["seven days"]),
        ("Twice a year they send six l-shaped ones.", "number", ["Twice", "six"]),  # no amperes
        (
            "1. Press the green button\n2. Close the lid\n",
            "step",
            ["Press the green button", "Close the lid"],
        ),
        ("Do not open it unless the lamp is off.", "condition", ["the lamp is off"]),
        ("Power: 1,450 W\nColor: dark red\n", "cell", ["1,450 W", "dark red"]),
        ("| Button | Use |\n| --- | --- |\n| red | stops it |\n", "cell", ["Use", "stops it"]),
    ],
)
def test_answers_are_found_by_their_kind(text: str, kind: Kind, wanted: list[str]) -> None:
    assert find(text, kind) == wanted


def test_no_answer_lies_in_or_across_another_and_all_are_in_order() -> None:
    text = (
        "The tower of Oldport was built in 1931 by Mara Lind, when the harbor was deep.\n"
        "Height: 84 yards\n1. Climb the 96 steps of the tower\n"
    )
    found = find_answers(text)
    assert len(found) >= 5
    for one, following in pairwise(found):
        assert one.stop <= following.start
    for one in found:
        assert one.of(text) == one.of(text).strip()


def test_what_stands_there_twice_is_not_asked_for() -> None:
    assert find("Mara Lind saw Jonas Vale. Later Mara Lind left.", "name") == ["Jonas Vale"]
    assert find("It has 12 doors and 12 gates and 7 rooms.", "number") == ["7"]


def test_a_capital_at_the_beginning_makes_no_name() -> None:
    assert find("Water is wet. However, Oldport is dry.", "name") == ["Oldport"]


@pytest.mark.parametrize("text", ["", "\n\n", "滤网每十四天冲洗一次。", "!!! ??? ..."])
def test_texts_without_answers_give_none(text: str) -> None:
    assert find_answers(text) == []


def test_of_many_answers_some_are_taken_from_everywhere() -> None:
    answers = [Span(10 * k, 10 * k + 4, "name") for k in range(100)]
    chosen = choose_answers(answers)
    assert 10 < len(chosen) < 100
    assert chosen[0].start == 0
    assert chosen[-1].start > 900
    assert choose_answers(answers[:3]) == answers[:3]
