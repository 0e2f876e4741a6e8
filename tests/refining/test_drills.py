"""What a document is drilled with: its own text alone, and nothing of what is held out."""

import random

import pytest

from d2l.documents.document import SEPARATOR
from d2l.refining.drills import choose_held_out, make_drills, sentences_of
from d2l.training.learners.document_data import Asked

TEXT = "\n".join(
    f"The {noun} number {n} was built in {1900 + n} by Master {name} for the old harbor."
    for n, (noun, name) in enumerate(
        [("pump", "Alda"), ("mill", "Boro"), ("boat", "Cade"), ("crane", "Dunn"), ("gate", "Edda"),
         ("lock", "Fenn"), ("weir", "Gale"), ("quay", "Holt"), ("mast", "Ivor"), ("bell", "Jory")]
    )
)  # fmt: skip


def test_a_fifth_is_held_out_one_of_each_five_in_a_row() -> None:
    held = choose_held_out(50, seed=3)
    assert len(held) == 10
    assert sorted(n // 5 for n in held) == list(range(10))
    assert held != choose_held_out(50, seed=4)
    assert len(choose_held_out(4, seed=0)) == 1


def test_nothing_is_drilled_of_what_is_held_out() -> None:
    sentences = sentences_of([TEXT])
    held = choose_held_out(len(sentences), seed=0)
    assert len(held) == 2
    asked_about = [*sorted(held), *(n for n in range(10) if n not in held)][:5]
    written = [(n, Asked(f"When was number {n} built?", str(1900 + n))) for n in asked_about]
    drills = make_drills(sentences, written)
    drilled = [asked for step in range(40) for asked in drills.draw(step, 12)]
    for number, sentence in enumerate(sentences):
        name = sentence.text.split(" by Master ")[1].split()[0]
        year = sentence.text.split(" in ")[1][:4]
        of_it = [a for a in drilled if name in a.question + a.answer or year in a.answer]
        assert bool(of_it) == (number not in held)
        assert number not in held or [a for a in drills.held_out if a.answer == year]


#: Nothing in it can be asked for but by a writer.
PLAIN = "\n".join(
    f"the {w} was there and so it went on and on" for w in ("sea", "sun", "air", "wind")
)


def write(n: int, *, first: int = 0) -> list[tuple[int, Asked]]:
    """Two questions to each of `n` answers."""
    return [
        (k, Asked(f"{word} was number {k} built?", f"The {1900 + k}"))
        for k in range(first, first + n)
        for word in ("When", "In what year")
    ]


@pytest.mark.parametrize("seed", range(4))
def test_of_answers_in_one_wording_an_eighth_is_held_out(seed: int) -> None:
    sentences = sentences_of([PLAIN])
    for n_answers, n_held in ((6, 2), (10, 2), (24, 3)):
        written = write(n_answers)[::2]
        drills = make_drills(sentences, written, seed=seed)
        drilled = [asked for step in range(20) for asked in drills.draw(step, 12)]
        assert {a.question for a in drilled} == {a.question for a in drills.questions}
        assert not {a.answer for a in drilled} & {a.answer for a in drills.held_out}
        assert len({a.answer for a in drills.held_out}) == n_held
        assert len(drills.questions) + len(drills.held_out) == len(written)


@pytest.mark.parametrize("seed", range(4))
def test_of_answers_in_several_wordings_other_wordings_are_held_out(seed: int) -> None:
    sentences = sentences_of([TEXT])
    for n_answers, n_held in ((6, 2), (24, 6)):
        written = write(n_answers)
        drills = make_drills(sentences, written, seed=seed)
        drilled = [asked for step in range(20) for asked in drills.draw(step, 12)]
        assert len(drills.held_out) == n_held
        assert len(drills.questions) + n_held == len(written)  # and no clozes
        assert {a.question for a in drilled} == {a.question for a in drills.questions}
        held = {(a.question, a.answer) for a in drills.held_out}
        assert not held & {(a.question, a.answer) for a in drilled}
        assert {a.answer for a in drills.held_out} < {a.answer for a in drilled}


def test_of_few_written_questions_sentences_are_drilled_too() -> None:
    drills = make_drills(sentences_of([TEXT]), write(5))
    assert len(drills.sentences) == 8
    assert make_drills(sentences_of([TEXT]), write(6)).sentences == ()


def test_one_step_drills_nothing_twice_where_there_is_little() -> None:
    drills = make_drills(sentences_of([PLAIN]), write(10)[::2])
    assert len(drills.questions) == 8
    for step in range(3):
        assert set(drills.draw(step, 10)) == set(drills.questions)
        assert len(drills.draw(step, 10)) == len(drills.questions)


def test_all_that_is_asked_stands_in_the_text() -> None:
    drills = make_drills(sentences_of([TEXT]), [])
    for asked in [*drills.held_out, *(a for step in range(20) for a in drills.draw(step, 12))]:
        assert asked.answer.strip(" .") in TEXT


def test_draws_depend_on_seed_and_step_alone() -> None:
    sentences = sentences_of([TEXT])
    one, other = make_drills(sentences, []), make_drills(sentences, [], seed=1)
    assert one.draw(5, 12) == make_drills(sentences, []).draw(5, 12)
    random.seed(0)
    assert one.draw(5, 12) == one.draw(5, 12)
    assert one.draw(5, 12) != one.draw(6, 12)
    assert one.draw(5, 12) != other.draw(5, 12)


def test_sentences_are_asked_about_in_all_ways() -> None:
    sentences = sentences_of([TEXT])
    written = [(n, Asked("Written?", "by a writer")) for n in range(len(sentences))]

    def kind(asked: Asked) -> str:
        if asked.question == "Written?":
            return "asked"
        recited = asked.question.startswith(("Continue", "How does this go on", "Complete"))
        return "rest" if recited else "cloze"

    for given, kinds in (([], {"cloze", "rest"}), (written, {"asked", "cloze", "rest"})):
        drills = make_drills(sentences, given)
        assert {kind(a) for step in range(9) for a in drills.draw(step, 12)} == kinds
        assert {kind(a) for a in drills.held_out} == kinds


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3 4\n5 6 7 8\n9 10 11 12\n13 14 15 16\n",
        "滤网每十四天冲洗一次。水泵在港口。",
        "",
        "def f(x):\n    return x\n",
    ],
)
def test_texts_without_sentences_give_nothing_to_ask(text: str) -> None:
    assert len(sentences_of([text])) < 4


def test_sentences_know_where_they_stand_and_come_once() -> None:
    texts = ["The pump and the mill of the old town both stand in\nthe harbor near Oldport. ", TEXT]
    found = sentences_of([*texts, texts[0]])
    assert [one.document for one in found] == [0] + [1] * 10
    for one in found:
        assert " ".join(texts[one.document][one.start : one.stop].split()) == one.text
    assert SEPARATOR not in found[0].text


def test_answers_come_in_rounds_and_wordings_in_turn() -> None:
    written = [
        (n, Asked(f"{how} was number {n} built?", str(1900 + n)))
        for n in range(8)
        for how in (("When", "In what year", "How early") if n % 2 else ("When",))
    ]
    drills = make_drills(sentences_of([PLAIN]), written)
    answers = {asked.answer for asked in drills.questions}
    assert len(answers) == 8
    rounds = [drills.draw(step, 8) for step in range(3)]
    for drawn in rounds:
        assert {asked.answer for asked in drawn} == answers
    in_order = [asked for drawn in rounds for asked in drawn]
    for answer in answers:
        wordings = [asked.question for asked in in_order if asked.answer == answer]
        assert set(wordings) == {a.question for a in drills.questions if a.answer == answer}
