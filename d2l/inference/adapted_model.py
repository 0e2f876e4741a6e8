"""Adapter + question → answer, through PEFT and the prompt stored with the adapter.

One model is in memory; with the adapter switched off it is the base.
"""

import contextlib
import copy
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from d2l.adapters.find import find_adapter
from d2l.adapters.info import CHAT_TEMPLATE, PROVENANCE, AdapterInfo, read_info
from d2l.adapters.parts import read_parts
from d2l.adapters.peft_folder import AdapterContent, pick_torch_dtype, write_adapter
from d2l.bases.activations import cache_keyword
from d2l.bases.chat import find_end
from d2l.bases.devices import pick_device, pick_dtype
from d2l.bases.models import find_base, load_causal
from d2l.bases.quiet import quiet_transformers
from d2l.datasets.silence import SILENCE
from d2l.errors import AdapterError, BaseModelError
from d2l.inference.chat_prompts import (
    ChatPrompts,
    TokenizerFolder,
    Turns,
    find_chat,
    fit_document,
    publish,
    user_turn,
)
from d2l.inference.forward import extend
from d2l.inference.parts.choose import Choice, Citation, PartChooser, PartOptions
from d2l.inference.parts.read import PartReader, Prompt
from d2l.inference.peft_loading import check_alone, put_beside, put_on
from d2l.inference.streaming import Emit, Streamer, discard
from d2l.memory import memory_errors
from d2l.progress import log_time

_log = logging.getLogger(__name__)
#: Tokens of the longest answer by default: with seats, which answer in a few words, and without, in
#: sentences (as in the evaluation of SakanaAI/doc-to-lora).
FEW_TOKENS, MANY_TOKENS = 64, 256
#: Below it, sampling draws the likeliest token anyway, and logits divided by it overflow.
LEAST_TEMPERATURE = 1e-3


@dataclass(frozen=True)
class AskOptions:
    """How to answer; `temperature` 0, or below `LEAST_TEMPERATURE`, is greedy. `max_new_tokens` 0:
    as the network's answers need. `published`: in the public evaluation's prompt (`publish`)."""

    base: str | None = None
    device: str = "auto"
    max_new_tokens: int = 0
    temperature: float = 0.0
    offline: bool = False
    dtype: str | None = None  # of the base; None: as the device needs
    parts: PartOptions = field(default_factory=PartOptions)  # of adapters that have parts
    published: bool = False


class Answer(NamedTuple):
    """An answer's text, and the parts that were asked: its source first, or where none answered the
    closest; none where one adapter of everything answered."""

    text: str
    citations: tuple[Citation, ...] = ()


