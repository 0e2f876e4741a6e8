"""Files of questions: JSON lines of question, answers and maybe doc, plain or gzip.

Other keys are ignored. Errors name the file and the line.
"""

from pathlib import Path
from typing import Any, NamedTuple

from d2l.errors import ProbeError
from d2l.files.jsonl import RowFormat, check_text, read_rows

_ROWS = RowFormat(
    "a row of questions",
    "a row is a JSON object with question and answers, a list of texts ([]: no answer)",
    ProbeError,
)


class Question(NamedTuple):
    """A question with its reference answers; without any, the document has no answer.

    `document` is the text that the question is about, if the row names one.
    """

    text: str
    references: tuple[str, ...]
    document: str | None = None


def read_questions(path: Path) -> list[Question]:
    """Read a file of questions; raises ProbeError with the file and the line."""
    return read_rows(path, _ROWS, _make_question)


def _make_question(row: dict[str, Any]) -> Question:
    answers = () if row["answers"] == [] else list_texts(row["answers"], "answers")
    document = row.get("doc")
    for value in (row["question"], *([] if document is None else [document])):
        check_text(value)
    references = tuple(answer.strip() for answer in answers)
    return Question(row["question"].strip(), references, document)


def list_texts(value: Any, name: str) -> tuple[str, ...]:
    """Check a list of at least one text; raises TypeError or ValueError."""
    if not isinstance(value, list) or not value:
        raise TypeError(f"{name} is not a list of at least one text")
    return tuple(map(check_text, value))
