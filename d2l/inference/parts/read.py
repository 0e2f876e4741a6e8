"""Reading of chosen parts before a prompt: a cache for memories, hooks for ranks."""

import contextlib
import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from torch.nn import functional
from transformers import DynamicCache

from d2l.adapters.deltas import keep_ranks
from d2l.adapters.info import AdapterInfo
from d2l.adapters.parts import Parts
from d2l.adapters.peft_folder import read_adapter
from d2l.adapters.weights import LoraWeights
from d2l.errors import AdapterError
from d2l.inference.attached import attached, on_device
from d2l.inference.forward import extend_in_pieces, read_logits
from d2l.inference.parts.choose import Choice
from d2l.inference.parts.prefix import PrefixMaker, without_seats

#: Number of parts whose caches stay in memory, each some megabytes.
_MOST_CACHES = 16
#: Tokens of the refusal that an answer may not have, once it was judged, or to a task: "The
#: document does".
N_BANNED = 3


class PartPrompt(NamedTuple):
    """Ids of a prompt, the cache of its beginning, and the parts that are asked. `banned`: ids that
    may not stand in the answer one behind another."""

    ids: list[int]
    cache: DynamicCache | None = None
    choice: Choice | None = None
    banned: tuple[int, ...] = ()


class PartReader:
    """Reader of one adapter's parts in front of prompts; `tuned`: a PeftModel with it active."""

    def __init__(self, info: AdapterInfo, parts: Parts, tuned: Any, refusal: Sequence[int]) -> None:
        """`refusal`: the first tokens of the refusal, whose likelihood judges a part."""
        self._info, self._parts, self._tuned, self._refusal = info, parts, tuned, tuple(refusal)
        self._caches: OrderedDict[tuple[tuple[int, ...], int], DynamicCache] = OrderedDict()
        self._made: PrefixMaker | None = None

    @property
    def joins(self) -> bool:
        """True if the chosen parts are read together, as ranks of one adapter; else each is read
        apart, and the part with the best answer is asked."""
        return self._parts.stored is None

    def forget(self) -> None:
        """Drop the caches of parts: the next question reads its parts from their files."""
        self._caches.clear()

    @contextlib.contextmanager
    def reading(
        self,
        choice: Choice,
        rest: list[int],
        lead: Sequence[int] | None = None,
        full: list[int] | None = None,
    ) -> Iterator[PartPrompt]:
        """Let the model read chosen parts before a prompt's other ids, `rest`; the first part of
        the prompt's choice is the part that is read. `lead`: ids before the parts, if they stand
        behind an opening; None: those that the parts were read behind. `full`: the other ids where
        a full answer is wanted, for which several parts are judged by `rest`."""
        if self.joins:
            causal, weights = self._tuned.get_base_model(), self._take_ranks(choice.indices)
            factors = on_device(weights, causal.device)
            with self._tuned.disable_adapter(), attached(causal, factors, weights.scale):
                yield PartPrompt(rest, None, choice)
            return
        with without_seats(self._tuned), torch.inference_mode():
            prefixes, full = self._find_prefixes(lead), rest if full is None else full
            groups = [choice.indices] if choice.together else [(n,) for n in choice.indices]
            cache, n_read = None, 0
            if len(groups) > 1:
                caches = [self._find_cache(prefixes, group) for group in groups]
                choice, cache = self._read_apart(choice, caches, rest)
                n_read = len(rest) - 1
            if cache is None or full != rest:
                group = choice.indices if choice.together else choice.best
                cache = copy.deepcopy(self._find_cache(prefixes, group, has_ends=full == rest))
                n_read = 0
            # Ids of the cache are not read again: their number counts.
            begun = [rest[0]] * (cache.get_seq_length() - n_read)
            banned = self._refusal[:N_BANNED] if choice.must_answer else ()
            yield PartPrompt([*begun, *full], cache, choice, banned)

    def _read_apart(
        self, choice: Choice, caches: Sequence[DynamicCache], rest: list[int]
    ) -> tuple[Choice, DynamicCache]:
        """Read the question behind each part, side by side, and the refusal behind it. Returns the
        parts, the best answer first, and the cache of the first, up to the prompt's last token."""
        lengths = [cache.get_seq_length() for cache in caches]
        longest, behind = max(lengths), [*rest, *self._refusal[:-1]]
        stacked: Any = DynamicCache()
        for layer, same in enumerate(zip(*(_list_layers(cache) for cache in caches), strict=True)):
            pads = [(0, 0, longest - n, 0) for n in lengths]
            keys = [functional.pad(own.keys, pad) for own, pad in zip(same, pads, strict=True)]
            values = [functional.pad(own.values, pad) for own, pad in zip(same, pads, strict=True)]
            stacked.update(torch.cat(keys), torch.cat(values), layer)
        causal = self._tuned.get_base_model()
        ids = torch.tensor([behind] * len(caches), device=causal.device)
        seen = [[0] * (longest - n) + [1] * (n + len(behind)) for n in lengths]
        mask = torch.tensor(seen, device=causal.device)
        cache, states = extend_in_pieces(causal, ids, mask=mask, cache=stacked)
        states = states[:, -len(self._refusal) :]  # behind the prompt, and behind each token
        log_probs = read_logits(causal, states).float().log_softmax(dim=-1)
        first = log_probs[:, 0]
        entropies = -(first.exp() * first).sum(dim=-1)  # nats, (parts,)
        wanted = torch.tensor(self._refusal, device=causal.device)
        silent = log_probs.gather(2, wanted.expand(len(caches), -1)[..., None]).sum(dim=(1, 2))
        weighed, best = choice.weigh(entropies.tolist(), silent.exp().tolist())
        row = DynamicCache()
        span = slice(longest - lengths[best], longest + len(rest) - 1)
        for layer, own in enumerate(_list_layers(cache)):
            pair = (t[best : best + 1, :, span] for t in (own.keys, own.values))
            row.update(*pair, layer)
        return weighed, row

    def _find_cache(
        self, prefixes: PrefixMaker, group: tuple[int, ...], *, has_ends: bool = True
    ) -> DynamicCache:
        """Find the cache of parts one behind another. Without ends a full answer is the base's own:
        ends learned few words."""
        n_end = 0 if has_ends else self._parts.index.n_end
        if (key := (group, n_end)) not in self._caches:
            dtype = self._tuned.get_base_model().dtype
            memories = [self._parts.read(n, dtype).first(-n_end or None) for n in group]
            self._caches[key] = prefixes.make_cache(memories)
        self._caches.move_to_end(key)
        while len(self._caches) > _MOST_CACHES:
            self._caches.popitem(last=False)
        return self._caches[key]

    def _find_prefixes(self, lead: Sequence[int] | None) -> PrefixMaker:
        """Find the maker of caches for a lead; another lead makes the caches anew."""
        opening = self._parts.index.opening
        assert opening is not None
        ids = opening.ids if lead is None else tuple(lead)
        if self._made is None or self._made.opening != ids:
            n_lead = len(ids) if not opening.seats else 1  # the sink
            first = self._tuned.get_base_model().config.num_hidden_layers
            first -= len(self._parts.read(0).keys)
            self._made = PrefixMaker(self._tuned, ids, n_lead=n_lead, first_layer=first)
            self._caches.clear()
        return self._made

    @cached_property
    def _weights(self) -> LoraWeights:
        return read_adapter(self._info.folder)

    def _take_ranks(self, indices: Sequence[int]) -> LoraWeights:
        """Select the ranks of these parts' chunks, and of the bias that all documents share."""
        provenance = self._info.provenance
        assert provenance is not None  # it says that there are parts
        spans = [provenance.chunks[index].ranks for index in indices] + [provenance.bias_ranks]
        if None in spans[:-1]:
            raise AdapterError(
                f"{self._info.folder}: does not say which ranks its parts have",
                hint="ask with --whole, or compile the document again",
            )
        ranks = [rank for span in spans if span is not None for rank in range(*span)]
        return keep_ranks(self._weights, torch.tensor(ranks))


def _list_layers(cache: Any) -> list[Any]:
    """List the layers of a cache, each with keys and values (rows, heads, tokens, dim)."""
    return list(cache.layers)
