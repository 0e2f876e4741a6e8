"""Chosen parts → what the model reads before a prompt: a cache for memories, hooks for ranks."""

import contextlib
import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch

from d2l.adapters.deltas import keep_ranks
from d2l.adapters.info import AdapterInfo
from d2l.adapters.module_names import parse
from d2l.adapters.parts import Parts
from d2l.adapters.peft_folder import read_adapter
from d2l.adapters.weights import LoraWeights, Memory
from d2l.errors import AdapterError
from d2l.inference.attached import attached, on_device
from d2l.inference.part_prefix import PrefixMaker, without_seats

#: Joined memories whose caches stay in memory; each has some megabytes.
_N_KEPT = 8


class PartReader:
    """Puts parts of one adapter in front of prompts of `tuned`, a PeftModel with it active."""

    def __init__(self, info: AdapterInfo, parts: Parts, tuned: Any) -> None:
        self._info, self._parts, self._tuned = info, parts, tuned
        self._kept: OrderedDict[tuple[int, ...], Any] = OrderedDict()

    def fit(self, places: Sequence[int]) -> tuple[int, ...]:
        """The first of some parts that together have room in one opening."""
        opening = self._parts.index.opening
        if opening is None:
            return tuple(places)
        fitting, room = list[int](), len(opening.ids) - 1
        for place in places:
            n_seats = self._parts.records[place].n_seats
            if n_seats <= room:
                fitting.append(place)
                room -= n_seats
        return tuple(fitting)

    @contextlib.contextmanager
    def reading(self, places: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Any]]:
        """A block in which the model reads these parts alone. Gives the ids that the prompt begins
        with, and their cache; nothing and None where the parts are ranks."""
        order = tuple(sorted(places))  # as they stand in the document
        if self._parts.read is None:
            causal, weights = self._tuned.get_base_model(), self._take_ranks(order)
            factors = on_device(weights, causal.device)
            with self._tuned.disable_adapter(), attached(causal, factors, weights.scale):
                yield (), None
            return
        with without_seats(self._tuned):
            cache = self._find_cache(order)
            yield self._prefixes.opening[: cache.get_seq_length()], copy.deepcopy(cache)

    def _find_cache(self, places: tuple[int, ...]) -> Any:
        if places not in self._kept:
            read = self._parts.read
            assert read is not None
            memories = [read(place) for place in places]
            keys = torch.cat([memory.keys for memory in memories], dim=1)  # (layers, seats, heads)
            values = torch.cat([memory.values for memory in memories], dim=1)
            self._kept[places] = self._prefixes.make_cache(Memory(keys, values))
        self._kept.move_to_end(places)
        while len(self._kept) > _N_KEPT:
            self._kept.popitem(last=False)
        return self._kept[places]

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

    def _take_ranks(self, places: Sequence[int]) -> LoraWeights:
        """The ranks of these parts' chunks, and of what the network adds to every document."""
        made = self._info.provenance
        assert made is not None  # it says that there are parts
        spans = [made.chunks[place].ranks for place in places] + [made.bias_ranks]
        if None in spans[:-1]:
            raise AdapterError(
                f"{self._info.folder}: does not say which ranks its parts have",
                hint="ask with --whole, or compile the document again",
            )
        ranks = [rank for span in spans if span is not None for rank in range(*span)]
        return keep_ranks(self._weights, torch.tensor(ranks))