@dataclass
class AdaptedModel:
    """A loaded base with an adapter on it, which is asked in the prompt stored with the adapter.

    `model` is the PeftModel. `options` say how it answers.
    """

    info: AdapterInfo
    model: Any = field(repr=False)  # peft.PeftModel
    chat: ChatPrompts = field(repr=False)  # with the adapter's own chat template, where it has one
    base: TokenizerFolder = field(repr=False)
    options: AskOptions
    opening: tuple[int, ...] = field(default=(), repr=False)
    disabled: bool = False
    parts: PartChooser | None = field(default=None, repr=False)  # of an adapter that kept its parts
    reader: PartReader | None = field(default=None, repr=False)
    _opening_cache: Any = field(default=None, init=False, repr=False)

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
        "fp32"; None: bf16 on CUDA, else fp32. revision: of the adapter's repository.
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
        name = str(info.config.get("base_model_name_or_path") or "")
        if not name and options.base is None:
            raise AdapterError(f"{adapter}: does not name its base", hint="name it with --base")
        base = find_base(name, override=options.base, offline=options.offline)
        dtype = pick_dtype(device) if options.dtype is None else pick_torch_dtype(options.dtype)
        model = load_causal(base, device=device, dtype=dtype)
        with log_time(_log, "put the adapter %s on", adapter):
            tuned = put_on(info, model)
        own = TokenizerFolder(base.folder)
        chat = find_chat(info, own)
        parts = (None, None) if options.parts.whole else find_parts(info, tuned, own)
        opening = _find_opening(info, model)
        if options.published:
            chat = publish(chat, base, opening)
        if not options.max_new_tokens:
            options = replace(options, max_new_tokens=FEW_TOKENS if opening else MANY_TOKENS)
        return cls(info, tuned, chat, own, options, opening, False, *parts)

    @property
    def base_tokenizer(self) -> Any:
        """The base's own transformers tokenizer; raises BaseModelError."""
        return self.base.tokenizer

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
        self.parts, self.reader, self._opening_cache = other.parts, other.reader, None

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Inside, `ask` is answered by the base alone, in its own chat template."""
        before, self.disabled = self.disabled, True
        try:
            with self.model.disable_adapter():
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
    ) -> str:
        """Answer one question, in a conversation of its own; the answer's text, stripped.

        emit: gets pieces of text as they come. max_new_tokens: of the longest answer; temperature:
        0 is greedy; None: as `options` say (greedy, 64 tokens with seats, else 256).
        Raises AdapterError where the prompt does not begin with the adapter's opening.
        """
        given: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature}
        given = {name: value for name, value in given.items() if value is not None}
        options = replace(self.options, **given)
        return self.answer([user_turn(question)], emit, options).text

    @memory_errors()
    def answer(
        self, turns: Turns, emit: Emit = discard, options: AskOptions | None = None
    ) -> Answer:
        """Answer the last of several turns, and cite the part that the answer came from.

        `options`: None for the model's own. Raises AdapterError and BaseModelError as
        `prompt_turns`, and AdapterError for a page that is not there.
        """
        options = options or self.options
        with self.reading(turns, options.parts) as prompt:
            choice = prompt.choice
            if choice is not None and not choice.is_answered:
                emit(SILENCE)
                return Answer(SILENCE, self.cite("", choice) or ())
            text = self._generate(prompt.ids, emit, options, prompt.cache)
        return Answer(text, self.cite(text, choice) or ())

    def cite(self, text: str, choice: Choice | None) -> tuple[Citation, ...] | None:
        """The parts of an answer, as `PartChooser.cite`; None where no parts were chosen."""
        if choice is None or self.parts is None or self.reader is None:
            return None
        return self.parts.cite(choice, text if self.reader.joins else None)

    @contextlib.contextmanager
    def reading(self, turns: Turns, options: PartOptions) -> Iterator[Prompt]:
        """A block in which the model reads the parts that the last turn's question chooses, or with
        `options.whole`, or without parts, the adapter of everything."""
        if self.parts is None or self.reader is None or options.whole or self.disabled:
            yield Prompt(self.prompt_turns(turns, alone=self.disabled), self._read_opening())
            return
        choice = self.parts.choose(turns, options, usual=self.reader.usual)
        rest = self.prompt_turns(turns)[len(self.opening) :]
        if not choice.is_answered:
            yield Prompt(rest, choice=choice)
            return
        with self.reader.reading(choice, rest) as prompt:
            yield prompt

    @torch.inference_mode()
    def _read_opening(self) -> Any:
        """A cache of the opening, which every prompt of the adapter begins with: the model reads
        it for the first question only. None without an opening, and for the base alone."""
        if self.opening and not self.disabled and self._opening_cache is None:
            ids = torch.tensor([self.opening], device=self.model.device)
            mask = torch.ones_like(ids)
            self._opening_cache, _ = extend(self.model, ids, mask=mask, cache=None)
        return None if self.disabled else copy.deepcopy(self._opening_cache)

    def ask_alone(self, question: str, emit: Emit = discard) -> str:
        """Answer with the base alone, in its own chat template."""
        with self.disable_adapter():
            return self.ask(question, emit)

    def ask_with_document(
        self, question: str, document: str, emit: Emit = discard
    ) -> tuple[str, int]:
        """Answer with the base and the document in its prompt: (answer, tokens left out).

        A document that does not fit into the base's window is cut at its end.
        """
        n_most = self.options.max_new_tokens
        prompt, left_out = self.prompt_about(document, question, n_answer=n_most)
        with self.disable_adapter():
            return self._generate(prompt, emit, self.options), left_out

    def prompt(self, question: str) -> list[int]:
        """Ids of the prompt of one question to the adapter; raises as `prompt_turns` does."""
        return self.prompt_turns([user_turn(self.chat.word(question))])

    def prompt_turns(self, turns: Turns, *, alone: bool = False) -> list[int]:
        """Ids of a conversation's prompt in the adapter's template, or with `alone` in the base's.
        Raises BaseModelError where the template refuses these turns, and AdapterError where the
        prompt does not begin with the adapter's opening."""
        ids = (self._base_chat if alone else self.chat).encode(turns)
        if not alone and tuple(ids[: len(self.opening)]) != self.opening:
            raise AdapterError(
                f"{self.info.folder}: the prompt does not begin with the adapter's opening, "
                "so its memory cannot be read",
                hint=f"{CHAT_TEMPLATE} was changed, or the base's tokenizer is another one",
            )
        return ids

    def prompt_alone(self, question: str) -> list[int]:
        """Ids of the base's own prompt for the question."""
        return self._base_chat.encode([user_turn(self.chat.word(question))])

    def prompt_about(self, document: str, question: str, *, n_answer: int) -> tuple[list[int], int]:
        """Ids of the base's prompt with the document in it, and how many of the document's tokens
        are left out so that `n_answer` more tokens fit into the base's window."""
        chat = self._base_chat
        with quiet_transformers():  # it warns of texts longer than the window
            encoded = self.base_tokenizer(
                document, add_special_tokens=False, return_offsets_mapping=True
            )
        return fit_document(
            document,
            [start for start, _ in encoded["offset_mapping"]],
            lambda text: chat.encode([user_turn(f"{text}\n\n{chat.word(question)}")]),
            window=int(self.model.config.max_position_embeddings) - n_answer,
        )

    def encode(self, text: str) -> list[int]:
        """Ids of a text by the base's tokenizer, without special tokens."""
        with quiet_transformers():  # it warns of texts longer than the window
            return list(self.base_tokenizer(text, add_special_tokens=False)["input_ids"])

    def end_token(self) -> int:
        """The token that ends an answer in the base's chat template, else in its texts; raises
        BaseModelError where neither names a token."""
        end = find_end(self.base_tokenizer)
        if end is None:
            raise BaseModelError(
                f"{self.base_tokenizer.name_or_path}: does not say what ends an answer",
                hint="name the base's instruction-tuned version with --base",
            )
        return end

    @property
    def _base_chat(self) -> ChatPrompts:
        return ChatPrompts(self.base_tokenizer, published=self.chat.published)

    def cache_argument(self, cache: Any) -> dict[str, Any]:
        """The argument of `model.generate` that hands it a prompt's cache, if there is any."""
        return {} if cache is None else {cache_keyword(self.model.get_base_model()): cache}

    def _generate(self, ids: list[int], emit: Emit, options: AskOptions, cache: Any = None) -> str:
        """Continue a prompt, whose beginning may stand in a cache already."""
        prompt = torch.tensor([ids], device=self.model.device)
        sampling = options.temperature >= LEAST_TEMPERATURE
        decoder = self.chat.tokenizer  # loaded already; a copy of the base's
        if self.disabled or self.chat.suspect:
            decoder = self.base_tokenizer
        streamer = Streamer(decoder, emit)
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=prompt,
                attention_mask=torch.ones_like(prompt),
                max_new_tokens=options.max_new_tokens or self.options.max_new_tokens,
                do_sample=sampling,
                temperature=options.temperature if sampling else None,
                top_p=None,
                top_k=None,
                streamer=streamer,
                **self.cache_argument(cache),
            )
        answer = decoder.decode(output[0, len(ids) :], skip_special_tokens=True)
        return str(answer).strip()


