"""Adapter + question → answer, through PEFT and the prompt stored with the adapter.

One model is in memory; with the adapter switched off it is the base.
"""

import contextlib
import copy
import logging
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from transformers import DynamicCache, TextStreamer

from d2l.adapters.find import find_adapter
from d2l.adapters.info import AdapterInfo, read_info
from d2l.adapters.parts import PART_END, PartRecord, Parts, read_parts, read_text
from d2l.adapters.peft_folder import AdapterContent, pick_torch_dtype, write_adapter
from d2l.bases.activations import cache_keyword
from d2l.bases.catalog import find_used
from d2l.bases.devices import pick_device, pick_dtype
from d2l.bases.models import find_base, load_causal
from d2l.datasets.silence import IN_FULL, NOT_FOUND, SILENCE, TOPICS, Masked
from d2l.errors import AdapterError, OptionError
from d2l.inference.adapter_prompts import AdapterPrompts, find_opening
from d2l.inference.chat_prompts import TokenizerFolder, Turns, find_chat, user_turn
from d2l.inference.forward import extend
from d2l.inference.options import LEAST_TEMPERATURE, AskOptions
from d2l.inference.parts.answer import Answer, Finish, explain_whole
from d2l.inference.parts.asked import join_questions, list_needed
from d2l.inference.parts.choose import Choice, PartChooser, PartOptions
from d2l.inference.parts.read import N_BANNED, PartPrompt, PartReader
from d2l.inference.peft_loading import check_alone, put_beside, put_on
from d2l.memory import memory_errors
from d2l.progress import log_time

_log = logging.getLogger(__name__)
#: Tokens of the longest answer by default: with seats, which answer in a few words, and without, in
#: sentences (as in the evaluation of SakanaAI/doc-to-lora).
FEW_TOKENS, MANY_TOKENS = 64, 256


Emit = Callable[[str], None]


def discard(text: str) -> None:
    """Stream `text` to nowhere."""


class Streamer(TextStreamer):
    """Streamer that hands whole words to a function instead of printing them."""

    def __init__(self, tokenizer: Any, emit: Emit) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._emit = emit

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:  # noqa: ARG002
        """Receive text that no later token can change."""
        if text:
            self._emit(text)


