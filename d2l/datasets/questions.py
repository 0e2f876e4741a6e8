"""Files of questions, and of documents with questions: JSON lines, plain or gzip.

Rows have question, answers and maybe doc; those of training doc, and maybe the other two. Other
keys are passed over. What is wrong with a row is said with the file and the line.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.errors import ProbeError, RecipeError


@dataclass(frozen=True)
class Question:
    """A question with its reference answers; the first is the one whose likelihood is measured.

    `document` is the text that it is about, where the file gives one.
    """

    text: str
    references: tuple[str, ...]
    document: str | None = None


def read_questions(path: Path, *, need_document: bool = False) -> list[Question]:
    """Read a file of questions; raises ProbeError with the file and the line."""
    try:
        return list(_read_rows(path, need_document))
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ProbeError(f"{path}: cannot be read ({reason})") from error


def _read_rows(path: Path, need_document: bool) -> Iterator[Question]:
    opener = gzip.open if path.suffix == ".gz" else open
    number = 0
    with opener(path, "rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _read_row(line.strip(), f"{path}, line {number}", need_document)
    if not number:
        raise ProbeError(f"{path}: the file is empty", hint="write one JSON object a line")


def _read_row(line: bytes, where: str, need_document: bool) -> Question:
    """One row; text must be UTF-8 and not empty."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
        if not isinstance(row, dict):
            raise TypeError(f"expected an object, got {type(row).__name__}")
        answers = row["answers"]
        if not isinstance(answers, list) or not answers:
            raise TypeError("answers is not a list of at least one text")
        document = row["doc"] if need_document else row.get("doc")
        for value in (row["question"], *answers, *([] if document is None else [document])):
            _check_text(value)
    except KeyError as error:
        raise _bad_row(where, f"{error} is missing", need_document) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise _bad_row(where, " ".join(str(error).split()), need_document) from error
    return Question(row["question"].strip(), tuple(answer.strip() for answer in answers), document)


def _check_text(value: Any) -> None:
    if not isinstance(value, str) or not value.strip():
        raise TypeError(f"expected text, got {value!r:.40}")
    value.encode("utf-8")  # JSON can spell halves of characters


def _bad_row(where: str, reason: str, need_document: bool) -> ProbeError:
    keys = "doc, question and answers" if need_document else "question and answers"
    return ProbeError(
        f"{where}: not a row of questions ({reason})",
        hint=f"a row is a JSON object with {keys}, answers being a list of texts",
    )


@dataclass(frozen=True)
class Document:
    """A text and its questions, each with its first answer. Documents of one title, such as the
    paragraphs of an article, belong together; without one each stands alone."""

    text: str
    questions: tuple[tuple[str, str], ...]
    title: str = ""


def read_documents(path: Path) -> list[Document]:
    """Group a file's rows by their text; rows without a question give documents without one.

    Raises RecipeError with the file and the line.
    """
    opener = gzip.open if path.suffix == ".gz" else open
    found: dict[str, list[tuple[str, str]]] = {}
    titles: dict[str, str] = {}
    number = 0
    try:
        with opener(path, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                text, question, title = _read_document(line, f"{path}, line {number}")
                found.setdefault(text, []).extend([question] if question is not None else [])
                titles.setdefault(text, title)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        where = f"{path}, after line {number}" if number else str(path)
        raise RecipeError(f"{where}: cannot be read ({reason})") from error
    if not found:
        raise RecipeError(f"{path}: the file is empty", hint="write one JSON object a line")
    return [Document(text, tuple(asked), titles[text]) for text, asked in found.items()]


def _read_document(line: bytes, where: str) -> tuple[str, tuple[str, str] | None, str]:
    """A row's document, its question with the first answer if it has one, and its title if any."""
    try:
        row = json.loads(line.decode("utf-8-sig"), object_pairs_hook=_refuse_twice)
        if not isinstance(row, dict):
            raise TypeError(f"expected an object, got {type(row).__name__}")
        asks = "question" in row or "answers" in row
        answers = row["answers"] if asks else []
        if not isinstance(answers, list) or (asks and not answers):
            raise TypeError("answers is not a list of at least one text")
        for value in (row["doc"], *([row["question"], *answers] if asks else [])):
            if not isinstance(value, str) or not value.strip():
                raise TypeError(f"expected text, got {value!r:.40}")
            value.encode("utf-8")  # JSON can spell halves of characters
    except KeyError as error:
        raise _bad_document(where, f"{error} is missing") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise _bad_document(where, " ".join(str(error).split())) from error
    title = row.get("title")
    asked = (row["question"], answers[0]) if asks else None
    return row["doc"], asked, title if isinstance(title, str) else ""


def _bad_document(where: str, reason: str) -> RecipeError:
    return RecipeError(
        f"{where}: not a row of training data ({reason})",
        hint="a row is a JSON object with doc, and for a question also question and answers",
    )


def _refuse_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object's pairs as a dictionary; a name that stands there twice is an error."""
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r:.40} stands there twice")
    return values
