"""The adapter that is refined, on its frozen base: exercises in, logits with gradients out.

Of a seats adapter the values of its memory move, with the real adapter and its leak in the loop; of
any other adapter A and B. Parameters are scaled, so that the same learning rate fits all of them,
and start at zero.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
from d2l.bases.chat import Chat
from d2l.bases.tokenizers import BaseTokenizer
from d2l.hypernets.options import MergeOptions
from d2l.hypernets.protocol import Assembled
from d2l.hypernets.seats.network import Seats
from d2l.inference.attached import Factors, attached
from d2l.refining.decoder import MemoryDecoder, ReadOpening
from d2l.training.learners.document_data import Asked, Exercise
from d2l.training.learners.forward import predict
from d2l.training.learners.seats.learner import MOST_TOKENS, make_exercise

Ids = Sequence[int]
#: Of an input of a task and of its output.
TASK_TOKENS = (512, 128)


class Refinable(Protocol):
    """An adapter that can be refined."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The scaled numbers that move."""

    def ask(self, asked: Asked) -> Exercise:
        """A question and its answer in the adapter's prompt."""

    def logits(self, exercises: Sequence[Exercise]) -> Tensor:
        """Logits (rows, vocabulary) where answers are predicted, exercise after exercise."""

    def bare(self, prompts: Sequence[Ids]) -> list[tuple[int, ...]]:
        """The same prompts for the base alone."""

    def assemble(self) -> Assembled:
        """The adapter's numbers now, on the CPU."""


class MovableSeats:
    """A memory whose values move, in units of their deviation in each layer."""

    def __init__(
        self,
        memory: Memory,
        seats: Seats,
        causal: Any,
        tokenizer: BaseTokenizer,
        *,
        bias_scale: float = 1.0,
        most: tuple[int, int] = MOST_TOKENS,
    ) -> None:
        """`seats` wrote the memory; `bias_scale` is the strength of its learned part, and `most`
        the tokens of a question and of its answer."""
        shared = seats.network.shared
        if shared is not None and bias_scale != 1.0:
            shared = shared.scaled(bias_scale)
        self.decoder = decoder = MemoryDecoder(causal, seats.statistics, seats.config, shared)
        self.seats, self.tokenizer, self._bias_scale = seats, tokenizer, bias_scale
        keys, values = (t.to(decoder.device, torch.float32) for t in (memory.keys, memory.values))
        self._keys, self._start = keys, values
        self._size = values.std(dim=(1, 2), keepdim=True)  # (layers, 1, 1)
        self._moved = nn.Parameter(torch.zeros_like(values))
        self.parameters = [self._moved]
        self._read: ReadOpening | None = None
        self._most = most

    def ask(self, asked: Asked) -> Exercise:
        """See `Refinable`: the rest of the template."""
        return make_exercise(
            asked, config=self.decoder.config, tokenizer=self.tokenizer, most=self._most
        )

    def logits(self, exercises: Sequence[Exercise]) -> Tensor:
        """See `Refinable`; all exercises stand behind the same opening."""
        return self.decoder.logits(exercises, self._open())

    def _open(self) -> ReadOpening:
        """The opening with this memory. Training reuses the opening of the last evaluation: few
        steps barely change it, and re-reading would double the cost."""
        learning, values = torch.is_grad_enabled(), self._values()
        if self._read is None or not (learning or torch.equal(self._read.values, values)):
            with torch.no_grad():
                self._read = self.decoder.read_opening(self._keys, values.detach())
        return self.decoder.seat_again(self._read, values) if learning else self._read

    def bare(self, prompts: Sequence[Ids]) -> list[tuple[int, ...]]:
        """See `Refinable`: behind the base's own default opening."""
        return [(*self.decoder.config.opening_head, *prompt) for prompt in prompts]

    def assemble(self) -> Assembled:
        """See `Refinable`: seated again."""
        memory = Memory(self._keys.cpu(), self._values().detach().cpu())
        return self.seats.assemble([memory], MergeOptions(bias_scale=self._bias_scale))

    def _values(self) -> Tensor:
        return self._start + self._moved * self._size


class MovableLora:
    """LoRA weights whose A and B move, in units of their deviations."""

    def __init__(
        self,
        weights: LoraWeights,
        causal: Any,
        chat: Chat,
        *,
        most: tuple[int, int] = MOST_TOKENS,
        scaled: bool = True,
    ) -> None:
        """`most`: tokens of a question and of its answer. Not `scaled`, A and B move as they are:
        a B of zeros has no deviation."""
        self._causal, self._chat, self._weights = causal, chat, weights
        device = next(causal.parameters()).device
        factors = weights.factors.values()
        self._start = [t.to(device, torch.float32) for f in factors for t in (f.a, f.b)]
        self._sizes = [t.std() if scaled else torch.ones_like(t[0, 0]) for t in self._start]
        self._most = most
        self.parameters = [nn.Parameter(torch.zeros_like(tensor)) for tensor in self._start]

    def ask(self, asked: Asked) -> Exercise:
        """See `Refinable`: the base's own chat."""
        encode, end = self._chat.tokenizer.encode, self._chat.end_token
        before, after = self._chat.ask_ends()
        question = encode(asked.question)[: self._most[0]]
        answer = encode(asked.answer)[: self._most[1]]
        ended = (*answer, end) if asked.complete else tuple(answer)
        return Exercise((*before, *question, *after), ended)

    def logits(self, exercises: Sequence[Exercise]) -> Tensor:
        """See `Refinable`."""
        prompts, answers = ([e.prompt for e in exercises], [e.answer for e in exercises])
        with attached(self._causal, self._factors(), self._weights.scale):
            return torch.cat(predict(self._causal, prompts, answers))

    def bare(self, prompts: Sequence[Ids]) -> list[tuple[int, ...]]:
        """See `Refinable`."""
        return [tuple(prompt) for prompt in prompts]

    def assemble(self) -> Assembled:
        """See `Refinable`."""
        factors = {
            name: LoraFactors(a.detach().cpu(), b.detach().cpu())
            for name, (a, b) in self._factors().items()
        }
        return Assembled(replace(self._weights, factors=factors))

    def _factors(self) -> Factors:
        parts = zip(self._start, self.parameters, self._sizes, strict=True)
        now = [start + moved * size for start, moved, size in parts]
        return dict(zip(self._weights.factors, zip(now[::2], now[1::2], strict=True), strict=True))
