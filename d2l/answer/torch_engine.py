"""Engine in torch: a base with PEFT's adapter on it reads token ids and continues them."""

import contextlib
import copy
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, TemperatureLogitsWarper, TopPLogitsWarper

from d2l.adapters.weights import LoraWeights, Memory
from d2l.answer.forward import extend, extend_in_pieces, read_logits
from d2l.answer.lora_hooks import attached, on_device
from d2l.answer.prefix import PrefixMaker, without_seats
from d2l.parts.engine import LEAST_TEMPERATURE, Decoding, Effect, Judged, Token


@dataclass(frozen=True)
class TorchCache:
    """Keys and values of what was read, None before the first token, and the weights in effect."""

    past: Any  # DynamicCache | None
    effect: Effect

    @property
    def n_tokens(self) -> int:
        """Number of tokens in it."""
        return 0 if self.past is None else int(self.past.get_seq_length())


class TorchEngine:
    """Engine of a PeftModel, whose active adapter answers."""

    def __init__(self, tuned: Any) -> None:
        self._tuned, self.dtype = tuned, tuned.get_base_model().dtype
        self._prefix: tuple[tuple[object, ...], PrefixMaker] | None = None

    @contextlib.contextmanager
    def using(self, effect: Effect) -> Iterator[None]:
        """Put weights into effect in a block; the whole adapter is on again behind it."""
        with contextlib.ExitStack() as block:
            if effect == "unseated":
                block.enter_context(without_seats(self._tuned))
            elif effect != "whole":
                block.enter_context(self._tuned.disable_adapter())
            if isinstance(effect, LoraWeights):
                causal = self._tuned.get_base_model()
                factors = on_device(effect, causal.device)
                block.enter_context(attached(causal, factors, effect.scale))
            yield

    @torch.inference_mode()
    def read(self, ids: Sequence[int], effect: Effect) -> TorchCache:
        """Read ids from the start of a prompt."""
        if not ids:
            return TorchCache(None, effect)
        with self.using(effect):
            return TorchCache(self._extend(None, ids)[0], effect)

    @torch.inference_mode()
    def hold(self, opening: Sequence[int], n_lead: int, memories: Sequence[Memory]) -> TorchCache:
        """Put memories behind the lead of an opening; the opening is read once."""
        first = int(self._tuned.get_base_model().config.num_hidden_layers) - len(memories[0].keys)
        key = (tuple(opening), n_lead, first)
        if self._prefix is None or self._prefix[0] != key:
            made = PrefixMaker(self._tuned, opening, n_lead=n_lead, first_layer=first)
            self._prefix = key, made
        return TorchCache(self._prefix[1].make_cache(memories), "unseated")

    def copy(self, cache: TorchCache) -> TorchCache:
        """Copy a cache."""
        return copy.deepcopy(cache) if cache.past is not None else cache

    @torch.inference_mode()
    def compare(
        self, caches: Sequence[TorchCache], ids: Sequence[int], refusal: Sequence[int]
    ) -> list[Judged]:
        """Read a question and the refusal behind each cache, in one batch."""
        lengths = [cache.n_tokens for cache in caches]
        longest, behind = max(lengths), [*ids, *refusal[:-1]]
        stacked: Any = DynamicCache()
        for layer, same in enumerate(zip(*(c.past.layers for c in caches), strict=True)):
            pads = [(0, 0, longest - n, 0) for n in lengths]
            keys = [functional.pad(own.keys, pad) for own, pad in zip(same, pads, strict=True)]
            values = [functional.pad(own.values, pad) for own, pad in zip(same, pads, strict=True)]
            stacked.update(torch.cat(keys), torch.cat(values), layer)
        causal, effect = self._tuned.get_base_model(), caches[0].effect
        rows = torch.tensor([behind] * len(caches), device=causal.device)
        seen = [[0] * (longest - n) + [1] * (n + len(behind)) for n in lengths]
        mask = torch.tensor(seen, device=causal.device)
        with self.using(effect):
            past, states = extend_in_pieces(causal, rows, mask=mask, cache=stacked)
        states = states[:, -len(refusal) :]  # behind the question, and behind each token
        log_probs = read_logits(causal, states).float().log_softmax(dim=-1)
        first = log_probs[:, 0]
        entropies = -(first.exp() * first).sum(dim=-1)  # nats, (caches,)
        wanted = torch.tensor(list(refusal), device=causal.device)
        silent = log_probs.gather(2, wanted.expand(len(caches), -1)[..., None]).sum(dim=(1, 2))

        def take(n: int) -> TorchCache:
            row, span = DynamicCache(), slice(longest - lengths[n], longest + len(ids) - 1)
            for layer, own in enumerate(past.layers):
                row.update(own.keys[n : n + 1, :, span], own.values[n : n + 1, :, span], layer)
            return TorchCache(row, effect)

        rates = zip(entropies.tolist(), silent.exp().tolist(), strict=True)
        return [Judged(*pair, partial(take, n)) for n, pair in enumerate(rates)]

    @torch.inference_mode()
    def generate(
        self, cache: TorchCache, ids: Sequence[int], decoding: Decoding
    ) -> Generator[Token]:
        """Read ids behind a cache, and yield the answer's tokens."""
        mask = torch.ones((1, cache.n_tokens + len(ids)), dtype=torch.long)
        mask = mask.to(self._tuned.device)  # reading changes the cache
        with self.using(cache.effect):
            past, states = self._extend(cache.past, ids)
            logits = read_logits(self._tuned, states[:, -1])
            steps = decode(self._tuned, past, mask, logits, decoding, ends=self._list_ends())
            yield from (step[0] for step in steps)

    def _extend(self, past: Any, ids: Sequence[int]) -> tuple[Any, Any]:
        """Read ids behind keys and values, in pieces; returns the cache and the last states."""
        n_read = 0 if past is None else past.get_seq_length()
        rows = torch.tensor([list(ids)], device=self._tuned.device)
        mask = torch.ones((1, n_read + len(ids)), dtype=torch.long, device=rows.device)
        return extend_in_pieces(self._tuned, rows, mask=mask, cache=past)

    def _list_ends(self) -> tuple[int, ...]:
        """List the tokens that end an answer."""
        ends = self._tuned.generation_config.eos_token_id  # None, a token or a list of tokens
        return tuple(ends) if isinstance(ends, list) else () if ends is None else (ends,)

    @contextlib.contextmanager
    def stoppable(self, is_due: Callable[[], bool]) -> Iterator[None]:
        """Let the reading of ids raise TimeoutError at the next layer once it is due."""

        def check(_layer: Any, args: tuple[Tensor, ...]) -> None:
            reads_prompt = args[0].shape[1] > 1  # states (rows, tokens, hidden)
            if reads_prompt and is_due():
                raise TimeoutError("the time was over before the answer began")

        layers = self._tuned.get_base_model().model.layers
        hooks = [layer.register_forward_pre_hook(check) for layer in layers]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@torch.inference_mode()