@dataclass
class AdaptedModel(AdapterPrompts):
    """A loaded base with an adapter on it, which is asked in the prompt stored with the adapter.

    `model` is the PeftModel. `options` say how it answers. One adapter is on the model.
    """

    model: Any = field(repr=False)  # peft.PeftModel
    options: AskOptions
    disabled: bool = False
    parts: PartChooser | None = field(default=None, repr=False)  # of an adapter that kept its parts
    reader: PartReader | None = field(default=None, repr=False)
    texts: tuple[PartRecord, ...] = field(default=(), repr=False)  # of all chunks
    _opening_cache: DynamicCache | None = field(default=None, init=False, repr=False)

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
            tuned = put_on(info, model)
        own = TokenizerFolder(base.folder)
        chat, opening = find_chat(info, own), find_opening(info, parts, model)
        window = int(model.config.get_text_config().max_position_embeddings)
        loaded = cls(info, chat, own, opening, window, tuned, options)
        if not options.max_new_tokens:
            few = options.short if loaded.is_instructed else bool(opening)
            most = FEW_TOKENS if few else MANY_TOKENS
            loaded.options = replace(options, max_new_tokens=most)
        loaded._take_parts(parts)
        return loaded

    def _take_parts(self, parts: Parts | None) -> None:
        """Choose and read these parts of the adapter from now on; None: ask it as a whole."""
        self.parts = self.reader = None
        self.texts = read_text(self.info) if parts is None else parts.records
        if parts is not None:
            self.parts = PartChooser(parts)
            refusal = self.encode(SILENCE)[: self.parts.pick_judging(short=True).n_refusal]
            self.reader = PartReader(self.info, parts, self.model, refusal)

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
        self.parts, self.reader, self.texts = other.parts, other.reader, other.texts
        self._opening_cache = None

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Temporarily disable the adapter: the base answers, in its own chat template."""
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
            refuse_choice(self.info, self.parts, given["parts"])
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
        options = options or self.options
        if not turns or not all({"role", "content"} <= turn.keys() for turn in turns):
            raise OptionError("a turn has no role or no content", hint="give dicts with both")
        with self.reading(turns, options) as prompt:
            choice = prompt.choice
            if choice is not None and not choice.is_answered:
                emit(NOT_FOUND)
                return self.explain(turns, SILENCE, "stop", choice)
            text, finish = self._generate(prompt, emit, options)
        return self.explain(turns, text, finish, choice)

    def explain(self, turns: Turns, text: str, finish: Finish, choice: Choice | None) -> Answer:
        """Name the passage and the parts that an answer to the last turn came from."""
        question = join_questions(turns)
        if self.disabled or (choice is None and not self.texts):
            return Answer(text, finish)
        if choice is None or self.parts is None or self.reader is None:
            return explain_whole(question, text, self.texts, finish)
        n_read = len(choice.indices) if self.reader.joins else 0
        return self.parts.explain(choice, question, text, finish, n_read=n_read)

    def focus(self, turns: Turns) -> Turns:
        """Leave out the turns that a question to a document does not need."""
        provenance = self.info.provenance
        if self.disabled or provenance is None or not provenance.inputs:
            return turns
        return [turns[n] for n in list_needed(turns)]

    def fit(self, turns: Turns) -> tuple[Turns, int]:
        """Drop the first turns until the base's window holds the others and an answer; returns them
        and the number of dropped turns."""
        limit = self.window - self.options.max_new_tokens
        if self.parts is not None and (opening := self.parts.parts.index.opening) is not None:
            # A part has more seats than its share in the whole.
            before = len(opening.ids) if not opening.seats else 1
            limit -= max(before + self.parts.most_tokens - len(self.opening), 0)
        left = turns
        while len(left) > 1 and len(self.prompt_turns(self.focus(left))) > limit:
            left = left[2:]
        return left, len(turns) - len(left)

    @contextlib.contextmanager
    def reading(self, turns: Turns, options: AskOptions) -> Iterator[PartPrompt]:
        """Let the model read the parts that the last question chooses; without parts, or with
        `options.parts.whole`, the whole adapter is on."""
        turns = self.focus(turns)
        if self.parts is None or self.reader is None or options.parts.whole or self.disabled:
            asked, provenance = self.complete(turns, options), self.info.provenance
            ids = self.prompt_turns(asked, alone=self.disabled)
            is_task = provenance is not None and provenance.description is not None
            banned = self.encode(SILENCE)[:N_BANNED] if is_task and not self.disabled else ()
            yield PartPrompt(ids, self._read_opening(), banned=tuple(banned))
            return
        choice = self.parts.choose(turns, options.parts, short=options.short)
        index = self.parts.parts.index
        whole = [n for n in choice.indices if self.texts[n].is_overview]
        alone = choice.together and len(choice.indices) == 1  # a chapter: all of it repeats it
        asked = self.complete(turns, options, TOPICS if whole else IN_FULL * (not alone))
        # In few words an answer is the refusal or it is not.
        judged = self.complete(turns, replace(options, short=True))
        (lead, rest), (_, full) = (self.prompt_behind_parts(t, index) for t in (judged, asked))
        if index.n_end and not options.short:  # parts are read without their ends
            full = [*self.encode(PART_END), *full]
        if not choice.is_answered:
            yield PartPrompt(rest, choice=choice)
            return
        with self.reader.reading(choice, rest, lead, full) as prompt:
            yield prompt

    @torch.inference_mode()
    def _read_opening(self) -> DynamicCache | None:
        """Copy the cache of the adapter's opening, which the model reads for the first question
        only. None without an opening, and for the base alone."""
        if self.opening and not self.disabled and self._opening_cache is None:
            ids = torch.tensor([self.opening], device=self.model.device)
            mask = torch.ones_like(ids)
            self._opening_cache, _ = extend(self.model, ids, mask=mask, cache=None)
        return None if self.disabled else copy.deepcopy(self._opening_cache)

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
        n_most = self.options.max_new_tokens
        prompt, left_out = self.prompt_about(document, question, n_answer=n_most)
        with self.disable_adapter():
            return Answer(*self._generate(PartPrompt(prompt), emit, self.options)), left_out

    def prompt_arguments(self, prompt: PartPrompt) -> dict[str, Any]:
        """Arguments of `model.generate` for a prompt's cache, and for ids that it bans."""
        given: dict[str, Any] = {"bad_words_ids": [list(prompt.banned)]} if prompt.banned else {}
        if prompt.cache is not None:
            given[cache_keyword(self.model.get_base_model())] = prompt.cache
        return given

    def is_end(self, token: int) -> bool:
        """True for a token that ends an answer."""
        ends = self.model.generation_config.eos_token_id  # None, a token or a list of tokens
        return token in (ends if isinstance(ends, list) else [ends])

    def _generate(self, prompt: PartPrompt, emit: Emit, options: AskOptions) -> tuple[str, Finish]:
        """Continue a prompt; its beginning may be in a cache. Returns the text, stripped."""
        ids = torch.tensor([prompt.ids], device=self.model.device)
        sampling = options.temperature >= LEAST_TEMPERATURE
        decoder = self.chat.tokenizer  # loaded already; a copy of the base's
        if self.disabled or self.chat.suspect:
            decoder = self.base_tokenizer
        masked = Masked(emit, str)
        streamer = Streamer(decoder, masked.take)
        with torch.inference_mode():
            output = self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=options.max_new_tokens or self.options.max_new_tokens,
                do_sample=sampling,
                temperature=options.temperature if sampling else None,
                top_p=None,
                top_k=None,
                streamer=streamer,
                **self.prompt_arguments(prompt),
            )
        masked.end(NOT_FOUND)
        answer = decoder.decode(output[0, len(prompt.ids) :], skip_special_tokens=True)
        return str(answer).strip(), "stop" if self.is_end(int(output[0, -1])) else "length"


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
    put_beside(info, model, name)
    added = replace(adapted, info=info, chat=chat, opening=opening)
    added._take_parts(parts)
    return added


def find_parts(info: AdapterInfo, options: PartOptions) -> Parts | None:
    """Open the parts of an adapter; None if it has none, or `options` ask it as a whole. Raises
    OptionError if `options` choose parts and it has none."""
    if options.whole:
        return None
    parts = read_parts(info)
    refuse_choice(info, parts, options)
    if parts is None and info.provenance is not None and info.provenance.parts_sha256 is not None:
        _log.warning("%s: its parts are gone, so the one memory answers", info.folder)
    return parts


def refuse_choice(info: AdapterInfo, parts: object | None, options: PartOptions) -> None:
    """Refuse options that choose among parts where there are none; raises OptionError."""
    if parts is None and (options.count or options.page) is not None:
        raise OptionError(
            f"{info.folder}: has no parts",
            hint="compile the document with --parts, or ask the whole adapter",
        )
