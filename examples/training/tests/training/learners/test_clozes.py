"""Questions made from sentences: the answer stands in the text once, and not in the question."""

import random

from d2l_lab.training.learners.clozes import make_cloze

TEXT = (
    "The mill at Harrowgate was built in 1842 by Josiah Pell. Its wheel turned 35,000 times a day. "
    "After the fire of 3 March 1901, the county of West Lanmoor paid $4.5 million for repairs!"
)
ANSWERS = {
    "Harrowgate",
    "1842",
    "Josiah Pell",
    "35,000",
    "3 March 1901",
    "West Lanmoor",
    "$4.5 million",
}


def make_many(text: str, n: int = 400) -> set[tuple[str, str]]:
    found = {make_cloze(text, random.Random(seed)) for seed in range(n)}
    return {made for made in found if made is not None}


def test_names_dates_and_numbers_are_asked_for() -> None:
    assert {answer for _, answer in make_many(TEXT)} == ANSWERS


def test_no_question_gives_its_answer_away() -> None:
    for question, answer in make_many(TEXT):
        assert answer not in question
        assert question.endswith("?") or "___" in question


def test_question_words_fit_what_they_ask_for() -> None:
    whole = [(q, a) for q, a in make_many(TEXT) if "___" not in q]
    assert all("year" in q.lower() or "when" in q.lower() for q, a in whole if a == "1842")
    assert all("when" in q.lower() or "what date" in q.lower() for q, a in whole if a[:3] == "3 M")
    assert all("how m" in q.lower() for q, a in whole if a == "35,000")
    assert all(
        any(word in q.lower() for word in ("who", "what", "which"))
        for q, a in whole
        if a == "Josiah Pell"
    )


def test_what_stands_twice_or_only_opens_a_sentence_is_not_asked_for() -> None:
    twice = "The Orvane pump weighs 21 kilos today. One Orvane pump weighs 21 kilos too."
    assert make_many(twice) == set()
    assert make_many("Evidence was found in the small house on the hill behind it.") == set()
    assert make_many("Too short, Josiah Pell.") == set()
    assert make_cloze("", random.Random(0)) is None