def decode(
    model: Any, past: Any, mask: Tensor, logits: Tensor, decoding: Decoding, *, ends: Sequence[int]
) -> Iterator[dict[int, Token]]:
    """Continue rows that a model has read: the next token of each row that is not finished, by the
    row's number. Finished rows are computed until they are half of the rows.

    `past`: their cache, used up; `mask` (rows, tokens), 0 for padding; `logits` (rows, vocabulary)
    behind the last token. `ends`: tokens that end an answer.
    """
    written: list[list[int]] = [[] for _ in range(len(logits))]
    rows = list(range(len(written)))  # numbers of the rows that are computed
    unfinished = set(rows)
    draw = _make_draw(decoding, logits.device)
    for left in reversed(range(decoding.max_tokens)):
        logits = logits.float()
        for index, row in enumerate(rows if decoding.banned else ()):
            if written[row][-len(decoding.banned) + 1 :] == list(decoding.banned[:-1]):
                logits[index, decoding.banned[-1]] = -torch.inf
        chosen = draw(logits)  # (rows,)
        step = {}
        for index, (row, token) in enumerate(zip(rows, chosen.tolist(), strict=True)):
            if row in unfinished:
                written[row].append(token)
                log_probs = _rank(logits[index], token, decoding.n_top)
                step[row] = Token(token, token in ends, log_probs)
        yield step
        unfinished -= {row for row, token in step.items() if token.is_end}
        if not unfinished or not left:
            return
        if 2 * len(unfinished) <= len(rows) and hasattr(past, "batch_select_indices"):
            kept = torch.tensor([n for n, row in enumerate(rows) if row in unfinished])
            kept = kept.to(mask.device)
            past.batch_select_indices(kept)
            chosen, mask, rows = chosen[kept], mask[kept], [rows[n] for n in kept.tolist()]
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        past, states = extend(model, chosen[:, None], mask=mask, cache=past)
        logits = read_logits(model, states[:, -1])


def _make_draw(decoding: Decoding, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Make the choice of a token (rows,) by logits (rows, vocabulary)."""
    if decoding.temperature < LEAST_TEMPERATURE:
        return lambda logits: logits.argmax(dim=-1)
    heat: Any = TemperatureLogitsWarper(decoding.temperature)
    cut: Any = TopPLogitsWarper(1.0 if decoding.top_p is None else decoding.top_p)
    seed = decoding.seed
    source = None if seed is None else torch.Generator(device).manual_seed(seed)

    def draw(logits: Tensor) -> Tensor:
        scores = heat(None, logits)
        scores = scores if decoding.top_p in (None, 1.0) else cut(None, scores)
        drawn: Tensor = scores.softmax(dim=-1).multinomial(1, generator=source)[:, 0]
        return drawn

    return draw


def _rank(logits: Tensor, token: int, n_top: int | None) -> tuple[tuple[int, float], ...]:
    """Compute log-probabilities of a token and of the likeliest, by logits (vocabulary,)."""
    if n_top is None:
        return ()
    log_probs = logits.log_softmax(dim=-1)
    top = log_probs.topk(min(n_top, len(log_probs))).indices.tolist()
    return tuple((one, float(log_probs[one])) for one in (token, *top))
