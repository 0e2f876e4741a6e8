"""Sampling options, and the events of an answer: a start, pieces of text and an ending.

Needs no torch.
"""

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from d2l.inference.parts.answer import Answer, Finish

StopText = Annotated[str, Field(min_length=1, max_length=256)]


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


@dataclass(frozen=True)
class Start:
    """Length of the finished prompt, and the number of the document's tokens that did not fit."""

    n_prompt: int
    n_left_out: int = 0


@dataclass(frozen=True)
class TextPiece:
    """Text that later tokens cannot change, and the log-probabilities of its tokens before
    sampling, as OpenAI writes them."""

    text: str
    logprobs: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Ending:
    """Reason of the end, the number of tokens, and an adapter's answer with its passage."""

    reason: Finish
    n_tokens: int
    answer: Answer | None = None


#: An answer is a start, pieces and an ending.
Event = Start | TextPiece | Ending
