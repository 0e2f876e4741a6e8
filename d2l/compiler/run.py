"""Documents → adapter: `load` loads what executes a plan, `run` makes the adapter.

The pipeline that the package exists for, readable from top to bottom. Writes nothing, prints
nothing.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from d2l.adapters.merge_methods import Counted, compress
from d2l.adapters.peft_folder import AdapterContent, pick_torch_dtype
from d2l.adapters.weights import LoraWeights, Memory
from d2l.bases import nf4
from d2l.bases.devices import pick_dtype
from d2l.compiler import part_cache
from d2l.compiler.content import make_content
from d2l.compiler.part_cache import NOTHING, Found
from d2l.compiler.plan import CompilePlan
from d2l.compiler.timing import remember_rate
from d2l.documents.chunks import Chunk
from d2l.errors import OptionError
from d2l.files.paths import remember
from d2l.hypernets.network import Loaded
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.protocol import Assembled, Part
from d2l.progress import Progress, silent


def look_up(plan: CompilePlan) -> Found:
    """Look up what the cache holds for a plan, if its options allow that; raises OptionError."""
    if not plan.options.cache:
        return NOTHING
    return part_cache.look_up(plan, base_dtype=_pick_base_dtype(plan))


def run(
    plan: CompilePlan,
    loaded: Loaded | None,
    *,
    watch: Progress = silent,
    found: Found = NOTHING,
) -> AdapterContent:
    """Read the chunks, write their weights, and merge them to one adapter, in memory.

    One chunk's activations are on the device at a time; parts wait on the CPU. `loaded` is what
    `load` gave for a plan of the same network: many documents, loaded once. `found` is what
    `look_up` gave; if it holds all of the adapter, `loaded` may be None. Raises D2LError.
    """
    start = time.perf_counter()
    assembled = found.assembled
    if assembled is None:
        assert loaded is not None
        assembled = assemble(plan, loaded, watch=watch, found=found)
    weights, errors = assembled.weights, dict[str, float]()
    if plan.rank < weights.rank:
        weights, errors = compress(weights, plan.rank, device=plan.array_device)
    content = make_content(plan, assembled, weights, errors)
    seconds = time.perf_counter() - start
    remember({document.digest: Path(document.name) for document in plan.documents})
    remember_network(plan, content)
    if loaded is not None and not found.n_cached:  # the cache's rate is nobody's
        remember_rate(plan, loaded.device, seconds)
    return content


def assemble(
    plan: CompilePlan,
    loaded: Any,
    *,
    watch: Progress = silent,
    found: Found = NOTHING,
    first: Any = None,
) -> Assembled:
    """Read the chunks, write their weights and join them.

    `first` is what the network reads of the first chunk, if that is known.
    """
    kept = list[Memory]()

    def _make_each() -> Iterator[Part]:
        for chunk in watch(plan.chunks, "compiling"):
            part, own = _make_parts(chunk, loaded, found, None if chunk.index else first)
            kept.extend([own] if isinstance(own, Memory) else [])
            if _has_share(chunk):
                yield part

    # One by one: the network may join them without holding all.
    parts = Counted(_make_each(), sum(map(_has_share, plan.chunks)))
    assembled = join(parts, loaded, plan.options)
    found.keep_assembled(assembled, plan.config.bias_rank)
    return replace(assembled, parts=tuple(kept))


def _has_share(chunk: Chunk) -> bool:
    """Whether a chunk takes part in the adapter, which the chunks before may have filled."""
    return bool(chunk.rank or not chunk.part_rank)


def join(parts: Iterable[Part], loaded: Any, options: CompileOptions) -> Assembled:
    """Join parts to one adapter, laid out as the cache would give it back."""
    return _as_stored(loaded.assemble(parts, options))


def _as_stored(assembled: Assembled) -> Assembled:
    """Lay the values out as the cache would give them back."""
    weights = part_cache.as_stored(assembled.weights)
    assert isinstance(weights, LoraWeights)
    return Assembled(weights, assembled.memory)


def _make_parts(chunk: Chunk, loaded: Any, found: Found, read: Any) -> tuple[Part, Part | None]:
    """Take a chunk's share of the adapter, and its memory of its own where that is kept, from the
    cache, or have the network write them; the base reads the chunk once for both."""
    share, own = found.part(chunk.index), found.own_part(chunk.index)
    if read is None and (share is None or (own is None and chunk.part_rank)):
        read = loaded.read(chunk.token_ids)
    if share is None:
        share = part_cache.as_stored(loaded.make_part(chunk.token_ids, chunk.rank, read))
        found.keep_part(chunk.index, share)
    if own is None and chunk.part_rank:
        own = part_cache.as_kept(loaded.make_part(chunk.token_ids, chunk.part_rank, read))
        found.keep_own_part(chunk.index, own)
    return share, own


def remember_network(plan: CompilePlan, content: AdapterContent) -> None:
    """Note where the network lies, for programs that know only its digest."""
    provenance = content.provenance
    assert provenance is not None
    remember({provenance.checkpoint.sha256 or "": plan.checkpoint.path})


def load(plan: CompilePlan) -> Loaded:
    """Load the base, up to the last layer that is read, and the network; raises D2LError."""
    loaded = plan.network.load(device=plan.device, dtype=_pick_base_dtype(plan))
    if plan.options.encoder == "nf4":
        nf4.round_linears(loaded.encode.model)
    loaded.read_ahead(plan.chunks[0].token_ids)
    return loaded


def _pick_base_dtype(plan: CompilePlan) -> torch.dtype:
    """Pick the precision that the base runs in: fp32 if the network imposes values on it."""
    wanted = plan.options.base_dtype
    if wanted is None:
        return torch.float32 if plan.network.imposes_on_base else pick_dtype(plan.device)
    dtype = pick_torch_dtype(wanted)
    if plan.network.imposes_on_base and dtype != torch.float32:
        raise OptionError(
            f"{plan.checkpoint.name}: its base runs in fp32, not in {wanted}",
            hint="leave the dtype of the base out",
        )
    return dtype
