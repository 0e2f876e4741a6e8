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
from d2l.adapters.module_names import parse
from d2l.adapters.parts import Parts
from d2l.adapters.peft_folder import read_adapter
from d2l.adapters.weights import LoraWeights
from d2l.bases.models import read_out
from d2l.errors import AdapterError
from d2l.inference.attached import attached, on_device
from d2l.inference.forward import extend_in_pieces
from d2l.inference.parts.choose import JOINED_PARTS, READ_PARTS, Choice
from d2l.inference.parts.prefix import PrefixMaker, without_seats

#: Number of parts whose caches stay in memory, each some megabytes.
_MOST_CACHES = 16


class PartPrompt(NamedTuple):
    """Ids of a prompt, the cache of its beginning, and the parts that are asked."""

    ids: list[int]
    cache: DynamicCache | None = None
    choice: Choice | None = None


class PartReader:
    """Reader of one adapter's parts in front of prompts; `tuned`: a PeftModel with it active."""

    def __init__(self, info: AdapterInfo, parts: Parts, tuned: Any, silence: int) -> None:
        """`silence`: first token of the refusal."""
        self._info, self._parts, self._tuned, self._silence = info, parts, tuned, silence
        self._caches: OrderedDict[int, DynamicCache] = OrderedDict()

    @property
    def joins(self) -> bool:
        """True if the chosen parts are read together, as ranks of one adapter; else each is read
        apart, and the part with the most certain answer is asked."""
        return self._parts.stored is None

    @property
    def usual(self) -> int:
        """Number of parts that are read if the options name none."""
        return JOINED_PARTS if self.joins else READ_PARTS

    def forget(self) -> None:
        """Drop the caches of parts: the next question reads its parts from their files."""
        self._caches.clear()

    @contextlib.contextmanager
    def reading(self, choice: Choice, rest: list[int]) -> Iterator[PartPrompt]:
        """Let the model read chosen parts before a prompt's other ids, `rest`; the first part of
        the prompt's choice is the part that is read."""
        if self.joins:
            causal, weights = self._tuned.get_base_model(), self._take_ranks(choice.indices)
            factors = on_device(weights, causal.device)
            with self._tuned.disable_adapter(), attached(causal, factors, weights.scale):
                yield PartPrompt(rest, None, choice)
            return
        with without_seats(self._tuned), torch.inference_mode():
            caches = [self._find_cache(index) for index in choice.indices]
            if len(caches) == 1:
                cache = copy.deepcopy(caches[0])
            else:
                choice, cache = self._read_apart(choice, caches, rest)
            n_seats = self._parts.records[choice.indices[0]].n_seats
            yield PartPrompt([*self._prefixes.opening[: 1 + n_seats], *rest], cache, choice)

    def _read_apart(
        self, choice: Choice, caches: Sequence[DynamicCache], rest: list[int]
    ) -> tuple[Choice, DynamicCache]:
        """Read the question behind each part, side by side. Returns the parts, the most certain
        answer first, and the cache of the first, up to the prompt's last token."""
        lengths = [cache.get_seq_length() for cache in caches]
        longest = max(lengths)
        stacked: Any = DynamicCache()
        for layer, same in enumerate(zip(*(_list_layers(cache) for cache in caches), strict=True)):
            pads = [(0, 0, longest - n, 0) for n in lengths]
            keys = [functional.pad(own.keys, pad) for own, pad in zip(same, pads, strict=True)]
            values = [functional.pad(own.values, pad) for own, pad in zip(same, pads, strict=True)]
            stacked.update(torch.cat(keys), torch.cat(values), layer)
        causal = self._tuned.get_base_model()
        ids = torch.tensor([rest] * len(caches), device=causal.device)
        seen = [[0] * (longest - n) + [1] * (n + len(rest)) for n in lengths]
        mask = torch.tensor(seen, device=causal.device)
        cache, states = extend_in_pieces(causal, ids, mask=mask, cache=stacked)
        log_probs = read_out(causal, states[:, -1].contiguous()).float().log_softmax(dim=-1)
        entropies = -(log_probs.exp() * log_probs).sum(dim=-1)  # nats, (parts,)
        silent = log_probs[:, self._silence].exp()
        weighed, first = choice.weigh(entropies.tolist(), silent.tolist())
        row = DynamicCache()
        start = longest - lengths[first]
        for layer, own in enumerate(_list_layers(cache)):
            pair = (t[first : first + 1, :, start:-1] for t in (own.keys, own.values))
            row.update(*pair, layer)
        return weighed, row

    def _find_cache(self, index: int) -> DynamicCache:
        if index not in self._caches:
            memory = self._parts.read(index, self._tuned.get_base_model().dtype)
            self._caches[index] = self._prefixes.make_cache(memory)
        self._caches.move_to_end(index)
        while len(self._caches) > _MOST_CACHES:
            self._caches.popitem(last=False)
        return self._caches[index]

    @cached_property
    def _prefixes(self) -> PrefixMaker:
        opening = self._parts.index.opening
        assert opening is not None
        layers = {
            module.layer
            for module in map(parse, self._info.module_names)
            if module.short == "k_proj" and module.layer is not None
        }
        return PrefixMaker(self._tuned, opening.ids, sorted(layers))

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
