"""Questions that a document does not answer, from a file or about neighboring passages.

Silence is the right answer to them: none of a question's known answers stands in the text.
"""

from collections.abc import Sequence
from itertools import zip_longest

from d2l.datasets.questions import Question
from d2l.datasets.silence import SILENCE
from d2l.evaluation.metrics import contains_answer

#: In place of a file: what is asked about other passages of the same article.
NEIGHBORS = "neighbors"


def choose_given(questions: Sequence[Question], text: str, sources: set[str]) -> list[Question]:
    """The questions of a file that apply to a text and are not answered in it.

    A question applies if it names no document, a source that contains the text, or a part of the
    text.
    """
    words = " ".join(text.split())
    return [
        question._replace(references=(SILENCE,))
        for question in questions
        if (
            question.document is None
            or question.document in sources
            or " ".join(question.document.split()) in words
        )
        and not contains_answer(text, question.references)
    ]


def ask_neighbors(questions: Sequence[Question], text: str, sources: set[str]) -> list[Question]:
    """Questions about passages next to a text that it does not answer, the nearest first.

    `questions` is the whole set, in which texts of one title follow each other; `sources` are the
    documents of the set that contain the text. One question of every neighbor in turn.
    """
    articles: dict[str, dict[str, list[Question]]] = {}
    for question in questions:
        if question.document is not None:
            article = articles.setdefault(question.title or question.document, {})
            article.setdefault(question.document, []).append(question)
    neighbors: list[list[Question]] = []
    for article in articles.values():
        places = {document: place for place, document in enumerate(article)}
        own = [places[document] for document in article if document in sources]
        if own:
            near = sorted(places, key=lambda name: min(abs(places[name] - n) for n in own))
            neighbors += [
                [q for q in article[name] if not contains_answer(text, q.references)]
                for name in near
            ]
    turns = [q for turn in zip_longest(*neighbors) for q in turn if q is not None]
    unlike = {question.text: question for question in turns}
    return [question._replace(references=(SILENCE,)) for question in unlike.values()]
