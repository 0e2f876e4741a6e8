"""What a question writer is given: a passage, and behind it the words around an answer, marked.

Text in, token ids out. The passage stands first, so that a model reads it once for all questions
about it; the answer is marked behind it, since the same words may stand in a passage twice.
"""

from dataclasses import dataclass

from d2l.bases.chat import Chat

#: Words kept on each side of the answer behind the passage.
_AROUND = 12
_OPEN, _CLOSE = "[[", "]]"
_TASK = '\n\nAsk a question that the marked part of this text answers: "{marked}"'


@dataclass(frozen=True)
class Span:
    """Characters [start, stop) of a text, one of its answers."""

    start: int
    stop: int

    def of(self, text: str) -> str:
        """The answer's own words."""
        return text[self.start : self.stop]


@dataclass(frozen=True)
class WriterPrompts:
    """Prompts of a question writer in its base's own chat."""

    chat: Chat

    def passage(self, text: str) -> tuple[int, ...]:
        """Token ids that all prompts about a passage begin with."""
        before, _ = self.chat.ask_ends()
        return (*before, *self.chat.tokenizer.encode(text))

    def mark(self, text: str, span: Span) -> tuple[int, ...]:
        """Token ids that follow: the task, the words around the answer, the chat's own end."""
        _, after = self.chat.ask_ends()
        task = _TASK.format(marked=mark(text, span))
        return (*self.chat.tokenizer.encode(task), *after)

    def question(self, text: str) -> tuple[int, ...]:
        """Token ids of a question as the writer is to write it."""
        return (*self.chat.tokenizer.encode(text), self.chat.end_token)


def mark(text: str, span: Span) -> str:
    """The words around a span on one line, the span in double brackets."""
    left = text[: span.start].split()[-_AROUND:]
    right = text[span.stop :].split()[:_AROUND]
    # White space next to the span is kept: "(1931)" is no "( 1931 )".
    before = " " if left and text[span.start - 1].isspace() else ""
    after = " " if right and text[span.stop].isspace() else ""
    inside = " ".join(span.of(text).split())
    return f"{' '.join(left)}{before}{_OPEN}{inside}{_CLOSE}{after}{' '.join(right)}"
