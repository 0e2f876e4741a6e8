"""The command `d2l ask`: questions in, answers out, streamed, side by side or as JSON."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from d2l.adapters.info import read_info
from d2l.commands import console
from d2l.commands.options import AdapterPath, AsJson, Base, Device, Offline
from d2l.errors import D2LError, DocumentError

if TYPE_CHECKING:
    from d2l.documents.document import Document
    from d2l.inference.adapted_model import Asker


def ask(
    adapter: AdapterPath,
    question: Annotated[
        str | None, typer.Argument(help="Without one, questions are read from stdin, one a line.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show the base's answer beside it.")
    ] = False,
    document: Annotated[
        str | None, typer.Option(help="Compare with this document in the base's prompt, too.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    base: Base = None,
    device: Device = "auto",
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Answer questions with the base and an adapter."""
    from d2l.inference.adapted_model import AskOptions, load_asker

    questions = read_questions(question, sys.stdin)
    compare = compare or document is not None
    text = find_document(adapter, document) if compare else None
    asker = load_asker(adapter, AskOptions(base, device, max_tokens, temperature, offline))
    ask_all(asker, questions, document=text, compare=compare, as_json=as_json)


def read_questions(question: str | None, stdin: TextIO | None) -> list[str]:
    """The question given, or every line of stdin that is not empty."""
    try:
        if question is not None:
            lines = [question]
        elif stdin is not None and not stdin.isatty():
            lines = stdin.read().splitlines()
        else:
            hint = 'd2l ask ADAPTER "A question?", or pipe questions in'
            raise D2LError("no question", hint=hint)
        questions = [line.strip() for line in lines if line.strip()]
        "".join(questions).encode()  # an argument that is not UTF-8 comes as half characters
    except UnicodeError as error:
        raise D2LError("the question is not UTF-8 text", hint="convert it to UTF-8") from error
    if not questions and question is not None:
        raise D2LError("the question is empty", hint='d2l ask ADAPTER "A question?"')
    if not questions:
        raise D2LError("no question on standard input", hint="write one question a line")
    return questions


def find_document(adapter: Path, given: str | None) -> str | None:
    """Text of the document to put into the prompt: the one given, else the adapter's own input
    if it still lies where it was and is unchanged; None if there is none at hand."""
    from d2l.documents.document import Source
    from d2l.documents.inputs import printable
    from d2l.documents.readers import read_document

    if given is not None:
        return read_document(Source(printable(given), Path(given))).text
    made = read_info(adapter).provenance
    texts = []
    for entry in () if made is None else made.inputs:
        document = _read_again(entry.name)
        if document is None or document.digest != entry.sha256:
            return None
        texts.append(document.text)
    return "\n\n".join(texts) or None


def _read_again(name: str) -> "Document | None":
    """An input as it lies there now; None if it cannot be read, say for want of a password."""
    from d2l.documents.document import Source
    from d2l.documents.readers import read_document

    try:
        return read_document(Source(name, Path(name)))
    except DocumentError:
        return None


def ask_all(
    asker: "Asker", questions: list[str], *, document: str | None, compare: bool, as_json: bool
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
