"""What is refined: an adapter whose numbers move, on its frozen base.

Exercises in, logits out, with gradients that reach the adapter's own numbers. Of a seats adapter
values move, and keys where one wants it, with the real adapter and its leak in the loop; of any
other A and B.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
from d2l.bases.chat import Chat
from d2l.bases.tokenizers import BaseTokenizer
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.shared_lora import Shared
from d2l.inference.attached import Factors, attached
from d2l.learners.document_data import Asked, Exercise
from d2l.learners.forward import predict
from d2l.learners.seats.learner import make_exercise
from d2l.refining.base_answers import BaseAnswers
from d2l.refining.decoder import MemoryDecoder, Opening

Ids = Sequence[int]
_MAX_QUESTION_TOKENS, _MAX_ANSWER_TOKENS = 64, 32


class Subject(Protocol):
    """An adapter that can be refined."""

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What moves, scaled so that one learning rate fits all of it; zero at the start."""

    def ask(self, asked: Asked) -> Exercise:
        """A question about the document, as the adapter is asked."""

    def logits(self, exercises: Sequence[Exercise]) -> Tensor:
        """Logits (rows, vocabulary) where answers are predicted, exercise after exercise."""

    def bare(self, prompts: Sequence[Ids]) -> list[tuple[int, ...]]:
        """The same prompts as the base alone is asked."""

    def know(self, exercises: Sequence[Exercise], path: Path) -> None:
        """Have at hand what the base says to general prompts, from a file or for it."""

    def refer(self, exercises: Sequence[Exercise]) -> list[Exercise]:
        """General prompts with the base's own distribution before every token."""


@dataclass(frozen=True)
class Moves:
    """Which parts of a memory move. Where keys move too, more is learned by heart, and answers to
    what has nothing to do with the document change."""

    keys: bool = False
    values: bool = True


class MovableSeats:
    """A memory on its base: what moves are its values, in units of their deviation."""

    def __init__(
        self,
        memory: Memory,
        decoder: MemoryDecoder,
        causal: Any,
        tokenizer: BaseTokenizer,
        *,
        shared: Shared | None = None,
        moves: Moves | None = None,
    ) -> None:
        moves = moves or Moves()
        device = decoder.device
        self._decoder, self._tokenizer, self.shared = decoder, tokenizer, shared
        self._base_says = BaseAnswers(causal)
        self._start = [t.to(device, torch.float32) for t in (memory.keys, memory.values)]
        self._sizes = [t.std(dim=(1, 2), keepdim=True) for t in self._start]  # (layers, 1, 1)
        self._read: Opening | None = None
        self._moved = [nn.Parameter(torch.zeros_like(tensor)) for tensor in self._start]
        self.parameters = [
            one for one, on in zip(self._moved, (moves.keys, moves.values), strict=True) if on
        ]

    @property
    def config(self) -> SeatsConfig:
        """The network's."""
        return self._decoder.config

    def ask(self, asked: Asked) -> Exercise:
        """A question in the rest of the template, and its answer."""
        return make_exercise(asked, config=self.config, tokenizer=self._tokenizer)

    def logits(self, exercises: Sequence[Exercise]) -> Tensor:
        """See `Subject`; all exercises stand behind one opening."""
        opening = self._seat(*self._pair())
        return self._decoder.logits(exercises, opening, self.shared)

    def _seat(self, keys: Tensor, values: Tensor) -> Opening:
        """The opening with this memory, read once for a memory. With gradients it is the last one
        that was read, seated again: between two verdicts, which read it, steps move it little, and
        it has as many tokens as all that stands behind it."""
        learning = torch.is_grad_enabled()
        if self._read is None or not (learning or self._read.holds(keys, values)):
            keys_now, values_now = keys.detach(), values.detach()
            with torch.no_grad():
                self._read = self._decoder.read_opening(keys_now, values_now, self.shared)
        return self._decoder.seat_again(self._read, keys, values) if learning else self._read

    def bare(self, prompts: Sequence[Ids]) -> list[tuple[int, ...]]:
        """See `Subject`: behind the base's own default opening."""
        return [(*self.config.opening_head, *prompt) for prompt in prompts]

    def know(self, exercises: Sequence[Exercise], path: Path) -> None:
        """See `Subject`."""
        self._base_says.know(exercises, self.bare([one.prompt for one in exercises]), path)

    def refer(self, exercises: Sequence[Exercise]) -> list[Exercise]:
        """See `Subject`."""
        return self._base_says.refer(exercises, self.bare([one.prompt for one in exercises]))

    def memory(self) -> Memory:
        """The memory as it is by now, on the CPU."""
        keys, values = (tensor.detach().cpu() for tensor in self._pair())
        return Memory(keys, values)

    def _pair(self) -> list[Tensor]:
        return [
            start + moved * size
            for start, moved, size in zip(self._start, self._moved, self._sizes, strict=True)
        ]


class MovableLora:
    """LoRA weights on their base: what moves are A and B, in units of their deviations."""

    def __init__(self, weights: LoraWeights, causal: Any, chat: Chat) -> None:
        self._causal, self._chat, self._weights = causal, chat, weights
        self._base_says = BaseAnswers(causal)
        device = next(causal.parameters()).device
        self._start = [
            (name, tensor.to(device, torch.float32))
            for name, f in weights.factors.items()
            for tensor in (f.a, f.b)
        ]
        self._sizes = [tensor.std() for _, tensor in self._start]
        self.parameters = [nn.Parameter(torch.zeros_like(tensor)) for _, tensor in self._start]

    def ask(self, asked: Asked) -> Exercise:
        """A question in the base's own chat, and its answer."""
        encode, end = self._chat.tokenizer.encode, self._chat.end_token
        before, after = self._chat.ask_ends()
        question = encode(asked.question)[:_MAX_QUESTION_TOKENS]
        answer = encode(asked.answer)[:_MAX_ANSWER_TOKENS]
        ended = (*answer, end) if asked.complete else tuple(answer)
        return Exercise((*before, *question, *after), ended)

    def logits(self, exercises: Sequence[Exercise]) -> Tensor:
        """See `Subject`."""
        with attached(self._causal, self._factors(), self._weights.scale):
            return torch.cat(predict(self._causal, *_split(exercises)))

    def bare(self, prompts: Sequence[Ids]) -> list[tuple[int, ...]]:
        """See `Subject`."""
        return [tuple(prompt) for prompt in prompts]

    def know(self, exercises: Sequence[Exercise], path: Path) -> None:
        """See `Subject`."""
        self._base_says.know(exercises, [one.prompt for one in exercises], path)

    def refer(self, exercises: Sequence[Exercise]) -> list[Exercise]:
        """See `Subject`."""
        return self._base_says.refer(exercises, [one.prompt for one in exercises])

    def weights(self) -> LoraWeights:
        """The weights as they are by now, on the CPU."""
        factors = {
            name: LoraFactors(a.detach().cpu(), b.detach().cpu())
            for name, (a, b) in self._factors().items()
        }
        return replace(self._weights, factors=factors)

    def _factors(self) -> Factors:
        now = [
            start + moved * size
            for (_, start), moved, size in zip(
                self._start, self.parameters, self._sizes, strict=True
            )
        ]
        names = [name for name, _ in self._start[::2]]
        return dict(zip(names, zip(now[::2], now[1::2], strict=True), strict=True))


def _split(exercises: Sequence[Exercise]) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    return [exercise.prompt for exercise in exercises], [exercise.answer for exercise in exercises]
