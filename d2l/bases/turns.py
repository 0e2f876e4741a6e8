"""Texts of a base's chat template around system text, questions and answers.

The template's source is not parsed: it renders turns with marks in them.
"""

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from d2l.errors import BaseModelError, D2LError

if TYPE_CHECKING:
    from d2l.bases.tokenizers import BaseTokenizer

Turn = Mapping[str, str]
#: Renders turns as a prompt: (turns, whether an answer is to follow) → text.
Render = Callable[[Sequence[Turn], bool], str]
_MARKS = tuple(f"\u2042{name}\u2042" for name in ("system", "question", "answer", "again"))


@dataclass(frozen=True)
class TurnTexts:
    """Texts around the system text, the questions and the answers of a conversation.

    `head` stands before the system text, and its first token is the sink of attention.
    `answer_start` asks for an answer, `past_start` begins an earlier answer: Qwen 3 writes an empty
    thought only into the former, Mistral a space only into the latter.
    """

    head: str
    behind_system: str  # up to the first question
    question_start: str  # of every question but the first
    question_end: str
    answer_start: str
    past_start: str
    answer_end: str

    @property
    def before_answer(self) -> str:
        """Text from a question's end to the answer."""
        return self.question_end + self.answer_start

    @property
    def after_answer(self) -> str:
        """Text from an answer's end to the next question."""
        return self.answer_end + self.question_start

    def lead(self, system: str) -> str:
        """Write a prompt up to the first question."""
        return self.head + system + self.behind_system

    def rest(self, turns: Sequence[Turn]) -> str:
        """Write a prompt from the first question, which `turns` begin with, to the next answer."""
        text = ""
        for n, turn in enumerate(turns):
            if turn["role"] == "assistant":
                text += self.past_start + turn["content"] + self.answer_end
            else:
                start = self.question_start if n > 0 else ""
                text += start + turn["content"] + self.question_end
        return text + self.answer_start


def read_turns(tokenizer: "BaseTokenizer") -> TurnTexts:
    """Take the base's own chat template apart; raises BaseModelError."""
    if not tokenizer.chat.chat_template:
        raise BaseModelError(
            f"{tokenizer.folder}: has no chat template, so it cannot be asked",
            hint="name the base's instruction-tuned version with --base",
        )
    turns = take_apart(
        lambda talk, asking: tokenizer.render_chat(talk, taking="a question", opening=asking)
    )
    if turns is None:
        raise BaseModelError(
            f"{tokenizer.folder}: the chat template does not write every turn in the same way",
            hint="name another base of the same family with --base",
        )
    return turns


def take_apart(render: Render) -> TurnTexts | None:
    """Take a chat template apart; None if it does not write every turn in the same way.

    Where it refuses a system text (D2LError), drops it or moves it, the first question begins with
    the system text and an empty line.
    """
    system, question, answer, again = (
        {"role": role, "content": mark}
        for role, mark in zip(("system", "user", "assistant", "user"), _MARKS, strict=True)
    )
    pieces = _cut(render([question, answer, again], True), _MARKS[1:])
    if not pieces:
        return None
    start, past, between, ask = pieces
    question_end = render([question], False).rpartition(_MARKS[1])[2]
    answer_end = render([question, answer], False).rpartition(_MARKS[2])[2]
    told: list[str] = []
    with contextlib.suppress(D2LError):
        told = _cut(render([system, question, answer, again], True), _MARKS)
    head, behind = told[:2] or (start, "\n\n")
    turns = TurnTexts(
        head=head,
        behind_system=behind,
        question_start=between.removeprefix(answer_end),
        question_end=question_end,
        answer_start=ask.removeprefix(question_end),
        past_start=past.removeprefix(question_end),
        answer_end=answer_end,
    )
    first = question if told else {"role": "user", "content": _MARKS[0] + behind + _MARKS[1]}
    for more in ([], [answer, again], [answer, again] * 2):
        rest = turns.rest([question, *more])
        whole = render([*([system] if told else []), first, *more], True)
        alone = render([question, *more], True)
        if whole != turns.lead(_MARKS[0]) + rest or not alone.endswith(rest):
            return None
    return turns


def _cut(text: str, marks: Sequence[str]) -> list[str]:
    """Cut a text at its marks; empty if it does not have them in this order."""
    found = re.fullmatch("(.*?)".join(["", *marks, ""]), text, re.DOTALL)
    return [] if found is None else list(found.groups())
