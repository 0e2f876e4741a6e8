"""Events of an answer: a start, pieces of text and an ending. Needs no torch."""

from dataclasses import dataclass, field
from typing import Any

from d2l.answer.cite import Answer, Finish
from d2l.parts.judging import Choice
from d2l.parts.kept import Context


@dataclass(frozen=True)
class Start:
    """Length of the prompt, the number of a document's tokens that did not fit, the judged parts,
    and the context that the answer continues: None if no part answers."""

    n_prompt: int
    n_left_out: int = 0
    verdict: Choice = field(default_factory=Choice)
    context: Context | None = None


@dataclass(frozen=True)
class TextPiece:
    """Text that later tokens cannot change, and the log-probabilities of its tokens before
    sampling, as OpenAI writes them."""

    text: str
    logprobs: tuple[dict[str, Any], ...] = ()


@dataclass(frozen=True)
class Ending:
    """Reason of the end, the number of tokens, and the answer with its passage. `is_sure`: the
    answers that were compared agree; None: none were."""

    reason: Finish
    n_tokens: int
    answer: Answer | None = None
    is_sure: bool | None = None


#: An answer is a start, pieces and an ending.
Event = Start | TextPiece | Ending
