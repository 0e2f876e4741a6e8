"""Texts of a base's chat template around system text, questions and answers.

The template's source is not parsed: it renders turns with marks in them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from d2l.bases.tokenizers import BaseTokenizer
from d2l.errors import BaseModelError

Turn = Mapping[str, str]
_SYSTEM, _QUESTION, _ANSWER, _AGAIN = (
    f"\u2042{name}\u2042" for name in ("system", "question", "answer", "again")
)
#: Llama 3.1 writes the date into every prompt: this is the default of its template, the same on
#: every day. Qwen 3 thinks unless this refuses it.
_SETTINGS = {"date_string": "26 Jul 2024", "enable_thinking": False}


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
        """Write a prompt from the first question on, ready for an answer.

        `turns` have no system turn and begin with a question.
        """
        text = ""
        for n, turn in enumerate(turns):
            if turn["role"] == "assistant":
                text += self.past_start + turn["content"] + self.answer_end
            else:
                start = self.question_start if n > 0 else ""
                text += start + turn["content"] + self.question_end
        return text + self.answer_start


def read_turns(tokenizer: BaseTokenizer) -> TurnTexts:
    """Take the base's own chat template apart; raises BaseModelError.

    Where the template refuses a system text, drops it or moves it, the first question begins with
    the system text and an empty line.
    """
    if not tokenizer.chat.chat_template:
        raise BaseModelError(
            f"{tokenizer.folder}: has no chat template, so it cannot be asked",
            hint="name the base's instruction-tuned version with --base",
        )
    question, answer, again = _make_turns(_QUESTION, _ANSWER, _AGAIN)
    start, middle, between, ask = _cut(
        tokenizer, _render(tokenizer, question, answer, again), _QUESTION, _ANSWER, _AGAIN
    )
    question_end = _render(tokenizer, question, asking=False).rpartition(_QUESTION)[2]
    answer_end = _render(tokenizer, question, answer, asking=False).rpartition(_ANSWER)[2]
    system, first = [{"role": "system", "content": _SYSTEM}], question
    try:
        told = _render(tokenizer, *system, question, answer, again)
        start, behind, *_ = _cut(tokenizer, told, _SYSTEM, _QUESTION, _ANSWER, _AGAIN)
    except BaseModelError:
        system, behind = [], "\n\n"
        first = _make_turns(f"{_SYSTEM}{behind}{_QUESTION}")[0]
    turns = TurnTexts(
        head=start,
        behind_system=behind,
        question_start=between.removeprefix(answer_end),
        question_end=question_end,
        answer_start=ask.removeprefix(question_end),
        past_start=middle.removeprefix(question_end),
        answer_end=answer_end,
    )
    for more in ((), (answer, again), (answer, again) * 2):
        rest = turns.rest((question, *more))
        whole = _render(tokenizer, *system, first, *more)
        alone = _render(tokenizer, question, *more)
        if whole != turns.lead(_SYSTEM) + rest or not alone.endswith(rest):
            raise _refuse(tokenizer)
    return turns


def _make_turns(*texts: str) -> list[Turn]:
    roles = ("user", "assistant")
    return [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]


def _render(tokenizer: BaseTokenizer, *turns: Turn, asking: bool = True) -> str:
    return tokenizer.render_chat(turns, taking="a question", opening=asking, **_SETTINGS)


def _cut(tokenizer: BaseTokenizer, text: str, *marks: str) -> list[str]:
    """Cut a text at its marks; raises BaseModelError if it does not have them in this order."""
    pieces = []
    for mark in marks:
        before, found, text = text.partition(mark)
        if not found:
            raise _refuse(tokenizer)
        pieces.append(before)
    return [*pieces, text]


def _refuse(tokenizer: BaseTokenizer) -> BaseModelError:
    return BaseModelError(
        f"{tokenizer.folder}: the chat template does not write every turn in the same way",
        hint="name another base of the same family with --base",
    )
