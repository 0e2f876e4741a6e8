"""Prompt ids → text as it is made, up to a stop text, a limit, or until nobody wants it any more.

Knows neither adapters nor HTTP.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import transformers
from torch import Tensor

from d2l.inference.adapted_model import LEAST_TEMPERATURE

#: What decoders write for bytes that are not a whole character yet.
_HALF = "\ufffd"


@dataclass(frozen=True)
class Sampling:
    """How an answer is made. `temperature` 0 is greedy; `strip` takes white space off both ends, as
    answers of a chat have it; `top_logprobs` is None where no probabilities are wanted."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    top_logprobs: int | None = None
    strip: bool = True

    def bounded(self, most: int) -> "Sampling":
        """The same for an answer of at most `most` tokens."""
        return replace(self, max_tokens=min(self.max_tokens, most))


@dataclass(frozen=True)
class TokenChance:
    """A token that was chosen, its log-probability before sampling, and the likeliest in its place,
    as (text, log-probability)."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Piece:
    """Text that no later token can change, and what was asked about its tokens."""

    text: str
    chances: tuple[TokenChance, ...] = ()


@dataclass(frozen=True)
class Ending:
    """Why an answer ended, "stop" or "length", and of how many tokens it is."""

    reason: str
    n_tokens: int


@dataclass
class Speech:
    """Decoded text in pieces that stand: no half character, nothing that a stop text may take."""

    decode: Callable[[Sequence[int]], str]
    stop: tuple[str, ...] = ()
    strip: bool = True
    stopped: bool = field(default=False, init=False)
    _said: str = field(default="", init=False)

    def take(self, ids: Sequence[int], *, last: bool = False) -> str:
        """What is new in the text of all tokens so far; "" where it has to wait."""
        if self.stopped:
            return ""
        text = self.decode(ids)
        text = text.lstrip() if self.strip else text
        found = [at for at in (text.find(word) for word in self.stop) if at >= 0]
        if found:
            text, self.stopped = text[: min(found)], True
        if last or self.stopped:
            text = text.rstrip() if self.strip else text
        else:
            text = self._hold_back(text)
        if not text.startswith(self._said):  # a decoder that changes its mind: at the end, then
            return text[len(self._said) :] if last else ""
        new = text[len(self._said) :]
        self._said = text
        return new

    def _hold_back(self, text: str) -> str:
        text = text.rstrip(_HALF)
        longest = max(
            (n for word in self.stop for n in range(1, len(word)) if text.endswith(word[:n])),
            default=0,
        )
        text = text[: len(text) - longest]
        return text.rstrip() if self.strip else text


class _Recorder(transformers.LogitsProcessor):
    """Notes log-probabilities before they are bent for sampling; changes nothing."""

    def __init__(self, n_top: int) -> None:
        self._n_top = n_top
        self._rows: list[tuple[Tensor, Tensor, Tensor]] = []  # of a token each, until told

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """`scores` (rows, vocabulary) as they came."""
        del input_ids
        log_probs = scores[0].float().log_softmax(dim=-1)  # (vocabulary,)
        top = log_probs.topk(min(self._n_top, len(log_probs)))
        self._rows.append((log_probs, top.values, top.indices))
        return scores

    def tell(self, ids: Sequence[int], tokenizer: Any) -> tuple[TokenChance, ...]:
        """What was noted about the last tokens of `ids`; it is forgotten then."""
        found = []
        for token, row in zip(ids[len(ids) - len(self._rows) :], self._rows, strict=True):
            log_probs, values, indices = row
            pairs = zip(indices.tolist(), values.tolist(), strict=True)
            top = tuple((tokenizer.decode([other]), value) for other, value in pairs)
            found.append(TokenChance(tokenizer.decode([token]), float(log_probs[token]), top))
        self._rows.clear()
        return tuple(found)


class _Watcher(transformers.StoppingCriteria):
    """Hands on what is new after every token, and ends the answer where that is due."""

    def __init__(
        self,
        n_prompt: int,
        speech: Speech,
        tell: Callable[[str, Sequence[int]], None],
        due: Callable[[], bool],
    ) -> None:
        self._n_prompt = n_prompt
        self._speech = speech
        self._tell = tell
        self._due = due

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        """Whether each row, of which there is one, is done: bool (rows,)."""
        del scores
        own = input_ids[0, self._n_prompt :].tolist()
        self._tell(self._speech.take(own), own)
        done = self._speech.stopped or self._due()
        return torch.full((len(input_ids),), done, device=input_ids.device)


def generate(
    model: Any,
    tokenizer: Any,
    ids: Sequence[int],
    sampling: Sampling,
    *,
    emit: Callable[[Piece], None],
    due: Callable[[], bool],
) -> Ending:
    """Continue a prompt; pieces go to `emit` as they come.

    `due` is asked after every token whether the answer has to end now. Greedy answers are those of
    `d2l ask`, token for token.
    """
    recorder = None if sampling.top_logprobs is None else _Recorder(sampling.top_logprobs)

    def tell(text: str, own: Sequence[int]) -> None:
        if text:
            emit(Piece(text, () if recorder is None else recorder.tell(own, tokenizer)))

    def decode(own: Sequence[int]) -> str:
        return str(tokenizer.decode(own, skip_special_tokens=True))

    speech = Speech(decode, sampling.stop, sampling.strip)
    prompt = torch.tensor([list(ids)], device=model.device)
    drawing = sampling.temperature >= LEAST_TEMPERATURE
    with torch.inference_mode(), _seeded(sampling.seed, prompt.device):
        output = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=sampling.max_tokens,
            do_sample=drawing,
            temperature=sampling.temperature if drawing else None,
            top_p=sampling.top_p if drawing and sampling.top_p < 1 else None,
            top_k=None,
            logits_processor=[] if recorder is None else [recorder],
            stopping_criteria=[_Watcher(len(ids), speech, tell, due)],
        )
    own = output[0, len(ids) :].tolist()
    stopped = speech.stopped or (bool(own) and own[-1] in _end_tokens(model))
    rest = speech.take(own, last=True)
    chances = () if recorder is None else recorder.tell(own, tokenizer)
    if rest or chances:
        emit(Piece(rest, chances))
    return Ending("stop" if stopped else "length", len(own))


def _end_tokens(model: Any) -> list[int]:
    """Tokens that end an answer, as the model's own settings have them: one, several or none."""
    end = model.generation_config.eos_token_id
    return [] if end is None else [end] if isinstance(end, int) else list(end)


@contextlib.contextmanager
def _seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """A random state of its own inside, where there is a seed."""
    if seed is None:
        yield
        return
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
