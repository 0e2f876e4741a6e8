"""Answers → the JSON that OpenAI's clients read: whole, or chunk by chunk."""

import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from d2l.serve.engine import Start
from d2l.serve.generation import Ending, Piece, TokenChance


@dataclass(frozen=True)
class ChatWords:
    """How /v1/chat/completions says things."""

    prefix = "chatcmpl"
    whole = "chat.completion"
    part = "chat.completion.chunk"

    def first(self) -> dict[str, Any] | None:
        """The choice that a stream begins with."""
        return {"delta": {"role": "assistant", "content": ""}}

    def piece(self, piece: Piece) -> dict[str, Any]:
        """The choice that brings a piece."""
        return {"delta": {"content": piece.text}}

    def last(self) -> dict[str, Any]:
        """The choice that brings the end."""
        return {"delta": {}}

    def message(self, text: str) -> dict[str, Any]:
        """The choice of a whole answer."""
        return {"message": {"role": "assistant", "content": text, "refusal": None}}

    def logprobs(self, chances: Sequence[TokenChance], offset: int) -> dict[str, Any]:
        """What is told of tokens; `offset` counts characters before them."""
        del offset
        return {"content": [_describe(chance) for chance in chances], "refusal": None}


@dataclass(frozen=True)
class TextWords:
    """How /v1/completions says things."""

    prefix = "cmpl"
    whole = "text_completion"
    part = "text_completion"

    def first(self) -> dict[str, Any] | None:
        """Nothing: a stream begins with text."""
        return None

    def piece(self, piece: Piece) -> dict[str, Any]:
        """The choice that brings a piece."""
        return {"text": piece.text}

    def last(self) -> dict[str, Any]:
        """The choice that brings the end."""
        return {"text": ""}

    def message(self, text: str) -> dict[str, Any]:
        """The choice of a whole answer."""
        return {"text": text}

    def logprobs(self, chances: Sequence[TokenChance], offset: int) -> dict[str, Any]:
        """What is told of tokens; `offset` counts characters before them."""
        offsets = []
        for chance in chances:
            offsets.append(offset)
            offset += len(chance.token)
        return {
            "tokens": [chance.token for chance in chances],
            "token_logprobs": [chance.logprob for chance in chances],
            "top_logprobs": [dict(chance.top) for chance in chances],
            "text_offset": offsets,
        }


Words = ChatWords | TextWords


@dataclass
class Reply:
    """One answer as it is written; `told` says whether token probabilities were asked for."""

    words: Words
    model: str
    told: bool
    id: str = field(init=False)
    created: int = field(init=False)
    _n_characters: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.id = f"{self.words.prefix}-{uuid.uuid4().hex}"
        self.created = int(time.time())

    def whole(self, start: Start, pieces: Sequence[Piece], ending: Ending) -> dict[str, Any]:
        """All of it at once."""
        text = "".join(piece.text for piece in pieces)
        choice = self.words.message(text)
        chances = [chance for piece in pieces for chance in piece.chances]
        body = self._body(self.words.whole, [self._choice(choice, chances, ending.reason)])
        return {**body, **_describe_document(start), "usage": _count(start, ending)}

    def first(self, start: Start) -> str | None:
        """What a stream begins with."""
        choice = self.words.first()
        if choice is None:
            return None
        body = self._body(self.words.part, [self._choice(choice, (), None)])
        return _event({**body, **_describe_document(start)})

    def piece(self, piece: Piece) -> str:
        """A piece of a stream."""
        choice = self._choice(self.words.piece(piece), piece.chances, None)
        self._n_characters += len(piece.text)
        return _event(self._body(self.words.part, [choice]))

    def last(self, start: Start, ending: Ending, *, usage: bool) -> str:
        """How a stream ends."""
        choice = self._choice(self.words.last(), (), ending.reason)
        text = _event(self._body(self.words.part, [choice]))
        if usage:
            body = self._body(self.words.part, [])
            text += _event({**body, "usage": _count(start, ending)})
        return text + "data: [DONE]\n\n"

    def _body(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }

    def _choice(
        self, content: dict[str, Any], chances: Sequence[TokenChance], reason: str | None
    ) -> dict[str, Any]:
        told = self.words.logprobs(chances, self._n_characters) if self.told and chances else None
        return {"index": 0, **content, "logprobs": told, "finish_reason": reason}


def write_failure(body: dict[str, Any]) -> str:
    """How a stream says that it failed."""
    return _event(body)


def _event(value: dict[str, Any]) -> str:
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _count(start: Start, ending: Ending) -> dict[str, int]:
    return {
        "prompt_tokens": start.n_prompt,
        "completion_tokens": ending.n_tokens,
        "total_tokens": start.n_prompt + ending.n_tokens,
    }


def _describe_document(start: Start) -> dict[str, Any]:
    """Ours: what of a document did not fit into the prompt, where some did not."""
    return {"document": {"tokens_left_out": start.n_left_out}} if start.n_left_out else {}


def _describe(chance: TokenChance) -> dict[str, Any]:
    top = [{"token": t, "logprob": p, "bytes": list(t.encode())} for t, p in chance.top]
    return {
        "token": chance.token,
        "logprob": chance.logprob,
        "bytes": list(chance.token.encode()),
        "top_logprobs": top,
    }
