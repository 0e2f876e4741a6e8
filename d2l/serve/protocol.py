"""OpenAI's interface, as far as the server speaks it: bodies of requests, replies and failures.

A field that would change an answer and is not supported is refused; other fields are ignored.
"""

import json
import time
import uuid
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from d2l.inference.prompt_styles import Turns
from d2l.serve.generation import Ending, Piece, Sampling, Start, TokenChance

#: Tokens of an answer where the request sets no limit.
DEFAULT_TOKENS = 256


class RequestError(Exception):
    """A failure that the client is told: status, one line, and OpenAI's `code` and `param`.

    `code` is such as "model_not_found"; `param` names the field at fault.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)  # a number is no text


class TextPart(_Strict):
    """A part of a message; pictures and sounds are not supported."""

    type: Literal["text"]
    text: str


class Message(_Strict):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def turn(self) -> dict[str, str]:
        """The turn as chat templates take it."""
        parts = self.content if isinstance(self.content, list) else []
        text = self.content if isinstance(self.content, str) else "".join(p.text for p in parts)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(_Strict):
    """Whether a stream ends with the numbers of tokens."""

    include_usage: bool = False


class DocumentChoice(_Strict):
    """d2l's own: the document for the base's prompt, as text or as the name of an adapter."""

    text: str | None = None
    adapter: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "DocumentChoice":
        if (self.text is None) == (self.adapter is None):
            raise ValueError("give either text or adapter")
        return self


class ChatRequest(Sampling):
    """The body of a request to /v1/chat/completions."""

    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    document: DocumentChoice | None = None
    # Refused unless they ask for nothing.
    n: Literal[1] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None
    tools: list[Any] | None = None

    @classmethod
    def read(cls, body: bytes) -> "ChatRequest":
        """Read a body; raises RequestError with its first fault."""
        try:
            return cls.model_validate_json(body)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(p) for p in first["loc"] if not str(p).startswith("list["))
            message = first["msg"].removeprefix("Value error, ")
            raise RequestError(
                400, f"{where}: {message}" if where else message, param=where or None
            ) from error

    @field_validator("tools")
    @classmethod
    def _refuse_tools(cls, tools: list[Any] | None) -> list[Any] | None:
        if tools:
            raise ValueError("tools are not supported")
        return tools

    @property
    def turns(self) -> Turns:
        """The conversation."""
        return [message.turn for message in self.messages]

    @property
    def n_wanted(self) -> int:
        """The longest answer, in tokens."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_TOKENS

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with the numbers of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class Reply:
    """The JSON of one answer, whole or in chunks of a stream."""

    def __init__(self, model: str, start: Start) -> None:
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        self._n_prompt = start.n_prompt
        left_out = {"tokens_left_out": start.n_left_out}
        self._document = {"document": left_out} if start.n_left_out else {}  # d2l's own field

    def write(self, pieces: Sequence[Piece], ending: Ending) -> dict[str, Any]:
        """The whole answer."""
        text = "".join(piece.text for piece in pieces)
        chances = [chance for piece in pieces for chance in piece.chances]
        message = {"message": {"role": "assistant", "content": text, "refusal": None}}
        return {
            **self._head,
            "object": "chat.completion",
            "choices": [_write_choice(message, chances, ending.reason)],
            **self._document,
            "usage": self._count(ending),
        }

    def write_start(self) -> str:
        """The chunk that a stream begins with."""
        choice = _write_choice({"delta": {"role": "assistant", "content": ""}})
        return self._chunk([choice], self._document)

    def write_piece(self, piece: Piece) -> str:
        """The chunk of a piece."""
        return self._chunk([_write_choice({"delta": {"content": piece.text}}, piece.chances)])

    def write_end(self, ending: Ending, *, usage: bool) -> str:
        """The end of a stream, with the numbers of tokens if `usage` is wanted."""
        end = self._chunk([_write_choice({"delta": {}}, reason=ending.reason)])
        counts = self._chunk([], {"usage": self._count(ending)}) if usage else ""
        return f"{end}{counts}data: [DONE]\n\n"

    def _chunk(self, choices: list[dict[str, Any]], more: Mapping[str, Any] | None = None) -> str:
        head = {**self._head, "object": "chat.completion.chunk"}
        return write_event({**head, "choices": choices, **(more or {})})

    def _count(self, ending: Ending) -> dict[str, int]:
        return {
            "prompt_tokens": self._n_prompt,
            "completion_tokens": ending.n_tokens,
            "total_tokens": self._n_prompt + ending.n_tokens,
        }


def write_event(value: dict[str, Any]) -> str:
    """A server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=False)}\n\n"


def _write_choice(
    content: dict[str, Any], chances: Sequence[TokenChance] = (), reason: str | None = None
) -> dict[str, Any]:
    tokens = [
        {
            **_write_token(chance.token, chance.logprob),
            "top_logprobs": [_write_token(*pair) for pair in chance.top],
        }
        for chance in chances
    ]
    logprobs = {"content": tokens, "refusal": None} if tokens else None
    return {"index": 0, **content, "logprobs": logprobs, "finish_reason": reason}


def _write_token(text: str, logprob: float) -> dict[str, Any]:
    return {"token": text, "logprob": logprob, "bytes": list(text.encode())}
