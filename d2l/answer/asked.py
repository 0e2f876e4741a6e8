"""Adapters that are asked: questions → answers, by any engine. Needs no torch."""

import contextlib
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from d2l.adapters.info import AdapterInfo
from d2l.adapters.parts import Parts, read_parts, read_text
from d2l.answer.chat_prompts import user_turn
from d2l.answer.cite import Answer
from d2l.answer.events import Event, Start, TextPiece
from d2l.answer.flow import answer_turns, never
from d2l.answer.options import AskOptions
from d2l.answer.prompts import AdapterPrompts
from d2l.answer.scope import list_needed
from d2l.answer.whole import Bare, Told, Whole
from d2l.errors import OptionError
from d2l.memory import memory_errors
from d2l.parts.engine import Engine
from d2l.parts.kept import Kept, PartOptions, Turns
from d2l.parts.open import open_kept

_log = logging.getLogger(__name__)
#: Default limit of an answer's tokens: with seats (a few words), and without (sentences, as in the
#: evaluation of SakanaAI/doc-to-lora).
FEW_TOKENS, MANY_TOKENS = 64, 256


Emit = Callable[[str], None]


def discard(text: str) -> None:
    """Stream `text` to nowhere."""


@dataclass
class Asked(AdapterPrompts):
    """An adapter with the engine that runs its base, asked in the prompt stored with the adapter.

    `options` say how it answers. `kept` answers: its parts, or if it has none the `whole` adapter.
    """

    options: AskOptions
    disabled: bool = False
    engine: Engine = field(init=False, repr=False)
    whole: Whole = field(init=False, repr=False)
    kept: Kept = field(init=False, repr=False)

    def activate(self) -> None:
        """Put this adapter into effect on a base that several share."""

    def unload(self) -> None:
        """Take this adapter off a base that others share."""

    def take_parts(self, parts: Parts | None) -> None:
        """Answer with these parts of the adapter from now on; None: with the whole adapter."""
        self.whole = Whole(self, read_text(self.info) if parts is None else parts.records)
        self.kept = self.whole if parts is None else open_kept(parts, self.info)

    def limit_answers(self) -> None:
        """Set the longest answer, if the options do not."""
        if not self.options.max_new_tokens:
            few = self.options.short if self.is_instructed else bool(self.opening)
            most = FEW_TOKENS if few else MANY_TOKENS
            self.options = replace(self.options, max_new_tokens=most)

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Temporarily disable the adapter: the base answers, in its own chat template."""
        before, self.disabled = self.disabled, True
        try:
            yield
        finally:
            self.disabled = before

    def ask(
        self,
        question: str,
        emit: Emit = discard,
        *,
        max_new_tokens: int | None = None,
        temperature: float | None = None,
        page: str | None = None,
    ) -> Answer:
        """Answer one question, in a conversation of its own; returns the text, stripped, a str with
        `place`, `passage`, `supported` and `finish`.

        emit: gets pieces of text as they come. max_new_tokens: of the longest answer; temperature:
        0 is greedy; None: as `options` say (greedy, 64 tokens of trained seats, else 256). page:
        the parts from there answer ("p. 12", a heading, "#3").
        Raises AdapterError where the prompt does not begin with the adapter's opening, and
        OptionError for a page that is not there.
        """
        if max_new_tokens is not None and max_new_tokens < 1:
            raise OptionError(f"max_new_tokens is {max_new_tokens}, expected 1 or more")
        given: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature}
        given = {name: value for name, value in given.items() if value is not None}
        if page is not None:
            given["parts"] = PartOptions(page=page)
            refuse_choice(self.info, given["parts"], chooses=self.kept.chooses)
        options = replace(self.options, **given)
        return self.answer([user_turn(question)], emit, options)

    @memory_errors()
    def answer(
        self, turns: Turns, emit: Emit = discard, options: AskOptions | None = None
    ) -> Answer:
        """Answer the last of several turns, with the passage that carries the answer.

        `options`: None for the model's own. Raises AdapterError and BaseModelError as
        `prompt_turns`, and OptionError for a page that is not there.
        """
        return self._collect(turns, options or self.options, emit)[0]

    def _collect(self, turns: Turns, options: AskOptions, emit: Emit) -> tuple[Answer, int]:
        """Collect an answer, with the number of a document's tokens that did not fit."""
        answer, n_left_out = None, 0
        with contextlib.closing(self.stream(turns, options)) as events:
            for event in events:
                if isinstance(event, TextPiece):
                    emit(event.text)
                elif isinstance(event, Start):
                    n_left_out = event.n_left_out
                else:
                    answer = event.answer
        assert answer is not None
        return answer, n_left_out

    def stream(
        self, turns: Turns, options: AskOptions, is_due: Callable[[], bool] = never
    ) -> Generator[Event]:
        """Answer as `answer_turns` does, by default with as many tokens as `self.options` say."""
        if not turns or not all({"role", "content"} <= turn.keys() for turn in turns):
            raise OptionError("a turn has no role or no content", hint="give dicts with both")
        most = options.max_new_tokens or self.options.max_new_tokens
        return answer_turns(self, turns, replace(options, max_new_tokens=most), is_due)

    def read(self, turns: Turns, options: AskOptions) -> Start:
        """Read a conversation up to the answer's first token, with the parts that it chooses."""
        with contextlib.closing(self.stream(turns, options)) as events:
            start = next(events)
        assert isinstance(start, Start)
        return start

    def pick(self, turns: Turns, options: AskOptions) -> Kept:
        """Pick the parts, the whole adapter, or the base for the answer."""
        if options.document is not None:
            told = Told(self)
            told.document, told.question = options.document, turns[-1]["content"]
            told.n_answer = options.max_new_tokens
            return told
        if self.disabled:
            return Bare(self)
        return self.whole if options.parts.whole else self.kept

    def focus(self, turns: Turns) -> Turns:
        """Leave out the turns that a question to a document does not need."""
        if self.disabled or not self.is_of_documents:
            return turns
        return [turns[n] for n in list_needed(turns)]

    def fit(self, turns: Turns) -> tuple[Turns, int]:
        """Drop the first turns until the base's window holds the others and an answer; returns them
        and the number of dropped turns."""
        limit = self.window - self.options.max_new_tokens - self.kept.count_before(self.opening)
        left = turns
        while len(left) > 1 and len(self.prompt_turns(self.focus(left))) > limit:
            left = left[2:]
        return left, len(turns) - len(left)

    def ask_alone(self, question: str, emit: Emit = discard) -> Answer:
        """Answer with the base alone, in its own chat template."""
        with self.disable_adapter():
            return self.ask(question, emit)

    def ask_with_document(
        self, question: str, document: str, emit: Emit = discard
    ) -> tuple[Answer, int]:
        """Answer with the base and the document in its prompt: (answer, tokens left out).

        A document that does not fit into the base's window is cut at its end.
        """
        options = replace(self.options, document=document)
        return self._collect([user_turn(question)], options, emit)

    def decode(self, ids: Sequence[int], **options: Any) -> str:
        """Decode ids by the loaded tokenizer, a copy of the base's, or by the base's own."""
        own = self.base_tokenizer if self.disabled or self.chat.suspect else self.chat.tokenizer
        return str(own.decode(ids, **options))


def find_parts(info: AdapterInfo, options: PartOptions) -> Parts | None:
    """Open the parts of an adapter; None if it has none, or `options` ask it as a whole. Raises
    OptionError if `options` choose parts and it has none."""
    if options.whole:
        return None
    parts = read_parts(info)
    refuse_choice(info, options, chooses=parts is not None)
    if parts is None and info.provenance is not None and info.provenance.parts_sha256 is not None:
        _log.warning("%s: its parts are gone, so the one memory answers", info.folder)
    return parts


def refuse_choice(info: AdapterInfo, options: PartOptions, *, chooses: bool) -> None:
    """Refuse options that choose among parts where there are none; raises OptionError."""
    if not chooses and (options.count or options.page) is not None:
        raise OptionError(
            f"{info.folder}: has no parts",
            hint="compile the document with --parts, or ask the whole adapter",
        )
