"""Files of questions, and of documents with questions: JSON lines, plain or gzip.

Rows have doc, question and answers; rows of training data have doc, and maybe the other two.
Rows of how-to questions have kind and facts instead of answers.
Other keys are ignored. Errors name the file and the line.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from d2l.datasets.questions import list_texts
from d2l.documents.chunks import Piece
from d2l.errors import ProbeError, RecipeError
from d2l.files.jsonl import RowFormat, check_text, read_rows

T = TypeVar("T")
#: Kinds of questions: a few words answer a short question, and no words that of the last kind.
SHORT = "short"
KINDS = (SHORT, "howto", "overview", "list", "why", "none")


class Question(NamedTuple):
    """A question with its reference answers; the likelihood of the first is measured.

    `document` is the text, or the file, that the question is about.
    `evidence` is the passage with the answer. Without references, the document has no answer.
    `facts`, of questions that are not short: a right answer has a phrasing of each. `wrong`:
    phrases that show an invented answer.
    """

    text: str
    references: tuple[str, ...]
    document: str = ""
    evidence: str = ""
    kind: str = SHORT
    facts: tuple[tuple[str, ...], ...] = ()
    wrong: tuple[str, ...] = ()


def read_questions(path: Path, *, howtos: bool = False) -> list[Question]:
    """Read a file of questions, some without an answer (`"answers": []`).

    `howtos`: rows with facts are read, too. Raises ProbeError with the file and the line.
    """
    hint = "a row is a JSON object with doc, question and answers, a list of texts ([]: no answer)"
    if howtos:
        hint += f"; or with doc, question, kind ({', '.join(KINDS[1:])}) and facts, lists of texts"
    rows = RowFormat("a row of questions", hint, ProbeError)

    def _make(row: dict[str, Any]) -> Question:
        return _make_howto(row) if howtos and "facts" in row else _make_question(row)

    return read_rows(path, rows, _make)


def _make_howto(row: dict[str, Any]) -> Question:
    """Make a question that is not short; its reference is a model answer, or its facts."""
    facts, kind = [list_texts(fact, "a fact") for fact in row["facts"]], row["kind"]
    if kind not in KINDS[1:] or (kind == "none") == bool(facts):
        raise ValueError(f"kind {kind!r:.20} has {len(facts)} facts")
    wrong = list_texts(row["wrong"], "wrong") if row.get("wrong") else ()
    model = row.get("reference") or "; ".join(fact[0] for fact in facts)
    return Question(
        check_text(row["question"]).strip(),
        (check_text(model),) if facts else (),
        check_text(row["doc"]),
        kind=kind,
        facts=tuple(facts),
        wrong=wrong,
    )


def _make_question(row: dict[str, Any]) -> Question:
    answers = () if row["answers"] == [] else list_texts(row["answers"], "answers")
    document, evidence = check_text(row["doc"]), row.get("evidence") or ""
    for value in (row["question"], *([evidence] if evidence else [])):
        check_text(value)
    references = tuple(answer.strip() for answer in answers)
    return Question(row["question"].strip(), references, document, evidence)


class AskedText(NamedTuple):
    """A text and its questions, each with its first answer. Texts of the same title, such as the
    paragraphs of an article, belong together."""

    text: str
    questions: tuple[tuple[str, str], ...]
    title: str = ""


def read_documents(path: Path) -> list[AskedText]:
    """Read a file's rows and group them by their text, with questions or without.

    Raises RecipeError with the file and the line.
    """
    questions: dict[str, list[tuple[str, str]]] = {}
    titles: dict[str, str] = {}
    for text, question, title in read_rows(path, _TRAINING_ROWS, _make_document):
        questions.setdefault(text, []).extend([question] if question is not None else [])
        titles.setdefault(text, title)
    return [AskedText(text, tuple(asked), titles[text]) for text, asked in questions.items()]


def _make_document(row: dict[str, Any]) -> tuple[str, tuple[str, str] | None, str]:
    """Take a row's document, its question with the first answer, and its title, if any."""
    asks = "question" in row or "answers" in row
    answers = list_texts(row["answers"], "answers") if asks else ()
    for value in (row["doc"], *([row["question"]] if asks else [])):
        check_text(value)
    title = row.get("title")
    asked = (row["question"], answers[0]) if asks else None
    return row["doc"], asked, title if isinstance(title, str) else ""


_TRAINING_ROWS = RowFormat(
    "a row of training data",
    "a row is a JSON object with doc, and for a question also question and answers",
    RecipeError,
    exact=True,
)


def share_out(
    pieces: Sequence[Piece],
    questions: Sequence[T],
    *,
    find: Callable[[T], Callable[[str], object]],
    trust_single: bool,
) -> list[list[T]]:
    """Share out questions to pieces: a question goes to the only piece that holds its answer.

    `find` makes, for a question, a function that tells if a text holds the answer. A question with
    several such pieces, or none, is left out: "3" may be anybody's number of children. With
    `trust_single` the piece of a text with only one gets all questions.
    """
    if trust_single and len(pieces) == 1:
        return [list(questions)]
    owned: list[list[T]] = [[] for _ in pieces]
    for question in questions:
        holds = find(question)
        holding = [index for index, piece in enumerate(pieces) if holds(piece.text)]
        if len(holding) == 1:
            owned[holding[0]].append(question)
    return owned
