"""Turns → the ids of a prompt, by a chat template; a stranger's runs in a child process.

A transformers tokenizer in, ids out; needs no model.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

from d2l.adapters.info import CHAT_TEMPLATE, AdapterInfo
from d2l.bases.chat_templates import is_own, render_apart, try_tokenizer
from d2l.bases.load_errors import LOAD_ERRORS, explain, panics_as_errors, quiet_transformers
from d2l.bases.tokenizer_files import read_compact
from d2l.bases.tokenizers import load_chat_tokenizer
from d2l.errors import BaseModelError, OptionError
from d2l.parts.kept import Turns

TOKENIZER = "tokenizer.json"


def user_turn(text: str) -> dict[str, str]:
    """Make a user's turn; raises OptionError for other values than a text."""
    if not isinstance(text, str) or not text.strip():
        kind = "empty" if isinstance(text, str) else f"{text!r:.60}, expected a text"
        raise OptionError(f"the question is {kind}", hint="ask one question at a time")
    return {"role": "user", "content": text}


@dataclass(frozen=True)
class TokenizerFolder:
    """Tokenizer of a folder, loaded at its first use: half a second for 150,000 tokens."""

    folder: Path

    @cached_property
    def tokenizer(self) -> Any:
        """Transformers tokenizer; raises BaseModelError."""
        return load_chat_tokenizer(self.folder)


@dataclass(frozen=True)
class ChatPrompts:
    """Chat template with its tokenizer.

    `apart`: the template is a stranger's and is rendered in a child process. `suspect`: the
    stranger's tokenizer.json, which the child loads first; empty if it is the base's own.
    """

    tokenizer: Any
    apart: bool = False
    suspect: bytes = b""

    def encode(self, turns: Turns) -> list[int]:
        """Encode the prompt of these turns, ready for an answer; raises D2LError."""
        tokenizer = self.tokenizer
        if not tokenizer.chat_template:
            raise BaseModelError(
                f"{tokenizer.name_or_path}: has no chat template, so it cannot be asked",
                hint="name the base's instruction-tuned version with --base",
            )
        with _refusing(str(tokenizer.name_or_path)), quiet_transformers(), panics_as_errors():
            if not self.apart:
                ids = tokenizer.apply_chat_template(
                    turns, add_generation_prompt=True, return_dict=False
                )
                return list(ids)
            text = render_apart(
                tokenizer.get_chat_template(),
                turns,
                source=str(Path(tokenizer.name_or_path) / CHAT_TEMPLATE),
                names=tokenizer.special_tokens_map,
                tokenizer=self.suspect,
            )
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def find_chat(info: AdapterInfo, base: TokenizerFolder) -> ChatPrompts:
    """Find the adapter's own tokenizer and chat template, if it has both, else the base's."""
    template, own = info.folder / CHAT_TEMPLATE, info.folder / TOKENIZER
    if not (template.is_file() and own.is_file()):
        return ChatPrompts(base.tokenizer)
    tokens = _read(own)
    suspect = b"" if _is_copy(tokens, base.folder / TOKENIZER) else tokens
    if suspect:  # a file that crashes the loader must only crash a child process
        try_tokenizer(suspect, source=str(own))
    tokenizer = load_chat_tokenizer(info.folder)
    opening = info.provenance.prompt.opening if info.provenance is not None else None
    known = is_own(tokenizer.chat_template, None if opening is None else opening.text)
    return ChatPrompts(tokenizer, not known or bool(suspect), suspect)


def fit_document(
    document: str, starts: Sequence[int], render: Callable[[str], list[int]], *, window: int
) -> tuple[list[int], int]:
    """Make the longest prompt of at most `window` tokens; only the end of the document is cut.

    `starts` are the characters at which the document's tokens begin; `render` makes the prompt of
    a document. Returns (prompt ids, tokens of the document left out).
    """
    n_kept = len(starts)
    prompt = render(document)
    while n_kept > 0 and len(prompt) > window:  # a cut may join other tokens: measure again
        n_kept = max(n_kept - (len(prompt) - window), 0)
        prompt = render(document[: starts[n_kept]])
    return prompt, len(starts) - n_kept


def _is_copy(tokens: bytes, ours: Path) -> bool:
    """True if a tokenizer.json is the base's own, or the compact form that d2l writes of it."""
    if not ours.is_file():
        return False
    return tokens == ours.read_bytes() or tokens == read_compact(ours).encode()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BaseModelError(
            f"{path}: cannot be read ({error.strerror})", hint="check its permissions"
        ) from error


@contextlib.contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turn errors of a template or a tokenizer into one line."""
    try:
        yield
    except (*LOAD_ERRORS, RecursionError, TemplateError) as error:
        raise BaseModelError(
            f"{name}: the chat template does not take these turns", hint=explain(error)
        ) from error
