"""Files of questions → rows: JSON lines, plain or gzip, of question, answers and maybe doc.

Other keys are passed over. What is wrong with a row is said with the file and the line.
"""

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.errors import ProbeError


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
