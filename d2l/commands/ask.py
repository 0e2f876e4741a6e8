"""The command `d2l ask`: questions in, answers out, streamed, side by side or as JSON."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

import d2l
from d2l.adapters.exported_parts import name_manual
from d2l.adapters.find import find_adapter
from d2l.adapters.info import read_info
from d2l.adapters.parts import read_parts
from d2l.commands import console
from d2l.commands.asking import Asker, LocalAsker, Row, ServerAsker
from d2l.commands.conversation import Conversation, show_arms
from d2l.commands.options import LIMITS, NETWORK, OUTPUT, Base, Device, Offline, in_panel
from d2l.errors import D2LError, OptionError
from d2l.serve.client import Client

if TYPE_CHECKING:
    from d2l.inference.parts.choose import PartOptions


#: Seconds of a start that are worth a server.
_LONG_START = 3.0


def ask(
    adapter: Annotated[Path, typer.Argument(help="Adapter: its folder, or its name.")],
    question: Annotated[
        str | None,
        typer.Argument(
            help="Left out: questions are read from stdin, one a line; on a terminal they are "
            "asked in turn (/help)."
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show the base's answer beside it.")
    ] = False,
    document: Annotated[
        str | None, typer.Option(help="Compare with this document in the base's prompt, too.")
    ] = None,
    questions: Annotated[
        str | None,
        typer.Option(help="Ask nothing: print what one could ask of this document, and answers."),
    ] = None,
    parts: Annotated[
        int | None,
        typer.Option(
            "--parts",
            min=1,
            help="Parts that are read for a question; default: 4, without seats 8.",
        ),
    ] = None,
    page: Annotated[
        str | None,
        typer.Option(help='The parts from there answer: "p. 12", a heading, or "#3", a number.'),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Ask the one memory that other engines load.")
    ] = False,
    max_tokens: Annotated[
        int | None,
        in_panel(LIMITS, min=1, help="Longest answer: 64, or 256 without seats."),
    ] = None,
    server: Annotated[
        str | None,
        in_panel(
            NETWORK, metavar="URL", envvar="D2L_SERVER", help="Ask a running d2l serve: no start."
        ),
    ] = None,
    base: Base = None,
    device: Device = "auto",
    offline: Offline = False,
    as_lines: Annotated[
        bool,
        in_panel(OUTPUT, "--jsonl", help="Print a JSON object a line, each when it is answered."),
    ] = False,
) -> None:
    """Ask an adapter questions.

    Answers stand alone on stdout and keep their line ends; programs read --jsonl. The questions of
    stdin go to stderr; so do the places of the answers, unless stdout is a terminal.
    """
    start = time.monotonic()
    if console.wants_json() and as_lines:
        raise OptionError("--json and --jsonl are both given", hint="leave one of them out")
    if server is not None:
        _refuse_local(
            {
                "--questions": questions,
                "--document": document,
                "--base": base,
                "--device": device != "auto",
                "--offline": offline,
            }
        )
    else:
        adapter = find_adapter(adapter)
    if whole and (parts or page) is not None:
        raise OptionError("--whole asks no part", hint="leave it out, or --parts and --page")
    if questions is not None:
        if question is not None or compare or (document or parts or page) is not None:
            raise OptionError(
                "--questions prints questions and asks none", hint="leave the question out"
            )
        print_questions(adapter, questions, (base, device, offline), as_lines=as_lines)
        return
    talks = question is None and not console.wants_json() and not as_lines and _is_terminal()
    given: Iterable[str] = () if talks else read_questions(question, sys.stdin)
    if not talks and not (as_lines and question is None):  # else each line is answered as it comes
        given = list(given)
        if not given:
            raise D2LError("no question on standard input", hint="write one question a line")
    compare = compare or document is not None
    asker: Asker
    if server is not None:
        asker = open_server(server, adapter, max_tokens, (parts, page, whole))
    else:
        from d2l.inference.adapted_model import AskOptions

        chosen = choose_parts(adapter, parts, page, whole=whole)
        text = find_document(adapter, document) if compare or talks else None
        options = AskOptions(base, device, max_tokens or 0, offline=offline, parts=chosen)
        asker = LocalAsker(d2l.AdaptedModel.load(adapter, options), text)
    if talks:
        Conversation(asker, compare=compare).run()
        return
    loaded = time.monotonic()
    rows = answer_all(asker, given, compare=compare)
    if as_lines:
        for row in rows:
            console.result_json(row)
            console.flush()
    elif console.wants_json():
        console.result_json({"adapter": asker.name, "answers": list(rows)})
    else:
        show_answers(asker, list(given), compare=compare)
        if server is None and question is not None and _is_terminal():
            suggest_server(adapter, loaded - start, time.monotonic() - loaded)


def _refuse_local(given: dict[str, object]) -> None:
    """Refuse options that need the adapter and its base in this process."""
    names = [name for name, value in given.items() if value]
    if names:
        raise OptionError(
            f"a server does not take {', '.join(names)}",
            hint="leave it out, or --server and D2L_SERVER",
        )


def open_server(
    address: str, adapter: Path, max_tokens: int | None, wish: tuple[int | None, str | None, bool]
) -> ServerAsker:
    """An adapter on a server, asked for so many parts, those of a page, or as a whole; raises
    ServerError."""
    chosen = dict(zip(("parts", "page", "whole"), wish, strict=True))
    fields: Row = {} if max_tokens is None else {"max_tokens": max_tokens}
    if any(chosen.values()):
        fields["d2l"] = chosen
    return ServerAsker(Client(address, os.environ.get("D2L_SERVE_TOKEN")), adapter, fields)


def suggest_server(adapter: Path, start: float, answer: float) -> None:
    """Say how to get answers without the start, if it was the longer part; both in seconds."""
    if start > max(answer, _LONG_START):
        console.note(
            f"the start took {start:.0f} s, the answer {answer:.1f} s; a server starts once:\n"
            f"d2l serve {adapter.resolve().parent} & "
            f'd2l ask {name_manual(adapter)} "..." --server http://127.0.0.1:8000'
        )


def choose_parts(
    adapter: Path, count: int | None, page: str | None, *, whole: bool
) -> "PartOptions":
    """Which parts of an adapter are asked; raises OptionError where it has none to choose from."""
    from d2l.inference.parts.choose import PartOptions

    if (count or page) is not None and read_parts(read_info(adapter)) is None:
        raise OptionError(
            f"{adapter}: has no parts", hint="compile the document with --parts, or leave these out"
        )
    return PartOptions(count, page, whole)


def print_questions(
    adapter: Path,
    document: str,
    where: tuple[str | None, str, bool],
    *,
    as_lines: bool,
) -> None:
    """Print questions that a document answers, with answers and pages; JSON lines as `d2l probe
    --qa` reads them. `where`: the base, the device, and whether no socket is opened."""
    from d2l.compiler.originals import read_originals
    from d2l.evaluation.selftest.questions import write_questions
    from d2l.questions.writer import explain_silence

    base, device, offline = where
    originals = read_originals(read_info(adapter), document)
    for remark in originals.remarks:
        console.note(remark)
    model = d2l.AdaptedModel.from_pretrained(
        adapter, base=base, device=device, local_files_only=offline
    )
    found, _ = write_questions(model, originals, offline=offline, watch=console.watch)
    rows = [one.to_json() for one in found]
    told: dict[str, str] = {}
    if not found:
        reason, hint = explain_silence(str(model.info.config.get("base_model_name_or_path")))
        told = {"reason": reason, "hint": hint}
        console.warn(f"no question: {reason} ({hint})")
    if console.wants_json():
        console.result_json({"adapter": str(adapter), "questions": rows, **told})
    elif as_lines:
        for row in rows:
            console.result_json(row)
    else:
        for one in found:
            console.result(f"{one.place or one.document}  {one.question}  {one.answer}")


def _is_terminal() -> bool:
    """Whether somebody types, and sees what is printed."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def read_questions(question: str | None, stdin: TextIO | None) -> Iterator[str]:
    """The question given, or each line of stdin that is not empty, as it comes."""
    if question is not None and not question.strip():
        raise D2LError("the question is empty", hint='d2l ask ADAPTER "A question?"')
    if question is None and (stdin is None or stdin.isatty()):
        hint = 'd2l ask ADAPTER "A question?", or pipe questions in'
        raise D2LError("no question", hint=hint)
    try:
        for line in [question] if question is not None else stdin or ():
            line.encode()  # text that is not UTF-8 comes as half characters
            if line.strip():
                yield line.strip()
    except UnicodeError as error:
        raise D2LError("the question is not UTF-8 text", hint="convert it to UTF-8") from error


def find_document(adapter: Path, given: str | None) -> str | None:
    """Text of the document for the prompt: the given document, else the adapter's own documents;
    None if one of these is not at its path or has changed."""
    from d2l.compiler.originals import find_originals, read_originals

    info = read_info(adapter)
    originals = read_originals(info, given) if given is not None else find_originals(info)
    return (originals.text or None) if originals is not None else None


def show_answers(asker: Asker, questions: list[str], *, compare: bool) -> None:
    """Answer every question and print it, streamed or side by side."""
    for question in questions:
        if len(questions) > 1:
            console.note(f"? {question}", dim=True)
        if compare:
            show_arms(*asker.compare(question))
        else:
            answer = asker.answer([{"role": "user", "content": question}], console.stream)
            console.end_answer(answer.text, answer.place)
        console.flush()


def answer_all(asker: Asker, questions: Iterable[str], *, compare: bool) -> Iterator[Row]:
    """The answers of one question after the other, by arm."""
    for question in questions:
        if compare:
            yield asker.compare(question)[0]
        else:
            answer = asker.answer([{"role": "user", "content": question}])
            yield {"question": question, "adapter": answer.text, **answer.parts}
