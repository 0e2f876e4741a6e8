import re
from collections import Counter

import pytest

from d2l.documents.document import SEPARATOR
from d2l.evaluation.metrics import contains_answer
from d2l_lab.bench.documents import AskedDocument, draw_documents
from d2l_lab.questions import Question


class Words:
    """A tokenizer whose tokens are words."""

    def encode(self, text: str) -> list[int]:
        return list(range(len(text.split())))

    def token_starts(self, text: str) -> list[int]:
        return [match.start() for match in re.finditer(r"\S+", text)]


def make_set(n_texts: int, n_sentences: int) -> list[Question]:
    """Texts of sentences of 20 words, each with a name that one question asks for."""
    questions = []
    for text in range(n_texts):
        names = [f"Name{text}x{n}" for n in range(n_sentences)]
        document = " ".join(f"{'word ' * 18}is {name}." for name in names)
        questions += [Question(f"Who is {name}?", (name,), document) for name in names]
    return questions


def draw(questions: list[Question], length: int, limit: int) -> list[AskedDocument]:
    return draw_documents(questions, tokenizer=Words(), length=length, limit=limit)


def list_asked(drawn: list[AskedDocument]) -> list[Question]:
    return [question for asked in drawn for question in asked.questions]


@pytest.mark.parametrize("length", [40, 100, 240, 500, 1000])
def test_documents_are_within_the_length_and_answer_what_is_asked(length: int) -> None:
    questions = make_set(n_texts=30, n_sentences=15)
    drawn = draw(questions, length, limit=30)
    assert len(list_asked(drawn)) == len(set(list_asked(drawn))) == 30
    for asked in drawn:
        assert asked.n_tokens == len(asked.document.text.split())
        assert length - 120 < asked.n_tokens <= length
        for question in asked.questions:
            holding = [
                section
                for section in asked.document.sections
                if contains_answer(section.text, question.references)
            ]
            assert len(holding) == 1
            assert question.document is not None
            assert holding[0].text in question.document


def test_the_same_set_gives_the_same_documents_of_which_others_are_of_other_lengths() -> None:
    questions = make_set(n_texts=9, n_sentences=6)
    assert draw(questions, 100, 20) == draw(questions, 100, 20)
    assert draw(questions, 100, 20) != draw(questions, 80, 20)


def test_a_long_document_is_made_of_different_texts_and_asked_about_all_of_them() -> None:
    questions = make_set(n_texts=12, n_sentences=6)
    drawn = draw(questions, 500, limit=18)
    for asked in drawn:
        texts = [section.text for section in asked.document.sections]
        assert len(texts) == len(set(texts)) == 4  # 120 words each
        assert asked.document.text == SEPARATOR.join(texts)
        asked_of = Counter(question.document for question in asked.questions)
        assert set(asked_of) == set(texts) or asked is drawn[-1]
        assert max(asked_of.values()) <= 2


def test_more_is_asked_about_a_passage_only_where_the_set_is_too_small() -> None:
    questions = make_set(n_texts=4, n_sentences=6)
    assert {len(asked.questions) for asked in draw(questions, 120, limit=16)} == {4}
    assert {len(asked.questions) for asked in draw(questions, 120, limit=24)} == {6}
    assert len(list_asked(draw(questions, 120, limit=999))) == 24  # as many as there are


def test_the_last_long_document_is_filled_up_with_passages_that_are_not_asked_about_again() -> None:
    questions = make_set(n_texts=5, n_sentences=6)
    first, last = draw(questions, 500, limit=999)
    assert len(first.document.sections) == len(last.document.sections) == 4
    assert len(list_asked([first, last])) == len(set(list_asked([first, last]))) == 30
    assert len({question.document for question in last.questions}) == 1


def test_a_question_whose_answer_stands_in_several_passages_is_left_out() -> None:
    filler = "word " * 38
    twice = f"{filler}is Ada. {filler}is Ada too. {filler}is Bob."
    other = f"{filler}is Bob. {filler}is Cleo."
    questions = [
        Question("Who?", ("Ada",), twice),  # in two passages of its own text
        Question("Who?", ("Bob",), twice),
        Question("Who?", ("Cleo",), other),
        Question("Who?", ("Dora",), other),  # nowhere
    ]
    short = list_asked(draw(questions, 45, limit=9))
    assert {question.references for question in short} == {("Bob",), ("Cleo",)}
    # Side by side, both texts hold Bob, and all of `twice` is one passage.
    long = list_asked(draw(questions, 400, limit=9))
    assert {question.references for question in long} == {("Ada",), ("Cleo",)}


def test_full_passages_come_first() -> None:
    short = [Question(f"S{n}?", (f"S{n}",), f"{'word ' * 44}S{n}.") for n in range(20)]
    full = [Question(f"F{n}?", (f"F{n}",), f"{'word ' * 190}F{n}.") for n in range(3)]
    drawn = draw([*short, *full], 240, limit=4)
    assert [asked.n_tokens for asked in drawn] == [191, 191, 191, 45]


def test_a_set_without_passages_of_the_length_gives_none() -> None:
    assert draw(make_set(n_texts=2, n_sentences=2)[:0], 50, limit=5) == []
    assert draw([Question("Who?", ("Nobody",), "word " * 50)], 100, limit=5) == []
