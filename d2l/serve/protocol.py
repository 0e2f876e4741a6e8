"""Supported part of OpenAI's interface: bodies of requests, replies and failures.

A field that would change an answer and is not supported is refused; other fields are ignored.
"""

import difflib
import json
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from d2l.answer.events import Ending, Event, Start, TextPiece
from d2l.answer.options import AskOptions

if TYPE_CHECKING:
    from d2l.parts.kept import Turns

#: Tokens of an answer where the request sets no limit.
DEFAULT_TOKENS = 256
StopText = Annotated[str, Field(min_length=1, max_length=256)]
DocumentChoice = Annotated[dict[Literal["text", "adapter"], str], Field(min_length=1, max_length=1)]


#: Fields that would change an answer, each with the values that ask for nothing.
_UNSUPPORTED: dict[str, list[Any]] = {
    "n": [1],
    "frequency_penalty": [0],
    "presence_penalty": [0],
    "logit_bias": [{}],
    "response_format": [{"type": "text"}],
    "tools": [[]],
    "tool_choice": ["none", "auto"],
    "functions": [[]],
    "function_call": ["none", "auto"],
    "modalities": [["text"]],
    "audio": [],
}
_SHOWN = 5  # models in a message


class RequestError(Exception):
    """Failure for the client: status, one line, and OpenAI's `code` and `param`.

    `code`: for example "model_not_found"; `param`: the field at fault.
    """

    def __init__(
        self, status: int, message: str, *, code: str | None = None, param: str | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        kind = "server_error" if status >= 500 else "invalid_request_error"
        self.body = {"error": {"message": message, "type": kind, "param": param, "code": code}}


def refuse_model(name: str, names: Sequence[str]) -> RequestError:
    """Make the failure that no model is called `name`; `names`: the models that are there."""
    near = difflib.get_close_matches(name, names, n=1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    message = f"there is no model {name!r}; {meant}known here: {', '.join(names[:_SHOWN])}{more}"
    return RequestError(404, message, code="model_not_found", param="model")


class _Exact(BaseModel):
    model_config = ConfigDict(strict=True)  # a number is no text


class TextPart(_Exact):
    """Text in a message; pictures and sounds are not supported."""

    type: Literal["text"]
    text: str


class Message(_Exact):
    """Turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def turn(self) -> dict[str, str]:
        """Turn as chat templates take it."""
        parts = self.content if isinstance(self.content, list) else []
        text = self.content if isinstance(self.content, str) else "".join(p.text for p in parts)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class PartFields(BaseModel):
    """Field `d2l` of a request: the parts that answer, instead of those that the words choose;
    `short`: in a few words; `long`: in full."""

    model_config = ConfigDict(strict=True, extra="forbid")
    page: Annotated[str, Field(min_length=1)] | None = None
    parts: Annotated[int, Field(ge=1)] | None = None
    whole: bool = False
    short: bool = False
    long: bool = False

    @model_validator(mode="after")
    def _refuse_both(self) -> "PartFields":
        if self.whole and (self.page or self.parts):
            raise ValueError("whole goes with neither page nor parts")
        return self


class Sampling(BaseModel):
    """Sampling options, named as by OpenAI; without a `temperature` sampling is greedy."""

    model_config = ConfigDict(strict=True)  # a number is no text
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: Annotated[list[StopText], Field(max_length=4)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None  # OpenAI's limit, too

    @field_validator("stop", mode="before")
    @classmethod
    def _list_stop(cls, stop: Any) -> Any:
        return [stop] if isinstance(stop, str) and stop else stop or None

    def apply(self, options: AskOptions) -> AskOptions:
        """Apply them to options of answers."""
        return replace(
            options,
            temperature=self.temperature or 0.0,
            top_p=self.top_p,
            seed=self.seed,
            stop=tuple(self.stop or ()),
            n_top=(self.top_logprobs or 0) if self.logprobs else None,
        )


class ChatRequest(Sampling):
    """Body of a request to /v1/chat/completions."""

    model_config = ConfigDict(strict=True, extra="allow")
    model: str
    messages: Annotated[list[Message], Field(min_length=1)]
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: dict[str, Any] | None = None
    #: d2l's own: a document for the base's prompt, as text or as the name of its adapter.
    document: DocumentChoice | None = None
    d2l: PartFields | None = None

    @classmethod
    def read(cls, body: bytes) -> "ChatRequest":
        """Read a body; raises RequestError with its first fault."""
        chat = read_model(cls, body)
        for name, value in (chat.model_extra or {}).items():
            if value is not None and value not in _UNSUPPORTED.get(name, [value]):
                message = f"{name} {'are' if name.endswith('s') else 'is'} not supported"
                raise RequestError(400, message, code="unsupported_parameter", param=name)
        return chat

    @property
    def turns(self) -> "Turns":
        """Turns of the conversation."""
        return [message.turn for message in self.messages]

    @property
    def fields(self) -> PartFields:
        """Choice of the parts that are asked, and of the form of their answer."""
        return self.d2l or PartFields()

    @property
    def most_tokens(self) -> int:
        """Tokens of the longest answer."""
        return self.max_completion_tokens or self.max_tokens or DEFAULT_TOKENS

    @property
    def wants_usage(self) -> bool:
        """True if a stream ends with the numbers of tokens."""
        return bool((self.stream_options or {}).get("include_usage"))


Model = TypeVar("Model", bound=BaseModel)


def read_model(kind: type[Model], body: bytes) -> Model:
    """Read a body; raises RequestError with its first fault."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(p) for p in first["loc"] if not str(p).startswith("list["))
        message = first["msg"].removeprefix("Value error, ")
        raise RequestError(
            400, f"{where}: {message}" if where else message, param=where or None
        ) from error


class Reply:
    """Reply: the JSON of one answer, whole or in chunks of a stream."""

    def __init__(self, model: str, start: Start) -> None:
        self._start = start
        self._head = {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": model,
        }
        if start.n_left_out:
            self._head["document"] = {"tokens_left_out": start.n_left_out}  # d2l's own field

    def write(self, pieces: Sequence[TextPiece], ending: Ending) -> dict[str, Any]:
        """Write the whole answer."""
        text = "".join(piece.text for piece in pieces)
        logprobs = [token for piece in pieces for token in piece.logprobs]
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = _write_choice({"message": message}, logprobs, ending.reason)
        head = {**self._head, "object": "chat.completion"}
        usage = self._count(ending)
        return {**head, "choices": [choice], "usage": usage, **write_source(ending)}

    def write_chunk(self, event: Event) -> str:
        """Write the chunk of a start, a piece or an ending."""
        if isinstance(event, Start):
            choice = _write_choice({"delta": {"role": "assistant", "content": ""}})
        elif isinstance(event, TextPiece):
            choice = _write_choice({"delta": {"content": event.text}}, event.logprobs)
        else:
            choice = _write_choice({"delta": {}}, reason=event.reason)
            return self._write_event(choices=[choice], **write_source(event))
        return self._write_event(choices=[choice])

    def write_usage(self, ending: Ending) -> str:
        """Write the chunk with the numbers of tokens."""
        return self._write_event(choices=[], usage=self._count(ending))

    def _write_event(self, **more: Any) -> str:
        return write_event({**self._head, "object": "chat.completion.chunk", **more})

    def _count(self, ending: Ending) -> dict[str, int]:
        return {
            "prompt_tokens": self._start.n_prompt,
            "completion_tokens": ending.n_tokens,
            "total_tokens": self._start.n_prompt + ending.n_tokens,
        }


def write_source(ending: Ending) -> dict[str, Any]:
    """Write the field `d2l`: an answer's place and passage. The base has none
    but for the end of its time, for which OpenAI's interface has no word."""
    if ending.answer is None:
        return {"d2l": {"finish": ending.reason}} if ending.reason == "timeout" else {}
    return {"d2l": ending.answer.to_json()}


def write_event(value: dict[str, Any]) -> str:
    """Write a server-sent event, in ASCII: clients may take other characters for line ends."""
    return f"data: {json.dumps(value)}\n\n"


def _write_choice(
    content: dict[str, Any], logprobs: Sequence[Any] = (), reason: str | None = None
) -> dict[str, Any]:
    scores = {"content": logprobs, "refusal": None} if logprobs else None
    reason = "length" if reason == "timeout" else reason
    return {"index": 0, **content, "logprobs": scores, "finish_reason": reason}
