"""A session of questions: from the command line or stdin, answered side by side.

The one pipeline that prints as it goes, since answers are streamed.
"""

from pathlib import Path
from typing import TextIO

from d2l import console
from d2l.adapters.provenance import read_info
from d2l.ask import Asker
from d2l.documents.document import Source
from d2l.documents.readers import read_document
from d2l.errors import D2LError, DocumentError


def read_questions(question: str | None, stdin: TextIO) -> list[str]:
    """The question given, or every line of stdin that is not empty."""
    if question is not None and question.strip():
        return [question.strip()]
    if question is not None:
        raise D2LError("the question is empty", hint='d2l ask ADAPTER "A question?"')
    if stdin.isatty():
        raise D2LError("no question", hint='d2l ask ADAPTER "A question?", or pipe questions in')
    questions = [line.strip() for line in stdin.read().splitlines() if line.strip()]
    if not questions:
        raise D2LError("no question on standard input", hint="write one question a line")
    return questions


def find_document(adapter: Path, given: str | None) -> str | None:
    """Text of the document to put into the prompt: the one given, else the adapter's own input
    if it still lies where it was and is unchanged; None if there is none at hand."""
    if given is not None:
        path = Path(given)
        if not path.is_file():
            raise DocumentError(f"{given}: no such file")
        return read_document(Source(given, path)).text
    inputs = (read_info(adapter).provenance or {}).get("inputs", [])
    texts = []
    for entry in inputs:
        path = Path(entry["name"])
        if not path.is_file():
            return None
        document = read_document(Source(entry["name"], path))
        if document.digest != entry["sha256"]:
            return None
        texts.append(document.text)
    return "\n\n".join(texts) or None


def ask_all(
    asker: Asker, questions: list[str], *, document: str | None, compare: bool, as_json: bool
) -> None:
    """Answer every question and print: streamed text, side by side, or JSON."""
    rows = []
    for question in questions:
        if len(questions) > 1 and not as_json:
            console.result(f"? {question}")
        emit = console.stream if not as_json and not compare else None
        row: dict[str, object] = {"question": question}
        row["adapter"] = asker.answer(question, emit) if emit else asker.answer(question)
        if emit:
            console.result("")
        if compare:
            row["base"] = asker.answer_alone(question)
            if document is not None:
                row["prompt"], left_out = asker.answer_with_document(question, document)
                row["prompt_tokens_left_out"] = left_out
        rows.append(row)
        if compare and not as_json:
            _show_side_by_side(row)
    if as_json:
        console.result_json({"adapter": str(asker.info.folder), "answers": rows})


def _show_side_by_side(row: dict[str, object]) -> None:
    """One line an arm, since answers differ in length more than terminals do in width."""
    arms = [("adapter", "adapter"), ("base", "base alone"), ("prompt", "document in prompt")]
    width = max(len(label) for key, label in arms if key in row)
    for key, label in arms:
        if key in row:
            answer = " ".join(str(row[key]).split())
            console.result(f"{label:<{width}}  {answer}")
    if row.get("prompt_tokens_left_out"):
        left_out = row["prompt_tokens_left_out"]
        console.note(f"the prompt holds the document without its last {left_out:,} tokens")
