"""The passage of an answer: found by its words and the question's, and told from no support."""

import pytest

from d2l.answer.passage import LONGEST, find_passage

TEXT = """3.3 Light ring

A ring of light surrounds the display. It can be switched off in the menu.

Ring | State | Sound
steady white | ready, but the drum is still cold | no sound at all
pulsing amber | preheating | one chime
steady green | cooling | three chimes at the end, and one chime every minute

The drum takes 350 g of green coffee at most. With more, the beans at the back stay pale. \
Never load less than 80 g: the probe would hang in the air.
"""


def find(question: str, answer: str, text: str = TEXT) -> tuple[str, bool]:
    found = find_passage(question, answer, text, ("3 Controls", "3.3 Light ring"))
    assert found is not None
    return found.text, found.supported


@pytest.mark.parametrize(
    ("question", "answer", "passage"),
    [
        ("How much coffee fits into the drum?", "350 g", "The drum takes 350 g of green coffee"),
        ("What is the least load?", "80 g", "Never load less than 80 g: the probe"),
        ("What happens with more beans?", "They stay pale.", "With more, the beans at the back"),
    ],
)
def test_the_sentence_with_the_answer_is_found(question: str, answer: str, passage: str) -> None:
    text, is_supported = find(question, answer)
    assert passage in text
    assert is_supported
    assert len(text) < 160
    assert "3.3 Light ring" not in text


def test_a_row_stands_below_the_head_of_its_table() -> None:
    text, is_supported = find("What does a pulsing amber ring mean?", "preheating")
    assert text.splitlines() == ["Ring | State | Sound", "pulsing amber | preheating | one chime"]
    assert is_supported


def test_a_row_that_names_its_columns_stands_alone() -> None:
    rows = "Ring | Sound\nRing: steady red | Sound: none\nRing: pulsing amber | Sound: one chime\n"
    assert find("Which sound has amber?", "one chime", rows)[0] == rows.splitlines()[2]


def test_a_list_of_all_rows_is_supported_though_they_repeat_their_heads() -> None:
    states = ["ready", "preheating", "waiting", "roasting", "cooling", "faulty", "empty", "locked"]
    rows = "".join(f"Color of the ring: c{n} | State of drum: {s}\n" for n, s in enumerate(states))
    answer = "".join(f"- c{n}: {state}\n" for n, state in enumerate(states))
    assert find("What do the colors of the ring mean?", answer, rows)[1]


def test_the_words_before_a_statement_are_no_words_of_the_answer() -> None:
    answer = "The document states that the drum takes 350 g."
    assert find("How much coffee fits into the drum?", answer)[1]


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("How much coffee fits into the drum?", "35 g"),  # no part of a number
        ("How much coffee fits into the drum?", "350 ounces of tea"),
        ("How much coffee fits into the drum?", "green coffee"),  # no number
        ("Which metal is the drum made of?", "The drum is made of metal."),  # nothing new
        ("In which city was the company founded?", "amber"),  # the question has other words
    ],
)
def test_words_that_do_not_stand_there_are_no_support(question: str, answer: str) -> None:
    assert not find(question, answer)[1]


def test_words_that_stand_far_apart_are_no_support() -> None:
    question, filler = "How much coffee fits into the drum?", "The lid is closed by hand. " * 30
    assert find(question, "350 g of copper", f"{TEXT}The pipe is of copper.")[1]
    assert not find(question, "350 g of copper", f"{TEXT}{filler}The pipe is of copper.")[1]


def test_a_question_in_another_language_is_judged_by_the_answer_alone() -> None:
    assert find("Wie viel Kaffee fasst die Trommel?", "350 g")[1]
    assert not find("Wie viel Kaffee fasst die Trommel?", "340 g")[1]


def test_the_steps_of_a_long_answer_stand_around_the_passage() -> None:
    steps = [f"Turn the {word} screw {n} times to the left side." for n, word in enumerate(WORDS)]
    answer = "\n".join(f"{n}. {step}" for n, step in enumerate(steps, 1))
    text, is_supported = find("How do I turn the screws?", answer, "\n".join(steps))
    assert is_supported
    assert len(text) <= LONGEST


WORDS = "copper silver golden wooden narrow yellow purple orange velvet marble".split()  # noqa: SIM905


def test_without_an_answer_the_nearest_lines_are_found() -> None:
    text, is_supported = find("Can the ring be switched off?", "")
    assert text == "It can be switched off in the menu."
    assert not is_supported
    assert find_passage("Where?", "here", " \n\n") is None


def test_long_lines_are_cut() -> None:
    found = find_passage("Where is the pump?", "hall", f"{'pipe ' * 300}pump hall {'x' * 900}")
    assert found is not None
    assert "pump hall" in found.text
    assert len(found.text) <= LONGEST


def test_the_point_before_the_number_of_a_page_ends_no_line() -> None:
    chapters = "- 1 Safety (p. 3)\n- 2 Care (p. 8): 2.1 Filter\n- 3 Errors (p. 12)\n"
    assert find("What topics are there?", "Care", chapters)[0] == "2 Care (p. 8): 2.1 Filter"


def test_a_line_of_addresses_is_an_answer_but_not_the_closest_line() -> None:
    line = "- https://nodemon.io/faq <https://example.org/nodemon/sponsors/17.svg>"
    text = f"{line}\n\nnodemon restarts the program when a file changes.\n"
    question = "Who are the sponsors of nodemon?"
    assert find(question, "", text)[0] == "nodemon restarts the program when a file changes."
    assert find_passage(question, "", line) is None
    assert find(question, line, text)[0] in line
