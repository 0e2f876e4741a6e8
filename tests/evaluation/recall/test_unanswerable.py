"""Questions that a document does not answer are found, the nearest first, and answered ones are
left out."""

from d2l.datasets.questions import Question
from d2l.datasets.silence import SILENCE
from d2l.evaluation.recall.unanswerable import ask_neighbors, choose_given

TEXTS = ("Ada has 3 keys.", "Bob has a red boat.", "Cleo has 7 goats.", "Dora has 3 hats.")


def ask(place: int, text: str, answer: str, title: str = "People") -> Question:
    return Question(text, (answer,), TEXTS[place], title)


ALL = (
    ask(0, "How many keys?", "3"),
    ask(1, "Which boat?", "red"),
    ask(1, "Who has a boat?", "Bob"),
    ask(2, "How many goats?", "7"),
    ask(3, "How many hats?", "3"),
    ask(3, "Who has hats?", "Dora"),
    Question("Who is Emil?", ("a baker",), "Emil is a baker.", "Bakers"),
)


def test_neighbors_take_turns_from_the_nearest_on() -> None:
    found = ask_neighbors(ALL, TEXTS[0], {TEXTS[0]})
    assert [one.text for one in found] == [
        "Which boat?",
        "How many goats?",
        "Who has hats?",  # that of 3 hats is left out: a 3 stands in the text
        "Who has a boat?",
    ]
    assert {one.references for one in found} == {(SILENCE,)}
    assert [one.text for one in ask_neighbors(ALL, TEXTS[2], {TEXTS[2]})][:2] == [
        "Which boat?",
        "How many hats?",
    ]


def test_other_articles_are_no_neighbors_and_texts_without_title_have_none() -> None:
    assert ask_neighbors(ALL, "Emil is a baker.", {"Emil is a baker."}) == []
    plain = [Question(one.text, one.references, one.document) for one in ALL]
    assert ask_neighbors(plain, TEXTS[0], {TEXTS[0]}) == []


def test_a_part_of_a_text_has_the_rest_of_it_for_a_neighbor() -> None:
    found = ask_neighbors(ALL[1:3], "Bob has a boat.", {TEXTS[1]})
    assert [one.text for one in found] == ["Which boat?"]


def test_given_questions_are_those_meant_for_the_document_and_not_answered_in_it() -> None:
    given = (
        Question("What color is it?", ()),
        Question("How many keys?", ("3", "three")),
        Question("Whose?", (), " Ada  has 3\nkeys. "),
        Question("Whose boat?", (), TEXTS[1]),
        Question("Which source?", (), "A longer text. Ada has 3 keys. And more."),
    )
    sources = {"A longer text. Ada has 3 keys. And more."}
    found = choose_given(given, f"Intro. {TEXTS[0]}", sources)
    assert [one.text for one in found] == ["What color is it?", "Whose?", "Which source?"]
    assert {one.references for one in found} == {(SILENCE,)}
