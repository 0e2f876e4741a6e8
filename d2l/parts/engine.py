"""Engine: all that answers need of the program that runs a base. Needs no torch.

Token ids in; caches, judged questions and tokens out. A cache is a handle that only its engine
reads, so another program can stand in the place of torch.
"""

from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypeAlias

if TYPE_CHECKING:
    from d2l.adapters.weights import LoraWeights, Memory

#: Lowest temperature of sampling: below, the likeliest token is drawn anyway, and logits overflow.
LEAST_TEMPERATURE = 1e-3
#: Handle of token ids and memories that an engine has read, which only that engine reads;
#: `n_tokens`: their number.
Cache: TypeAlias = Any
#: LoRA weights in effect while a cache is read and continued: the whole adapter, the adapter
#: without its seats, none, or the given weights.
Effect: TypeAlias = "Literal['whole', 'unseated', 'none'] | LoraWeights"


@dataclass(frozen=True)
class Decoding:
    """Choice of tokens: greedy with a `temperature` below `LEAST_TEMPERATURE`, else sampled from
    the likeliest tokens with the probability `top_p` together. `seed`: None draws from torch's own
    state. `banned`: ids that may not stand one behind another. `n_top`: number of likeliest tokens
    told with each token; None: no log-probabilities are computed."""

    max_tokens: int
    temperature: float = 0.0
    top_p: float | None = None
    seed: int | None = None
    banned: tuple[int, ...] = ()
    n_top: int | None = None


class Token(NamedTuple):
    """A token of an answer; `is_end`: it ends the answer. `log_probs`: (id, nats) of the token
    before sampling, then of the likeliest."""

    id: int
    is_end: bool
    log_probs: tuple[tuple[int, float], ...] = ()


class Judged(NamedTuple):
    """A question read behind a cache: entropy of the answer's first token in nats, probability of
    the refusal, and `take`, which gives the cache with the question but for its last token."""

    entropy: float
    refusal: float
    take: Callable[[], Cache]


class Engine(Protocol):
    """A base in memory with an adapter on it, for one thread. `dtype`: the torch precision in which
    it takes memories."""

    dtype: Any

    def read(self, ids: Sequence[int], effect: Effect) -> Cache:
        """Read ids from the start of a prompt."""
        ...

    def hold(self, opening: Sequence[int], n_lead: int, memories: "Sequence[Memory]") -> Cache:
        """Read the first `n_lead` ids of an opening, and put memories behind them. Layers below the
        memories hold the rest of the opening, a token a seat. Raises AdapterError if a memory does
        not fit."""
        ...

    def copy(self, cache: Cache) -> Cache:
        """Copy a cache, since `generate` uses caches up."""
        ...

    def compare(
        self, caches: Sequence[Cache], ids: Sequence[int], refusal: Sequence[int]
    ) -> list[Judged]:
        """Read a question's ids behind each cache, side by side, and the refusal behind them."""
        ...

    def generate(self, cache: Cache, ids: Sequence[int], decoding: Decoding) -> Generator[Token]:
        """Read ids behind a cache, and yield the answer's tokens up to its end or the limit. Close
        the iterator before the next call."""
        ...

    def stoppable(self, is_due: Callable[[], bool]) -> AbstractContextManager[None]:
        """Let the reading of ids raise TimeoutError once it is due."""
        ...
