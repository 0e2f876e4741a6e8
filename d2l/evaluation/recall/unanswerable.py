"""Questions that a document does not answer: those of a file, or those of its neighbors.

A document's text and questions in, questions out to which silence is the right answer. A question
stays only where none of its known answers stands in the text.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import zip_longest

from d2l.datasets.questions import Question
from d2l.datasets.silence import SILENCE
from d2l.evaluation.metrics import contains_answer

#: In place of a file: what is asked about other passages of the same article.
NEIGHBORS = "neighbors"


def choose_given(questions: Sequence[Question], text: str, sources: set[str]) -> list[Question]:
    """Those of a file's questions that are meant for a document and not answered in it.

    Meant for it are those without a document, those whose document is one of `sources`, of which
    the text is a part, and those whose document is a part of the text.
    """
    words = " ".join(text.split())
    return [
        _silence(question)
        for question in questions
        if (
            question.document is None
            or question.document in sources
            or " ".join(question.document.split()) in words
        )
        and _is_unanswered(question, text)
    ]


def ask_neighbors(questions: Sequence[Question], text: str, sources: set[str]) -> list[Question]:
    """Questions about passages next to a text that it does not answer, the nearest first.

    `questions` is the whole set, in which texts of one title follow each other; `sources` are those
    of its documents that the text is of. A passage of one of these that is not in the text is a
    neighbor, too. One question of every neighbor in turn.
    """
    articles: dict[str, dict[str, list[Question]]] = {}
    for question in questions:
        if question.document is not None:
            article = articles.setdefault(question.title or question.document, {})
            article.setdefault(question.document, []).append(question)
    found: list[list[Question]] = []
    for article in articles.values():
        places = {document: place for place, document in enumerate(article)}
        own = [places[document] for document in article if document in sources]
        if own:
            near = sorted(places, key=lambda one: min(abs(places[one] - place) for place in own))
            found += [[q for q in article[one] if _is_unanswered(q, text)] for one in near]
    return [_silence(question) for question in _take_turns(found)]


def _take_turns(rows: Sequence[Sequence[Question]]) -> Iterator[Question]:
    """The first of every row, then the second of every row, …, none twice."""
    turns = (question for turn in zip_longest(*rows) for question in turn if question is not None)
    return iter({question.text: question for question in turns}.values())


def _is_unanswered(question: Question, text: str) -> bool:
    return not contains_answer(text, question.references)


def _silence(question: Question) -> Question:
    """The question with the only right answer to it."""
    return replace(question, references=(SILENCE,))