@contextlib.contextmanager
def _in_folder(adapter: AdapterContent) -> Iterator[Path]:
    """A block with an adapter in memory as a folder: tokenizers are only read from files."""
    with tempfile.TemporaryDirectory(prefix="d2l-adapter-") as folder:
        yield write_adapter(adapter, Path(folder, "adapter.lora"))


def add_adapter(adapted: AdaptedModel, adapter: Path, name: str) -> AdaptedModel:
    """Load another adapter of the same base beside those on the model, as `name`.

    Both values share the model: set its active adapter before you ask.
    """
    info, model = read_info(adapter), adapted.model
    chat, opening = find_chat(info, adapted.base), _find_opening(info, model)
    # Before: what it refuses must not stay on the model.
    chooser, reader = find_parts(info, model, adapted.base)
    put_beside(info, model, name)
    return replace(adapted, info=info, chat=chat, opening=opening, parts=chooser, reader=reader)


def find_parts(
    info: AdapterInfo, tuned: Any, base: TokenizerFolder
) -> tuple[PartChooser | None, PartReader | None]:
    """What chooses and reads the parts of an adapter; nothing for one that has none."""
    parts = read_parts(info)
    if parts is None:
        if info.provenance is not None and info.provenance.parts_sha256 is not None:
            _log.warning("%s: its parts are gone, so the one memory answers", info.folder)
        return None, None
    silence = base.tokenizer(SILENCE, add_special_tokens=False)["input_ids"][0]
    return PartChooser(parts), PartReader(info, parts, tuned, silence)


def _find_opening(info: AdapterInfo, model: Any) -> tuple[int, ...]:
    """Ids that prompts must begin with; none for other networks and other tools."""
    opening = info.provenance.prompt.opening if info.provenance is not None else None
    most = int(model.config.get_text_config().vocab_size)
    if opening is not None and max(opening.ids, default=0) >= most:
        raise AdapterError(
            f"{info.folder / PROVENANCE}: the opening has token {max(opening.ids)}, and the base "
            f"{most:,} tokens",
            hint="the file is damaged, or --base names another base than the adapter's",
        )
    return () if opening is None else opening.ids
