"""Answers without parts: by the whole adapter, or by the base alone or with a document."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from d2l.adapters.parts import PartRecord
from d2l.parts.engine import Cache, Engine, Judged
from d2l.parts.judging import Choice
from d2l.parts.kept import N_BANNED, Context, Kept, Prompt, PromptWriter, Question, Turns

if TYPE_CHECKING:
    from d2l.answer.prompts import AdapterPrompts
    from d2l.parts.kept import PartOptions


@dataclass
class Whole(Kept):
    """The whole adapter; the model reads its opening for the first question only."""

    prompts: "AdapterPrompts"
    records: tuple[PartRecord, ...] = ()
    chooses: ClassVar[bool] = False
    _opening: Cache | None = field(default=None, init=False)

    def route(self, question: Question, options: "PartOptions", named: Sequence[int]) -> Choice:
        """Choose nothing: the adapter answers."""
        del question, options, named
        return Choice(named=True)

    def write(self, writer: PromptWriter, judged: Turns, full: Turns) -> Prompt:
        """Write the prompt behind the opening."""
        del judged
        return Prompt([], writer.write_behind(full))

    def settle(
        self, engine: Engine, choice: Choice, verdict: Choice, prompt: Prompt, read: list[Judged]
    ) -> Context:
        """Put the opening into a cache. A task has no text that an answer could be missing from."""
        del choice, verdict, read
        if self._opening is None:
            self._opening = engine.read(self.prompts.opening, "whole")
        banned = prompt.refusal[:N_BANNED] if self.prompts.is_task else ()
        return Context(engine.copy(self._opening), prompt.full, banned)

    def count_read(self, choice: Choice) -> int:
        """Count no part."""
        del choice
        return 0


@dataclass
class Bare(Whole):
    """The base without the adapter, asked in its own chat template."""

    def write(self, writer: PromptWriter, judged: Turns, full: Turns) -> Prompt:
        """Write the base's own prompt."""
        del writer, judged
        return Prompt([], self.prompts.prompt_turns(full, alone=True))

    def settle(
        self, engine: Engine, choice: Choice, verdict: Choice, prompt: Prompt, read: list[Judged]
    ) -> Context:
        """Begin with nothing read."""
        del choice, verdict, read
        return Context(engine.read((), "none"), prompt.full)


@dataclass
class Told(Bare):
    """The base with a document in its prompt, cut at its end if `n_answer` tokens do not fit."""

    document: str = ""
    question: str = ""
    n_answer: int = 0

    def write(self, writer: PromptWriter, judged: Turns, full: Turns) -> Prompt:
        """Write the document before the question."""
        del writer, judged, full
        ids, n_left_out = self.prompts.prompt_about(
            self.document, self.question, n_answer=self.n_answer
        )
        return Prompt([], ids, n_left_out=n_left_out)
