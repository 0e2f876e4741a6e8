"""`d2l ask` on a terminal: question after question, each behind the turns before it.

Nothing that the user types is stored.
"""

import contextlib
from collections.abc import Mapping

from d2l import interrupts
from d2l.commands import console
from d2l.commands.asking import Asker, Row, ShownAnswer
from d2l.errors import D2LError
from d2l.progress import announce

_PROMPT = "> "
HELP = """\
/compare            the last question once more, also by the base alone and with the document
/compare QUESTION   the same for this question; none of the three reads the turns before
/new                forget the turns before
/help               these lines
/quit               leave (also Ctrl-D)"""


class Conversation:
    """Turns between a user and an adapter."""

    def __init__(self, asker: Asker, *, compare: bool = False) -> None:
        self._asker = asker
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
                console.make_way()
                line = input(_PROMPT).strip()
                announce("answering")
                line.encode()  # text that is not UTF-8 comes as half characters
                if line and not self.take(line):
                    return
            except EOFError:
                console.result("")
                return
            except KeyboardInterrupt:
                interrupts.clear()
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
        turns, n_left_out = self._asker.fit([*self._turns, {"role": "user", "content": question}])
        if n_left_out:
            console.warn("the first turns are left out: the base's window is full")
        answer = self._asker.answer(turns, console.stream)
        console.end_answer(answer.end, answer.passage)
        self._turns = [*turns, {"role": "assistant", "content": answer.text}]

    def _show_arms(self, question: str | None) -> None:
        if question is None:
            raise D2LError("there is no question to compare", hint="ask one, or /compare QUESTION")
        self._last = question
        show_arms(*self._asker.compare(question))


def show_arms(row: Row, answers: Mapping[str, ShownAnswer]) -> None:
    """Print one line an arm: columns would not fit answers of such different lengths."""
    arms = {"adapter": "adapter", "base": "base alone", "prompt": "document in prompt"}
    width = max(len(arms[key]) for key in answers)
    for key, answer in answers.items():
        console.stream(f"{arms[key]:<{width}}  {' '.join(answer.text.split())}")
        console.end_answer(answer.end, answer.passage)
    if row.get("prompt_tokens_left_out"):
        left_out = row["prompt_tokens_left_out"]
        console.warn(f"the prompt holds the document without its last {left_out:,} tokens")
