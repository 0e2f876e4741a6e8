"""Questions → ids of the prompts of an adapter and of its base; needs no weights."""

from dataclasses import dataclass, field
from typing import Any

from d2l.adapters.info import CHAT_TEMPLATE, PARTS, PROVENANCE, AdapterInfo
from d2l.adapters.parts import Parts
from d2l.answer.chat_prompts import ChatPrompts, TokenizerFolder, fit_document, user_turn
from d2l.answer.options import AskOptions
from d2l.bases.chat import find_end
from d2l.bases.load_errors import quiet_transformers
from d2l.datasets.silence import FEW_WORDS, IN_FULL
from d2l.errors import AdapterError, BaseModelError
from d2l.parts.kept import Turns


@dataclass
class AdapterPrompts:
    """Prompts of an adapter, in the chat template stored with it, and of its base.

    `opening`: ids that all prompts to the adapter begin with; `window`: tokens that the base reads.
    """

    info: AdapterInfo
    chat: ChatPrompts = field(repr=False)
    base: TokenizerFolder = field(repr=False)
    opening: tuple[int, ...] = field(repr=False)
    window: int = field(repr=False)

    @property
    def base_tokenizer(self) -> Any:
        """The base's own transformers tokenizer; raises BaseModelError."""
        return self.base.tokenizer

    def prompt(self, question: str) -> list[int]:
        """Ids of the prompt of one question to the adapter; raises as `prompt_turns` does."""
        return self.prompt_turns([user_turn(question)])

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

    def write_behind(self, turns: Turns) -> list[int]:
        """Ids of a conversation's prompt in the adapter's template, behind its opening."""
        return self.prompt_turns(turns)[len(self.opening) :]

    def complete(self, turns: Turns, options: AskOptions, wish: str = IN_FULL) -> Turns:
        """Add the options' system text to turns without one. A base with an instruction also gets
        the wish for a few words, or this `wish` for full answers."""
        if options.system is not None and turns[0]["role"] != "system":
            turns = [{"role": "system", "content": options.system}, *turns]
        if self.is_instructed:
            *before, last = turns
            wish = FEW_WORDS if options.short else wish
            turns = [*before, {**last, "content": last["content"] + wish}]
        return turns

    @property
    def is_instructed(self) -> bool:
        """True if an instruction asks the base for answers, in full."""
        provenance = self.info.provenance
        return provenance is not None and bool(provenance.prompt.instruction)

    @property
    def is_task(self) -> bool:
        """True if the adapter was made of a task description."""
        provenance = self.info.provenance
        return provenance is not None and provenance.description is not None

    @property
    def is_of_documents(self) -> bool:
        """True if the adapter was compiled of documents."""
        return self.info.provenance is not None and bool(self.info.provenance.inputs)

    def prompt_alone(self, question: str) -> list[int]:
        """Ids of the base's own prompt for the question."""
        return self._base_chat.encode([user_turn(question)])

    def prompt_about(
        self, document: str, question: str, *, n_answer: int, system: str | None = None
    ) -> tuple[list[int], int]:
        """Ids of the base's prompt with the document in it, behind a system text if there is one,
        and how many of the document's tokens are left out so that `n_answer` more tokens fit into
        the base's window."""
        before = [] if system is None else [{"role": "system", "content": system}]
        chat = self._base_chat
        with quiet_transformers():  # it warns of texts longer than the window
            encoded = self.base_tokenizer(
                document, add_special_tokens=False, return_offsets_mapping=True
            )
        return fit_document(
            document,
            [start for start, _ in encoded["offset_mapping"]],
            lambda text: chat.encode([*before, user_turn(f"{text}\n\n{question}")]),
            window=self.window - n_answer,
        )

    def encode(self, text: str) -> list[int]:
        """Ids of a text by the base's tokenizer, without special tokens."""
        tokenizer = self.base_tokenizer if self.chat.suspect else self.chat.tokenizer  # a copy
        with quiet_transformers():  # it warns of texts longer than the window
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])

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
        return ChatPrompts(self.base_tokenizer)


def find_opening(info: AdapterInfo, parts: Parts | None, n_vocab: int) -> tuple[int, ...]:
    """Ids that prompts to an adapter begin with; none for networks without an opening and for other
    tools. Raises AdapterError if the base, of so many tokens, lacks an id of the adapter's or its
    parts' opening."""
    opening = info.provenance.prompt.opening if info.provenance is not None else None
    behind = parts.index.opening if parts is not None else None
    for name, own in ((PROVENANCE, opening), (PARTS, behind)):
        if own is not None and max(own.ids) >= n_vocab:
            raise AdapterError(
                f"{info.folder / name}: the opening has token {max(own.ids)}, and the base "
                f"{n_vocab:,} tokens",
                hint="the file is damaged, or --base names another base than the adapter's",
            )
    return () if opening is None else opening.ids
