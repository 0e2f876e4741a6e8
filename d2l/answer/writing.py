"""Tokens → final pieces of text, up to a stop text, or the end of the answer's time."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from d2l.answer.events import Ending, Event, TextPiece
from d2l.answer.refusal import may_refuse, may_refuse_otherwise, show
from d2l.datasets.silence import is_silence
from d2l.parts.engine import Token

#: Decoders' sign for bytes that are not a whole character yet.
_HALF = "\ufffd"
#: Decodes ids, without special tokens unless the second value is False.
Decode = Callable[..., str]


@dataclass
class Pieces:
    """Decoded text in final pieces: no half character, no beginning of a stop text, no white space
    at either end of the answer."""

    decode: Callable[[Sequence[int]], str]
    stop: Sequence[str] = ()
    stopped: bool = field(default=False, init=False)
    _sent: str = field(default="", init=False)

    def take(self, ids: Sequence[int], *, last: bool = False) -> str:
        """Take the new text of all tokens so far; "" if it must wait."""
        if self.stopped:
            return ""
        text = self.decode(ids).lstrip()
        positions = [at for at in (text.find(word) for word in self.stop) if at >= 0]
        if positions:
            text, self.stopped = text[: min(positions)], True
        elif not last:
            text = text.rstrip(_HALF)
            begun = [n for s in self.stop for n in range(1, len(s)) if text.endswith(s[:n])]
            text = text[: len(text) - max(begun, default=0)]
        text = text.rstrip()
        if not text.startswith(self._sent):  # the decoder changed earlier text: wait for the end
            return text[len(self._sent) :] if last else ""
        new = text[len(self._sent) :]
        self._sent = text
        return new


def write(
    tokens: Iterator[Token], decode: Decode, stop: Sequence[str], is_due: Callable[[], bool]
) -> Iterator[Event]:
    """Write tokens as pieces of text and an ending; `is_due` is called after every token and ends
    the answer."""
    pieces = Pieces(lambda own: decode(own, skip_special_tokens=True), stop)
    ids, waiting, late = list[int](), list[dict[str, Any]](), False
    token = None
    for token in tokens:
        ids.append(token.id)
        waiting += _describe(token, decode)
        if text := pieces.take(ids):
            yield TextPiece(text, tuple(waiting))
            waiting.clear()
        if pieces.stopped or (late := is_due()):
            break
    ended = pieces.stopped or (token is not None and token.is_end)
    rest = pieces.take(ids, last=True)
    if rest or waiting:
        yield TextPiece(rest, tuple(waiting))
    yield Ending("stop" if ended else "timeout" if late else "length", len(ids))


def hold_refusals(
    events: Iterator[Event], few: Callable[[], Iterator[Event]] | None = None
) -> Iterator[Event]:
    """Hold pieces back while they may be a refusal, and replace them if they are: the learned
    refusal by what people see, and with `few` nothing, or a refusal in any wording, by the answer
    in few words."""
    may_be = may_refuse if few is None else may_refuse_otherwise
    waiting, text, is_shown = list[Event](), "", False
    for event in events:
        if isinstance(event, TextPiece):
            text += event.text
            waiting.append(event)
            if may_be(text):
                continue
        elif isinstance(event, Ending) and not is_shown and is_silence(text):
            if few is not None and event.reason != "timeout":
                yield from few()
                return
            if show(text) != text:
                waiting = [TextPiece(show(text))]
        yield from waiting
        is_shown, waiting = is_shown or bool(waiting), []
        if not isinstance(event, TextPiece):
            yield event


def _describe(token: Token, decode: Decode) -> list[dict[str, Any]]:
    """Describe a token with its log-probabilities as OpenAI does; none if there are none."""
    if not token.log_probs:
        return []

    def spell(other: int, logprob: float) -> dict[str, Any]:
        text = decode([other])
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    own, *top = (spell(*pair) for pair in token.log_probs)
    return [{**own, "top_logprobs": top}]
