"""Files of questions, and of documents with questions: JSON lines, plain or gzip.

Rows have question, answers and maybe doc; rows of training data have doc, and maybe the other two.
Other keys are ignored. Errors name the file and the line.
"""

from pathlib import Path
from typing import Any, NamedTuple

from d2l.errors import ProbeError, RecipeError
from d2l.files.jsonl import RowFormat, check_text, read_rows


class Question(NamedTuple):
    """A question with its reference answers; the likelihood of the first is measured.

    `document` is the text, or the file, that the question is about, if the row names one.
    `evidence` is the passage with the answer. Without references, the document has no answer.
    """

    text: str
    references: tuple[str, ...]
    document: str | None = None
    evidence: str = ""


def read_questions(path: Path, *, need_document: bool = False) -> list[Question]:
    """Read a file of questions, some without an answer (`"answers": []`).

    Raises ProbeError with the file and the line.
    """
    keys = "doc, question and answers" if need_document else "question and answers"
    hint = f"a row is a JSON object with {keys}, a list of texts ([]: no answer)"
    rows = RowFormat("a row of questions", hint, ProbeError)
    return read_rows(path, rows, lambda row: _make_question(row, need_document))


def _make_question(row: dict[str, Any], need_document: bool) -> Question:
    answers = [] if row["answers"] == [] else _read_answers(row)
    document = row["doc"] if need_document else row.get("doc")
    evidence = row.get("evidence") or ""
    given = [value for value in (document, evidence or None) if value is not None]
    for value in (row["question"], *answers, *given):
        check_text(value)
    references = tuple(answer.strip() for answer in answers)
    return Question(row["question"].strip(), references, document, evidence)


def _read_answers(row: dict[str, Any]) -> list[Any]:
    answers = row["answers"]
    if not isinstance(answers, list) or not answers:
        raise TypeError("answers is not a list of at least one text")
    return answers


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
    answers = _read_answers(row) if asks else []
    for value in (row["doc"], *([row["question"], *answers] if asks else [])):
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
