"""Bodies of requests → values: what of OpenAI's interface is understood, and what is refused.

What would change an answer and is not understood is refused; what would not is passed over.
"""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from d2l.inference.prompt_styles import Turns
from d2l.serve.failures import RequestError
from d2l.serve.generation import Sampling

#: Length of an answer where the request does not say it.
DEFAULT_TOKENS = 256
#: The most alternatives to a token that are told, as in OpenAI's own interface.
MOST_LOGPROBS = 20

Stop = Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=16)]


class _Strict(BaseModel):
    """Types as JSON has them: no number for a text."""

    model_config = ConfigDict(strict=True)


class TextPart(_Strict):
    """A part of a message; there are no pictures and sounds here."""

    type: Literal["text"]
    text: str


class Message(_Strict):
    """One turn."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def turn(self) -> dict[str, str]:
        """As chat templates know it."""
        parts = self.content if isinstance(self.content, list) else []
        text = self.content if isinstance(self.content, str) else "".join(p.text for p in parts)
        return {"role": "system" if self.role == "developer" else self.role, "content": text}


class StreamOptions(_Strict):
    """What a stream ends with."""

    include_usage: bool = False


class DocumentChoice(_Strict):
    """Ours: the document for the base's prompt, as text, or that of an adapter."""

    text: str | None = None
    adapter: str | None = None

    @model_validator(mode="after")
    def _check(self) -> "DocumentChoice":
        if (self.text is None) == (self.adapter is None):
            raise ValueError("give either text or adapter")
        return self


class _Common(_Strict):
    """What both ways of asking have."""

    model: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = None
    stop: str | Stop | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Literal[1] | None = None
    # Refused unless they ask for nothing.
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts that end the answer."""
        if not self.stop:
            return ()
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)

    @property
    def wants_usage(self) -> bool:
        """Whether a stream is to end with the numbers of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage

    def sampling(self, limit: int, *, top_logprobs: int | None, strip: bool) -> Sampling:
        """How the answer is made, of at most `limit` tokens."""
        return Sampling(
            max_tokens=min(self.max_tokens or DEFAULT_TOKENS, limit),
            temperature=self.temperature or 0.0,
            top_p=1.0 if self.top_p is None else self.top_p,
            seed=self.seed,
            stop=self.stops,
            top_logprobs=top_logprobs,
            strip=strip,
        )


class ChatRequest(_Common):
    """The body of a request to /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    response_format: dict[Literal["type"], Literal["text"]] | None = None
    document: DocumentChoice | None = None

    @property
    def turns(self) -> Turns:
        """The conversation."""
        return [message.turn for message in self.messages]

    def make_sampling(self, limit: int) -> Sampling:
        """How the answer is made."""
        chosen = self.model_copy(
            update={"max_tokens": self.max_completion_tokens or self.max_tokens}
        )
        top = (self.top_logprobs or 0) if self.logprobs else None
        return chosen.sampling(limit, top_logprobs=top, strip=True)


class CompletionRequest(_Common):
    """The body of a request to /v1/completions."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=1)]
    logprobs: Annotated[int, Field(ge=0, le=MOST_LOGPROBS)] | None = None
    echo: Literal[False] | None = None
    best_of: Literal[1] | None = None
    suffix: Annotated[str, Field(max_length=0)] | None = None

    @property
    def text(self) -> str:
        """The one prompt."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]

    def make_sampling(self, limit: int) -> Sampling:
        """How the text goes on."""
        return self.sampling(limit, top_logprobs=self.logprobs, strip=False)


Body = TypeVar("Body", ChatRequest, CompletionRequest)


def read_request(kind: type[Body], body: bytes) -> Body:
    """A body as values; raises RequestError with its first fault."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        parts = [str(part) for part in first["loc"] if not str(part).startswith(("list[", "func"))]
        where = ".".join(parts)
        raise RequestError(
            400, f"{where}: {first['msg']}" if where else str(first["msg"]), param=where or None
        ) from error
