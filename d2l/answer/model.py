"""Adapter + question → answer, through PEFT and the prompt stored with the adapter.

One model is in memory; with the adapter switched off it is the base.
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from d2l.adapters.adapter_paths import find_adapter
from d2l.adapters.info import AdapterInfo, read_info
from d2l.adapters.parts import Parts, read_parts, read_text
from d2l.adapters.peft_folder import AdapterContent, pick_torch_dtype, write_adapter
from d2l.answer.chat_prompts import TokenizerFolder, find_chat, user_turn
from d2l.answer.cite import Answer
from d2l.answer.events import Event, Start, TextPiece
from d2l.answer.flow import answer_turns, never
from d2l.answer.options import AskOptions
from d2l.answer.peft_loading import add_lora, check_alone, load_lora
from d2l.answer.prompts import AdapterPrompts, find_opening
from d2l.answer.scope import list_needed
from d2l.answer.torch_engine import TorchEngine
from d2l.answer.whole import Bare, Told, Whole
from d2l.bases.catalog import find_used
from d2l.bases.devices import pick_device, pick_dtype
from d2l.bases.models import find_base, load_causal
from d2l.errors import AdapterError, OptionError
from d2l.memory import memory_errors
from d2l.parts.kept import Kept, PartOptions, Turns
from d2l.parts.open import open_kept
from d2l.progress import log_time

_log = logging.getLogger(__name__)
#: Default limit of an answer's tokens: with seats (a few words), and without (sentences, as in the
#: evaluation of SakanaAI/doc-to-lora).
FEW_TOKENS, MANY_TOKENS = 64, 256


Emit = Callable[[str], None]


def discard(text: str) -> None:
    """Stream `text` to nowhere."""


@dataclass
class AdaptedModel(AdapterPrompts):
    """A loaded base with an adapter on it, which is asked in the prompt stored with the adapter.

    `model` is the PeftModel, which `engine` runs. `options` say how it answers. One adapter is on
    the model. `kept` answers: its parts, or if it has none the `whole` adapter.
    """

    model: Any = field(repr=False)  # peft.PeftModel
    options: AskOptions
    disabled: bool = False
    engine: TorchEngine = field(init=False, repr=False)
    whole: Whole = field(init=False, repr=False)
    kept: Kept = field(init=False, repr=False)

    @classmethod
    def from_pretrained(
        cls,
        adapter: str | Path | AdapterContent,
        *,
        base: str | None = None,
        device: str = "auto",
        dtype: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
    ) -> "AdaptedModel":
        """Load a base with an adapter on it.

        adapter: a folder, a name on the hub (org/repo[@revision]), or an adapter in memory.
        base: a folder, GGUF file, alias or hub name; None: the base that the adapter names.
        device: "auto", "cpu", "cuda", "cuda:N" or "mps". dtype: of the base, "bf16", "fp16" or
        "fp32"; None: bf16 where it is faster. revision: of the adapter's repository.
        local_files_only: open no socket.

        Raises AdapterError or BaseModelError.
        """
        options = AskOptions(base, device, offline=local_files_only, dtype=dtype)
        if not isinstance(adapter, AdapterContent):
            folder = find_adapter(adapter, revision=revision, local_files_only=local_files_only)
            return cls.load(folder, options)
        with _in_folder(adapter) as folder:
            loaded = cls.load(folder, options)
        loaded.info = replace(loaded.info, folder=Path(adapter.name))
        return loaded

    @classmethod
    @memory_errors()
    def load(cls, adapter: Path, options: AskOptions) -> "AdaptedModel":
        """Load the base and put the adapter of a folder on it; raises D2LError."""
        device = pick_device(options.device)
        info = read_info(adapter)
        check_alone(info)
        parts = find_parts(info, options.parts)
        name = str(info.config.get("base_model_name_or_path") or "")
        if not name and options.base is None:
            raise AdapterError(f"{adapter}: does not name its base", hint="name it with --base")
        given = options.base or find_used(name, info.base_sha256)
        base = find_base(name, override=given, offline=options.offline)
        dtype = pick_dtype(device) if options.dtype is None else pick_torch_dtype(options.dtype)
        model = load_causal(base, device=device, dtype=dtype)
        with log_time(_log, "put the adapter %s on", adapter):
            tuned = load_lora(info, model)
        own = TokenizerFolder(base.folder)
        chat, opening = find_chat(info, own), find_opening(info, parts, model)
        window = int(model.config.get_text_config().max_position_embeddings)
        loaded = cls(info, chat, own, opening, window, tuned, options)
        if not options.max_new_tokens:
            few = options.short if loaded.is_instructed else bool(opening)
            most = FEW_TOKENS if few else MANY_TOKENS
            loaded.options = replace(options, max_new_tokens=most)
        loaded.take_parts(parts)
        return loaded

    def take_parts(self, parts: Parts | None) -> None:
        """Answer with these parts of the adapter from now on; None: with the whole adapter."""
        self.engine = TorchEngine(self.model)
        self.whole = Whole(self, read_text(self.info) if parts is None else parts.records)
        self.kept = self.whole if parts is None else open_kept(parts, self.info)

    def set_adapter(self, adapter: str | Path | AdapterContent) -> None:
        """Replace the adapter by another adapter of the same base; the base stays in memory.

        adapter: as for `from_pretrained`. Raises AdapterError; the old adapter then stays on.
        """
        if isinstance(adapter, AdapterContent):
            with _in_folder(adapter) as folder:
                self.set_adapter(folder)
            self.info = replace(self.info, folder=Path(adapter.name))
            return
        folder = find_adapter(adapter, local_files_only=self.options.offline)
        model = self.model
        (present,) = model.peft_config
        name = "other" if present == "default" else "default"
        try:
            other = add_adapter(self, folder, name)
        except AdapterError:
            model.set_adapter(present)
            raise
        model.set_adapter(name)
        model.delete_adapter(present)
        self.info, self.chat, self.opening = other.info, other.chat, other.opening
        self.engine, self.whole, self.kept = other.engine, other.whole, other.kept
        self.whole.prompts = self

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


@contextlib.contextmanager
def _in_folder(adapter: AdapterContent) -> Iterator[Path]:
    """Write an adapter in memory to a temporary folder: tokenizers are only read from files."""
    with tempfile.TemporaryDirectory(prefix="d2l-adapter-") as folder:
        yield write_adapter(adapter, Path(folder, "adapter.lora"))


def add_adapter(adapted: AdaptedModel, adapter: Path, name: str) -> AdaptedModel:
    """Load another adapter of the same base beside those on the model, as `name`.

    Both values share the model: set its active adapter before you ask.
    """
    info, model = read_info(adapter), adapted.model
    parts = find_parts(info, PartOptions())  # first: an adapter with an error stays off the model
    chat, opening = find_chat(info, adapted.base), find_opening(info, parts, model)
    add_lora(info, model, name)
    added = replace(adapted, info=info, chat=chat, opening=opening)
    added.take_parts(parts)
    return added


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
