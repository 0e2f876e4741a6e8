"""Engine in llama.cpp: a GGUF file reads parts' keys and values, and continues them."""

import contextlib
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from d2l.bases.llama_cpp import Array, Llama, Piece
from d2l.errors import AdapterError
from d2l.parts.engine import LEAST_TEMPERATURE, Decoding, Effect, Judged, Token

if TYPE_CHECKING:
    from d2l.adapters.weights import Memory


@dataclass(frozen=True)
class LlamaCache:
    """Cells of what was read, as `Llama.take` gives them; None before the first token."""

    rows: Array | None

    @property
    def n_tokens(self) -> int:
        """Number of tokens in it."""
        return 0 if self.rows is None else int(self.rows.shape[1])


class LlamaEngine:
    """Engine of a base without an adapter's weights: answers are read off parts."""

    dtype = np.float32

    def __init__(self, llama: Llama) -> None:
        self.llama = llama
        self._lead: tuple[tuple[int, ...], LlamaCache] = (), LlamaCache(None)

    def read(self, ids: Sequence[int], effect: Effect) -> LlamaCache:
        """Read ids from the start of a prompt, without an adapter's weights."""
        if effect not in ("none", "unseated"):
            raise AdapterError(
                "llama.cpp reads the parts of an adapter, and not its weights",
                hint="torch does: --reader torch",
            )
        if not ids:
            return LlamaCache(None)
        self.llama.clear()
        self.llama.read([Piece(0, 0, ids)])
        return LlamaCache(self.llama.take(0))

    def hold(self, opening: Sequence[int], n_lead: int, memories: "Sequence[Memory]") -> LlamaCache:
        """Put memories of all layers behind an opening, which is read once."""
        llama, lead = self.llama, tuple(opening[:n_lead])
        if self._lead[0] != lead:
            self._lead = lead, self.read(lead, "none")
        first = self._lead[1].rows
        assert first is not None  # an opening has tokens
        keys, values = (
            np.concatenate([getattr(memory, name) for memory in memories], axis=1)
            for name in ("keys", "values")
        )
        if keys.shape[::2] != (llama.n_layers, first.shape[2]):
            raise AdapterError(
                f"a part of {keys.shape[2]} channels in {len(keys)} layers does not fit the base",
                hint="compile the document again",
            )
        rows = np.empty((len(first), len(lead) + keys.shape[1], first.shape[2]), np.float16)
        rows[:, : len(lead)] = first
        rows[: llama.n_layers, len(lead) :] = self._lay_out(keys, len(lead))
        rows[llama.n_layers :, len(lead) :] = values
        return LlamaCache(rows)

    def _lay_out(self, keys: Array, start: int) -> Array:
        """Lay keys (layers, tokens, channels) out as they are cached from a position on. The pairs
        of a head are neighbors in some files, and stand half a head apart in d2l's."""
        n_layers, n_tokens, n_channels = keys.shape
        heads = keys.reshape(n_layers, n_tokens, self.llama.n_heads, -1)
        if self.llama.rope.neighbors:
            halves = heads.reshape(*heads.shape[:3], 2, -1)
            heads = halves.swapaxes(3, 4).reshape(heads.shape)
        positions = np.arange(start, start + n_tokens)
        return self.llama.rope.rotate(heads, positions).reshape(n_layers, n_tokens, n_channels)

    def copy(self, cache: LlamaCache) -> LlamaCache:
        """Return the cache: `generate` does not change it."""
        return cache

    def compare(
        self, caches: Sequence[LlamaCache], ids: Sequence[int], refusal: Sequence[int]
    ) -> list[Judged]:
        """Read a question and the refusal behind each cache, as many in one batch as have room."""
        n_behind, judged = len(ids) + len(refusal) - 1, list[Judged]()
        while len(judged) < len(caches):
            left, n_free = caches[len(judged) :], self.llama.n_cells
            group = list[LlamaCache]()
            for cache in left[: self.llama.n_sequences]:
                n_free -= cache.n_tokens + n_behind
                if group and n_free < 0:
                    break
                group.append(cache)
            judged += self._compare(group, ids, refusal)
        return judged

    def _compare(
        self,
        caches: Sequence[LlamaCache],
        ids: Sequence[int],
        refusal: Sequence[int],
    ) -> list[Judged]:
        llama, behind = self.llama, [*ids, *refusal[:-1]]
        llama.clear()
        for n, cache in enumerate(caches):
            self._put(n, cache)
        pieces = [Piece(n, c.n_tokens, behind, len(refusal)) for n, c in enumerate(caches)]
        judged = []
        for n, logits in enumerate(llama.read(pieces)):
            log_probs = _normalize(logits)
            first = log_probs[0]
            silent = sum(log_probs[at, token] for at, token in enumerate(refusal))
            llama.cut(n, caches[n].n_tokens + len(ids) - 1)
            entropy, rows = -float(np.exp(first) @ first), llama.take(n)
            judged.append(Judged(entropy, float(np.exp(silent)), partial(LlamaCache, rows)))
        return judged

    def _put(self, sequence: int, cache: LlamaCache) -> None:
        if cache.rows is not None:
            self.llama.put(sequence, cache.rows)

    def generate(
        self, cache: LlamaCache, ids: Sequence[int], decoding: Decoding
    ) -> Generator[Token]:
        """Read ids behind a cache, and yield the answer's tokens."""
        llama, written, n_read = self.llama, list[int](), cache.n_tokens
        llama.clear()
        self._put(0, cache)
        draw, pieces = _make_draw(decoding), ids
        for _ in range(decoding.max_tokens):
            ((logits,),) = llama.read([Piece(0, n_read, pieces)])
            n_read += len(pieces)
            banned = decoding.banned
            if banned and written[len(written) - len(banned) + 1 :] == list(banned[:-1]):
                logits[banned[-1]] = -np.inf
            token = draw(logits)
            written.append(token)
            is_end = llama.is_end(token)
            yield Token(token, is_end, _rank(logits, token, decoding.n_top))
            if is_end:
                return
            pieces = [token]

    @contextlib.contextmanager
    def stoppable(self, is_due: Callable[[], bool]) -> Iterator[None]:
        """Let the reading of ids raise TimeoutError once it is due."""
        before, self.llama.is_due = self.llama.is_due, is_due
        try:
            yield
        finally:
            self.llama.is_due = before


def _normalize(logits: Array) -> Array:
    """Compute log-probabilities of the last axis in nats."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    normal: Array = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return normal


def _make_draw(decoding: Decoding) -> Callable[[Array], int]:
    """Make the choice of a token by its logits (vocabulary,)."""
    if decoding.temperature < LEAST_TEMPERATURE:
        return lambda logits: int(logits.argmax())
    source = np.random.default_rng(decoding.seed)
    top_p = 1.0 if decoding.top_p is None else decoding.top_p

    def draw(logits: Array) -> int:
        chances = np.exp(_normalize(logits.astype(np.float64) / decoding.temperature))
        order = np.argsort(-chances, kind="stable")
        before = np.cumsum(chances[order]) - chances[order]
        kept = order[before < max(top_p, 1e-9)]  # the likeliest is always kept
        return int(source.choice(kept, p=chances[kept] / chances[kept].sum()))

    return draw


def _rank(logits: Array, token: int, n_top: int | None) -> tuple[tuple[int, float], ...]:
    """Compute log-probabilities of a token and of the likeliest, by logits (vocabulary,)."""
    if n_top is None:
        return ()
    log_probs: Any = _normalize(logits)
    top = np.argsort(-log_probs, kind="stable")[:n_top]
    return tuple((int(one), float(log_probs[one])) for one in (token, *top))
