"""`d2l ask` on a terminal: question after question, each behind the turns before it.

A loaded model in, lines on stdout out. Nothing that the user types is stored.
"""

import contextlib
from typing import TYPE_CHECKING

from d2l import interrupts
from d2l.commands import console
from d2l.datasets.silence import is_silence
from d2l.errors import D2LError

if TYPE_CHECKING:
    import d2l
    from d2l.inference.adapted_model import Answer

_PROMPT = "> "
HELP = """\
/compare            the last question once more, also by the base alone and with the document
/compare QUESTION   this question so; what was said before is not seen by any of them
/new                forget what was said
/help               these lines
/quit               leave (also Ctrl-D)"""


class Conversation:
    """Turns between a user and an adapter; `document` is its text to compare with, or None."""

    def __init__(
        self, model: "d2l.AdaptedModel", document: str | None, *, compare: bool = False
    ) -> None:
        self._model = model
        self._document = document
        self._compare = compare
        self._turns: list[dict[str, str]] = []
        self._last: str | None = None

    def run(self) -> None:
        """Read lines until the user leaves. Ctrl-C stops an answer, or empties the line."""
        with contextlib.suppress(ImportError):
            import readline  # noqa: F401 - lets `input` edit lines and go back to earlier lines
        console.note("ask away; /help lists what else there is")
        while True:
            try:
                line = input(_PROMPT).strip()
                line.encode()  # text that is not UTF-8 comes as half characters
                if line and not self.take(line):
                    return
            except EOFError:
                console.result("")
                return
            except KeyboardInterrupt:
                interrupts.forget()
                console.result("")
            except UnicodeError:
                console.show_error(D2LError("the question is not UTF-8 text"))
            except D2LError as error:  # of one question; the next one may do
                console.show_error(error)

    def take(self, line: str) -> bool:
        """Answer one line, a question or a command; False if the user leaves."""
        word, _, rest = line.partition(" ")
        if word in ("/quit", "/exit"):
            return False
        if word == "/compare":
            self._show_arms(rest.strip() or self._last)
        elif word == "/new":
            self._turns, self._last = [], None
        elif word == "/help":
            console.result(HELP)
        elif word.startswith("/"):
            raise D2LError(f"{word}: no such command", hint="/help lists what there is")
        elif self._compare:
            self._show_arms(line)
        else:
            self._answer(line)
        return True

    def _answer(self, question: str) -> None:
        self._last = question
        turns = [*self._turns, {"role": "user", "content": question}]
        model, config = self._model, self._model.model.config.get_text_config()
        room = int(config.max_position_embeddings) - model.options.max_new_tokens
        opening = None if model.parts is None else model.parts.parts.index.opening
        if (
            opening is not None
        ):  # a part left by d2l edit has more seats than its share in the whole
            room -= max(len(opening.ids) - len(model.opening), 0)
        n_given = len(turns)
        while len(turns) > 1 and len(model.prompt_turns(turns)) > room:
            turns = turns[2:]
        if len(turns) < n_given:
            console.note("what was said first is forgotten: the base's window is full")
        answer = model.answer(turns, console.stream)
        console.end_answer(answer.text, name_place(model, answer))
        self._turns = [*turns, {"role": "assistant", "content": answer.text}]

    def _show_arms(self, question: str | None) -> None:
        if question is None:
            raise D2LError("there is no question to compare", hint="ask one, or /compare QUESTION")
        self._last = question
        show_arms(*answer_arms(self._model, question, self._document))


def name_place(model: "d2l.AdaptedModel", answer: "Answer") -> str | None:
    """Where an answer came from, for people; None where no part answered, or it says so."""
    if not answer.citations or model.parts is None or is_silence(answer.text):
        return None
    cited = answer.citations[0]
    several = len({record.document for record in model.parts.parts.records}) > 1
    place = cited.part.place or f"#{cited.place}"
    return f"{cited.part.document}, {place}" if several else place


def list_parts(model: "d2l.AdaptedModel", answer: "Answer") -> dict[str, object]:
    """What `--json` says of the parts that were asked: the keys of the first, and all of them;
    nothing for an adapter that is asked as a whole."""
    if model.parts is None:
        return {}
    rows = [cited.to_json() for cited in answer.citations]
    return {**(rows[0] if rows else {"part": None}), "parts": rows}


def answer_arms(
    model: "d2l.AdaptedModel", question: str, document: str | None
) -> tuple[dict[str, object], str | None]:
    """Answers of the adapter, of the base alone, and with the document in the base's prompt; and
    the place that the adapter's answer came from."""
    answer = model.answer([{"role": "user", "content": question}])
    row: dict[str, object] = {
        "question": question,
        "adapter": answer.text,
        **list_parts(model, answer),
        "base": model.ask_alone(question),
    }
    if document is not None:
        row["prompt"], left_out = model.ask_with_document(question, document)
        row["prompt_tokens_left_out"] = left_out
    return row, name_place(model, answer)


def show_arms(row: dict[str, object], place: str | None) -> None:
    """Print one line an arm: columns would not fit answers of such different lengths."""
    arms = [("adapter", "adapter"), ("base", "base alone"), ("prompt", "document in prompt")]
    width = max(len(label) for key, label in arms if key in row)
    for key, label in arms:
        if key in row:
            answer = " ".join(str(row[key]).split())
            line = f"{label:<{width}}  {answer}"
            console.stream(line)
            console.end_answer(line, place if key == "adapter" else None)
    if row.get("prompt_tokens_left_out"):
        left_out = row["prompt_tokens_left_out"]
        console.note(f"the prompt holds the document without its last {left_out:,} tokens")
