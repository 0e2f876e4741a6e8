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

    `document` is the text that the question is about, if the file has it; texts of the same
    `title`, such as the paragraphs of an article, belong together. `evidence` is the passage with
    the answer. A question without references has no answer in its document.
    """

    text: str
    references: tuple[str, ...]
    document: str | None = None
    title: str = ""
    evidence: str = ""


def read_questions(path: Path, *, need_document: bool = False) -> list[Question]:
    """Read a file of questions; raises ProbeError with the file and the line."""
    keys = "doc, question and answers" if need_document else "question and answers"
    hint = f"a row is a JSON object with {keys}, answers being a list of texts"
    rows = RowFormat("a row of questions", hint, ProbeError)
    return read_rows(path, rows, lambda row: _make(row, _read_answers(row), need_document))


def read_whole(path: Path) -> list[Question]:
    """Read questions about whole documents, some without an answer (`"answers": []`); raises
    ProbeError with the file and the line."""
    hint = "a row is a JSON object with doc, question and answers; [] where doc does not answer"
    rows = RowFormat("a row of questions", hint, ProbeError)

    def make(row: dict[str, Any]) -> Question:
        answers = [] if row["answers"] == [] else _read_answers(row)
        evidence = check_text(row["evidence"]) if row.get("evidence") else ""
        return _make(row, answers, True)._replace(evidence=evidence)

    return read_rows(path, rows, make)


def read_unanswerable(path: Path, *, need_document: bool = False) -> list[Question]:
    """Read a file of questions that a document does not answer; raises ProbeError.

    Rows have question and, if documents differ, doc. Answers are optional: the document must not
    contain them.
    """
    keys = "doc and question" if need_document else "question"
    hint = f"a row is a JSON object with {keys}; answers, where given, are a list of texts"
    rows = RowFormat("a row of unanswerable questions", hint, ProbeError)

    def make(row: dict[str, Any]) -> Question:
        return _make(row, _read_answers(row) if row.get("answers") else [], need_document)

    return read_rows(path, rows, make)


def _make(row: dict[str, Any], answers: list[Any], need_document: bool) -> Question:
    document, title = row["doc"] if need_document else row.get("doc"), row.get("title")
    for value in (row["question"], *answers, *([] if document is None else [document])):
        check_text(value)
    return Question(
        text=row["question"].strip(),
        references=tuple(answer.strip() for answer in answers),
        document=document,
        title=title if isinstance(title, str) else "",
    )


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
