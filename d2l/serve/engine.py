"""One base in memory, and adapters put on it as requests name them: the only module here that
knows how adapters are loaded and prompts are made.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from d2l.errors import AdapterError, BaseModelError, D2LError
from d2l.inference.adapted_model import (
    AdaptedModel,
    AskOptions,
    add_adapter,
    remove_adapter,
)
from d2l.inference.prompt_styles import WORDINGS, Turns
from d2l.serve.failures import RequestError
from d2l.serve.generation import Ending, Piece, Sampling, generate
from d2l.serve.library import Entry


@dataclass(frozen=True)
class Order:
    """What is to be answered, by an adapter or (`entry` None) by the base.

    Either `turns`, with a `document` for the prompt of the base, or `text` to go on with.
    """

    entry: Entry | None
    sampling: Sampling
    turns: Turns | None = None
    document: str | None = None
    text: str = ""


@dataclass(frozen=True)
class Start:
    """The prompt is made: its length, and how many tokens of the document did not fit."""

    n_prompt: int
    n_left_out: int = 0


@dataclass
class _Worn:
    """A loaded adapter: the name that PEFT knows it by, and what asks it."""

    entry: Entry
    name: str
    adapted: AdaptedModel


class Engine:
    """Answers one order at a time; not for several threads at once.

    `n_kept` adapters stay in memory; the one unused for longest goes first.
    """

    def __init__(self, entries: Iterable[Entry], options: AskOptions, *, n_kept: int) -> None:
        """Load the base with the first adapter that can be loaded; raises D2LError."""
        self._n_kept = n_kept
        self._n_loaded = 0
        self._worn: list[_Worn] = []  # the one used last at the end
        first, adapted = _load_first(entries, options)
        (name,) = adapted.model.peft_config
        self._worn.append(_Worn(first, name, adapted))
        #: Tokens that prompt and answer may have together.
        self.window = int(adapted.model.config.max_position_embeddings)

    def answer(
        self, order: Order, emit: Callable[[Start | Piece], None], due: Callable[[], bool]
    ) -> Ending:
        """Answer; the start and then pieces of text go to `emit`. Raises RequestError."""
        with self._wearing(order.entry) as adapted:
            ids, n_left_out = _make_prompt(adapted, order)
            room = self.window - len(ids)
            if room < 1:
                raise RequestError(
                    400,
                    f"the prompt has {len(ids):,} tokens, and this base reads {self.window:,}",
                    code="context_length_exceeded",
                    param="messages" if order.turns is not None else "prompt",
                )
            emit(Start(len(ids), n_left_out))
            sampling = order.sampling.bounded(room)
            return generate(
                adapted.model, adapted.base_tokenizer, ids, sampling, emit=emit, due=due
            )

    @contextlib.contextmanager
    def _wearing(self, entry: Entry | None) -> Iterator[AdaptedModel]:
        """The base with an adapter on, or alone."""
        if entry is not None:
            yield self._put_on(entry)
            return
        adapted = self._worn[-1].adapted
        with adapted.model.disable_adapter():
            yield adapted

    def _put_on(self, entry: Entry) -> AdaptedModel:
        """The adapter, loaded if it is not or if its files have changed, and active."""
        found = next((worn for worn in self._worn if worn.entry == entry), None)
        if found is None:
            found = self._load(entry)
        else:
            self._worn.remove(found)
            self._worn.append(found)
        found.adapted.model.set_adapter(found.name)
        return found.adapted

    def _load(self, entry: Entry) -> _Worn:
        self._n_loaded += 1
        name = f"adapter-{self._n_loaded}"  # PEFT's names may hold no dots
        try:
            adapted = add_adapter(self._worn[-1].adapted, entry.folder, name)
        except D2LError as error:
            hint = f" ({error.hint})" if error.hint else ""
            raise RequestError(500, f"{error.message}{hint}", code="adapter_error") from error
        worn = _Worn(entry, name, adapted)
        self._worn.append(worn)
        adapted.model.set_adapter(name)
        stale = [old for old in self._worn[:-1] if old.entry.folder == entry.folder]
        surplus = [old for old in self._worn[:-1] if old not in stale]
        surplus = surplus[: max(len(surplus) + 1 - self._n_kept, 0)]
        for old in (*stale, *surplus):
            remove_adapter(adapted, old.name)
            self._worn.remove(old)
        return worn


def _load_first(entries: Iterable[Entry], options: AskOptions) -> tuple[Entry, AdaptedModel]:
    """The first adapter that can be loaded; with none, what is wrong with the first one."""
    wrong: AdapterError | None = None
    for entry in entries:
        try:
            return entry, AdaptedModel.load(entry.folder, options)
        except AdapterError as error:  # whoever asks this one is told
            wrong = wrong or error
    raise wrong or AdapterError("there is no adapter to serve")


def _make_prompt(adapted: AdaptedModel, order: Order) -> tuple[list[int], int]:
    """Ids, and how many of the document's tokens did not fit."""
    alone = order.entry is None
    try:
        if order.turns is None:
            return _continue(adapted, order.text, alone=alone), 0
        if order.document is not None:
            question = order.turns[-1]["content"]
            return adapted.prompt_about(
                order.document, question, WORDINGS["plain"], n_answer=order.sampling.max_tokens
            )
        return _render(adapted, order.turns, alone=alone), 0
    except BaseModelError as error:  # no chat template, or one that refuses these messages
        hint = f" ({error.hint})" if error.hint else ""
        raise RequestError(400, f"{error.message}{hint}", param="messages") from error
    except AdapterError as error:
        raise RequestError(500, error.message, code="adapter_error") from error


def _render(adapted: AdaptedModel, turns: Turns, *, alone: bool) -> list[int]:
    """The prompt of a conversation in the adapter's own template, which puts a system message
    behind the opening; in the base's where there is none."""
    try:
        return adapted.prompt_turns(turns, alone=alone)
    except BaseModelError:  # Gemma's template, for one, refuses system turns: their text goes first
        if len(turns) < 2 or (turns[0]["role"], turns[1]["role"]) != ("system", "user"):
            raise
        text = f"{turns[0]['content']}\n\n{turns[1]['content']}"
        return adapted.prompt_turns([{"role": "user", "content": text}, *turns[2:]], alone=alone)


def _continue(adapted: AdaptedModel, text: str, *, alone: bool) -> list[int]:
    """The ids of a text to go on with, behind the adapter's opening if it does not begin so."""
    n = len(adapted.opening)
    if alone or not n:
        ids = list(adapted.base_tokenizer(text)["input_ids"])  # with what its texts begin with
    elif tuple((ids := adapted.encode(text))[:n]) != adapted.opening:
        ids = (
            adapted.prompt_turns([{"role": "system", "content": ""}], alone=False, asks=False) + ids
        )
    if not ids:
        raise RequestError(400, "the prompt is empty", param="prompt")
    return ids
