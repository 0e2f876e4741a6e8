"""The command `d2l ask`: questions in, answers out, streamed, side by side or as JSON."""

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, TextIO

import typer

from d2l.adapters.adapter_paths import find_adapter
from d2l.adapters.info import read_info
from d2l.answer.options import AskOptions, Reader
from d2l.commands import console
from d2l.commands.asking import Asker, LocalAsker, Row, ServerAsker
from d2l.commands.conversation import Conversation, show_arms
from d2l.commands.options import (
    NETWORK,
    OUTPUT,
    Base,
    BaseDtype,
    Device,
    Offline,
    ReaderName,
    in_panel,
    note_smaller,
    taking,
)
from d2l.errors import D2LError, OptionError
from d2l.parts.kept import PartOptions
from d2l.progress import announce
from d2l.spelling import option

Server = Annotated[
    str | None,
    in_panel(
        NETWORK, metavar="URL", envvar="D2L_SERVER", help="Ask a running d2l serve: no start."
    ),
]
AsLines = Annotated[
    bool, in_panel(OUTPUT, "--jsonl", help="Print a JSON object a line, each when it is answered.")
]


@dataclass(frozen=True)
class Asking:
    """Options of an answer, as the command line and a server take them."""

    parts: int | None = option(None, "Parts to read; default: 8, of trained seats 4.", minimum=1)
    page: str | None = option(None, 'The parts from there answer: "p. 12", a heading, or "#3".')
    whole: bool = option(False, "Ask the one memory that other engines load.")
    short: bool = option(False, "Answer in a few words, for programs.")
    long: bool = option(False, "Answer in full, questions for a fact, too.")
    system: str | None = option(None, "System text, in place of the adapter's instruction.")
    max_tokens: int | None = option(
        None, "Longest answer: 256; short or trained: 64.", minimum=1, of="limits"
    )

    def __post_init__(self) -> None:
        if self.whole and (self.parts or self.page) is not None:
            raise OptionError("--whole asks no part", hint="leave it out, or --parts and --page")
        if self.short and self.long:
            raise OptionError("--short and --long are both given", hint="leave one of them out")

    def on(
        self,
        base: str | None,
        dtype: str | None,
        device: str,
        offline: bool,
        reader: Reader = "auto",
    ) -> AskOptions:
        """Options of an answer by a base, which a reader runs."""
        return AskOptions(
            base,
            device,
            self.max_tokens or 0,
            offline=offline,
            dtype=dtype,
            parts=PartOptions(self.parts, self.page, self.whole),
            short=self.short,
            long=self.long,
            system=self.system,
            reader=reader,
        )


@taking("d2l.commands.ask:Asking", into="asking")
def ask(
    context: typer.Context,
    adapter: Annotated[Path, typer.Argument(help="Adapter: its folder, or its name.")],
    asking: Asking,
    question: Annotated[
        str | None,
        typer.Argument(
            help="Left out: one a line of stdin; on a terminal they are asked in turn (/help)."
        ),
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show the base's answer beside it.")
    ] = False,
    document: Annotated[
        str | None, typer.Option(help="Compare with this document in the base's prompt, too.")
    ] = None,
    server: Server = None,
    base: Base = None,
    base_dtype: BaseDtype = None,
    device: Device = "auto",
    reader: ReaderName = "auto",
    offline: Offline = False,
    as_lines: AsLines = False,
) -> None:
    """Ask an adapter questions.

    Answers stand alone on stdout; programs read --jsonl. Questions of stdin go to stderr; so do
    the passages, unless stdout is a terminal.
    """
    compare = compare or document is not None
    options = asking.on(base, base_dtype, device, offline, reader)
    if console.wants_json() and as_lines:
        raise OptionError("--json and --jsonl are both given", hint="leave one of them out")
    if server is None:
        adapter = find_adapter(adapter)
        if compare and reader == "auto":  # torch reads longer documents
            options = replace(options, reader="torch")
    else:
        refuse_local(options, document)
    given = take_questions(question, as_lines=as_lines)
    asker: Asker
    if server is None:
        text = find_document(adapter, document) if compare or given is None else None
        asker = load_asker(context, adapter, options, text)
    else:
        asker = ServerAsker(server, adapter, options)
    if given is None:
        Conversation(asker, compare=compare).run()
        return
    announce("answering")
    print_answers(asker, given, compare=compare, as_lines=as_lines)


def load_asker(
    context: typer.Context, adapter: Path, options: AskOptions, text: str | None
) -> LocalAsker:
    """Load an adapter on its base; `text`: of the document to compare with."""
    from d2l.answer.readers import load_model

    base = str(read_info(adapter).config.get("base_model_name_or_path"))
    announce(f"loading the base {base}")
    before = partial(note_smaller, context, base, options.device)
    return LocalAsker(load_model(adapter, options, before_torch=before), text)


def refuse_local(options: AskOptions, document: str | None) -> None:
    """Refuse options that need the adapter and its base in this process."""
    local = {
        "--document": document,
        "--base": options.base,
        "--base-dtype": options.dtype,
        "--device": options.device != "auto",
        "--reader": options.reader != "auto",
        "--offline": options.offline,
    }
    if names := [name for name, value in local.items() if value]:
        raise OptionError(
            f"a server does not take {', '.join(names)}",
            hint="leave it out, or --server and D2L_SERVER",
        )


def _is_terminal() -> bool:
    """True if a user types and reads what is printed."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def take_questions(question: str | None, *, as_lines: bool) -> Iterable[str] | None:
    """Take the question given, else those of stdin; None if a user types them in turn."""
    if question is None and not as_lines and not console.wants_json() and _is_terminal():
        return None
    given = read_questions(question, sys.stdin)
    if as_lines and question is None:
        return given  # each line is answered as it comes
    questions = list(given)
    if not questions:
        raise D2LError("no question on standard input", hint="write one question a line")
    return questions


def read_questions(question: str | None, stdin: TextIO | None) -> Iterator[str]:
    """Yield the question given, else each line of stdin that is not empty, as it comes."""
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
    """Read the document for the prompt: the given one, else the adapter's own documents; None if
    one of these is not at its path or has changed."""
    from d2l.compiler.originals import find_originals, read_originals

    info = read_info(adapter)
    originals = read_originals(info, given) if given is not None else find_originals(info)
    return (originals.text or None) if originals is not None else None


def print_answers(asker: Asker, questions: Iterable[str], *, compare: bool, as_lines: bool) -> None:
    """Answer every question and print: as JSON, else streamed, or side by side."""
    if as_lines:
        for row in answer_all(asker, questions, compare=compare):
            console.result_json(row)
            console.flush()
    elif console.wants_json():
        rows = list(answer_all(asker, questions, compare=compare))
        console.result_json({"adapter": asker.name, "answers": rows})
    else:
        show_answers(asker, list(questions), compare=compare)


def show_answers(asker: Asker, questions: list[str], *, compare: bool) -> None:
    """Answer every question and print it, streamed or side by side."""
    for question in questions:
        if len(questions) > 1:
            console.note(f"? {question}", dim=True)
        if compare:
            show_arms(*asker.compare(question))
        else:
            answer = asker.answer([{"role": "user", "content": question}], console.stream)
            console.end_answer(answer.end, answer.passage)
        console.flush()


def answer_all(asker: Asker, questions: Iterable[str], *, compare: bool) -> Iterator[Row]:
    """Answer one question after the other; yields the answers by arm."""
    for question in questions:
        if compare:
            yield asker.compare(question)[0]
        else:
            answer = asker.answer([{"role": "user", "content": question}])
            yield {"question": question, "adapter": answer.text, **answer.source}
