"""Prompt ids → text, token by token, up to a stop text, a limit of tokens, or a canceled request.

Needs neither requests nor HTTP.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.forward import PIECE, extend_in_pieces
from d2l.inference.options import LEAST_TEMPERATURE
from d2l.inference.parts.read import PartPrompt
from d2l.serve.events import Ending, Sampling, TextPiece

#: Decoders' sign for bytes that are not a whole character yet.
_HALF = "\ufffd"


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


def generate(
    adapted: AdaptedModel,
    prompt: PartPrompt,
    sampling: Sampling,
    max_tokens: int,
    *,
    emit: Callable[[TextPiece], None],
    is_due: Callable[[], bool],
) -> Ending:
    """Continue a prompt; pieces go to `emit`. Greedy answers are those of `d2l ask`, to the token.

    `is_due` is called after every token and ends the answer; `stoppable` ends the reading of the
    prompt.
    """
    model, tokenizer, ids = adapted.model, adapted.base_tokenizer, prompt.ids
    pieces = Pieces(
        lambda own: tokenizer.decode(own, skip_special_tokens=True), sampling.stop or ()
    )
    rows: list[Tensor] = []  # log-probabilities (vocabulary,) before the next token
    logprobs: list[dict[str, Any]] = []  # of tokens whose text waits

    def record(_: Tensor, scores: Tensor) -> Tensor:
        if sampling.logprobs:
            rows.append(scores[0].float().log_softmax(dim=-1))
        return scores

    def watch(input_ids: Tensor, _: Any, **__: Any) -> Tensor:
        own = input_ids[0, len(ids) :].tolist()
        while rows:
            logprobs.append(_describe(tokenizer, own[-1], rows.pop(), sampling.top_logprobs or 0))
        if text := pieces.take(own):
            emit(TextPiece(text, tuple(logprobs)))
            logprobs.clear()
        done = pieces.stopped or is_due()
        return torch.full((len(input_ids),), done, device=input_ids.device)  # (rows,)

    read = torch.tensor([ids], device=model.device)
    drawing = (sampling.temperature or 0.0) >= LEAST_TEMPERATURE
    torch.manual_seed(torch.seed() if sampling.seed is None else sampling.seed)
    with torch.inference_mode():
        prompt = prompt._replace(cache=_read_beginning(model, read, prompt.cache))
        output = model.generate(
            input_ids=read,
            attention_mask=torch.ones_like(read),
            max_new_tokens=max_tokens,
            do_sample=drawing,
            temperature=sampling.temperature if drawing else None,
            top_p=sampling.top_p if drawing else None,
            top_k=None,
            logits_processor=[record],
            stopping_criteria=[watch],
            **adapted.prompt_arguments(prompt),
        )
    own = output[0, len(ids) :].tolist()
    stopped = pieces.stopped or adapted.is_end(own[-1])
    late = is_due() and len(own) < max_tokens
    rest = pieces.take(own, last=True)
    if rest or logprobs:
        emit(TextPiece(rest, tuple(logprobs)))
    return Ending("stop" if stopped else "timeout" if late else "length", len(own))


def _read_beginning(model: Any, read: Tensor, cache: Any) -> Any:
    """Read a long prompt (1, tokens) but its last piece, behind `cache`; returns the cache."""
    n_read = 0 if cache is None else cache.get_seq_length()
    end = n_read + (read.shape[1] - n_read - 1) // PIECE * PIECE
    mask = torch.ones_like(read[:, :end])
    return extend_in_pieces(model, read[:, n_read:end], mask=mask, cache=cache)[0]


def _describe(tokenizer: Any, token: int, log_probs: Tensor, n_top: int) -> dict[str, Any]:
    """Describe a token and the `n_top` likeliest at its position; `log_probs` (vocabulary,)."""

    def write(other: int) -> dict[str, Any]:
        text = tokenizer.decode([other])
        return {"token": text, "logprob": float(log_probs[other]), "bytes": list(text.encode())}

    top = log_probs.topk(min(n_top, len(log_probs))).indices.tolist()
    return {**write(token), "top_logprobs": [write(other) for other in top]}


@contextlib.contextmanager
def stoppable(model: Any, is_due: Callable[[], bool]) -> Iterator[None]:
    """Let the reading of a prompt raise TimeoutError at the next layer once it is due."""

    def check(_layer: Any, args: tuple[Tensor, ...]) -> None:
        reads_prompt = args[0].shape[1] > 1  # states (rows, tokens, hidden)
        if reads_prompt and is_due():
            raise TimeoutError("the time was over before the answer began")

    layers = model.get_base_model().model.layers
    hooks = [layer.register_forward_pre_hook(check) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
