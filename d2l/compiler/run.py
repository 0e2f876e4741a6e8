"""Documents or a task → adapter: `load` loads base and network for a plan, `run` makes the adapter.

The main pipeline of the package, to be read from top to bottom. Writes nothing, prints nothing.
"""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from d2l.adapters.merge_methods import Counted, compress
from d2l.adapters.peft_folder import AdapterContent, pick_torch_dtype
from d2l.adapters.weights import Memory
from d2l.bases.activations import Activations, count_together
from d2l.bases.devices import is_cuda
from d2l.compiler.chunk_cache import NOTHING, Cached, Entry, round_part
from d2l.compiler.content import make_content
from d2l.compiler.plan import CompilePlan
from d2l.compiler.timing import remember_rate
from d2l.documents.chunks import Chunk
from d2l.files.known_paths import remember
from d2l.hypernets.protocol import Assembled, ChunkWeights, Loaded
from d2l.progress import Progress, announce, silent


def load(plan: CompilePlan, watch: Progress = silent) -> Loaded:
    """Load the base, up to the last layer that the network reads, and the network; raises
    D2LError."""
    plan.network.prepare(device=plan.device, watch=watch)
    dtype = pick_torch_dtype(plan.base_dtype)
    loaded = plan.network.load(device=plan.device, dtype=dtype)
    loaded.read_ahead(plan.chunks[0])
    return loaded


def run(
    plan: CompilePlan, loaded: Loaded | None, *, watch: Progress = silent, cached: Cached = NOTHING
) -> AdapterContent:
    """Read the chunks, write their weights, and merge them to one adapter, in memory.

    The activations of a chunk, or of a few short ones, are on the device at a time; weights wait on
    the CPU. `loaded` is the result of `load` for a plan of the same network: many documents, loaded
    once. `cached` is that of `look_up`; if it holds all of the adapter, `loaded` may be None.
    Raises D2LError.
    """
    start = time.perf_counter()
    assembled = cached.assembled
    if assembled is None:
        assert loaded is not None
        assembled = _assemble(plan, loaded, watch, cached)
    weights, errors = plan.rescale(assembled.weights), dict[str, float]()
    if plan.rank < weights.rank:
        device = plan.device if is_cuda(plan.device) else "cpu"  # MPS has no float64
        weights, errors = compress(weights, plan.rank, device=device)
    content = make_content(plan, assembled, weights, errors)
    seconds = time.perf_counter() - start
    _remember(plan)
    if loaded is not None and not cached.n_cached:  # a cached run says nothing about speed
        remember_rate(plan, loaded.device, seconds)
    return content


def _remember(plan: CompilePlan) -> None:
    """Remember where documents, network and base lie, for the adapter, which names no paths."""
    paths, network = {one.digest: Path(one.name) for one in plan.documents}, plan.network
    paths[network.digest()] = network.files.path
    if (digest := network.digest_base()) is not None:
        paths[digest] = network.base.gguf or network.base.folder
    remember(paths)


def _assemble(plan: CompilePlan, loaded: Loaded, watch: Progress, cached: Cached) -> Assembled:
    """Read the chunks, write their weights and join them."""
    parts = list[Memory]()

    def _write_each() -> Iterator[ChunkWeights]:
        read = _read_each(plan, loaded, cached)
        with ThreadPoolExecutor(1) as behind:  # the cache's entries do not hold the next chunk
            kept: Future[None] = behind.submit(lambda: None)
            for chunk in watch(plan.chunks, "compiling"):
                entry = cached.find(chunk)
                share, part = _write_chunk(chunk, next(read), loaded, entry)
                kept.result()  # one waits at most, and an error is told
                kept = behind.submit(entry.keep, share, part)
                parts.extend([] if part is None else [part])
                if _has_share(chunk):
                    yield share
            kept.result()
        announce("joining the chunks")

    # One by one: the network may join them without all in memory.
    written = Counted(_write_each(), sum(map(_has_share, plan.chunks)))
    assembled = loaded.assemble(written, plan.options)
    # Values are laid out in memory as if read from the cache, so that both give the same bits.
    assembled = replace(assembled, weights=assembled.weights.contiguous())
    cached.keep_assembled(assembled, plan.config.bias_rank)
    return replace(assembled, parts=tuple(parts))


def _has_share(chunk: Chunk) -> bool:
    """True if the chunk has seats or ranks in the adapter; a full one leaves later chunks none."""
    return bool(chunk.rank or not chunk.part_rank)


def _read_each(plan: CompilePlan, loaded: Loaded, cached: Cached) -> Iterator[Activations | None]:
    """Yield the activations of each chunk; None for those that are cached, share and part. Short
    neighbors are read side by side where that is faster."""
    for group in _group(plan.chunks, count_together(plan.device)):
        missing = [chunk for chunk in group if _list_missing(chunk, cached.find(chunk))]
        read = iter(loaded.read(missing) if missing else [])
        for chunk in group:
            yield next(read) if chunk in missing else None


def _group(chunks: Sequence[Chunk], most: int) -> Iterator[list[Chunk]]:
    """Group neighbors that have at most so many tokens together, padded to equal lengths."""
    group, longest = list[Chunk](), 0
    for chunk in chunks:
        longest = max(longest, len(chunk.token_ids))
        if group and (len(group) + 1) * longest > most:
            yield group
            group, longest = [], len(chunk.token_ids)
        group.append(chunk)
    yield group


def _list_missing(chunk: Chunk, entry: Entry) -> list[int]:
    """List the ranks of a chunk's share and of its part, those that are not cached."""
    missing = [chunk.rank] if entry.share is None else []
    if chunk.part_rank and entry.part is None:
        missing.append(chunk.part_rank)
    return missing


def _write_chunk(
    chunk: Chunk, read: Activations | None, loaded: Loaded, entry: Entry
) -> tuple[ChunkWeights, Memory | None]:
    """Take a chunk's share of the adapter and its part, if the adapter keeps parts, from the cache,
    or have the network write them."""
    share, part = entry.share, entry.part
    if read is not None:
        written = loaded.write(chunk, read, _list_missing(chunk, entry))
        share = share or written[0].contiguous()
        part = part or (round_part(written[-1]) if chunk.part_rank else None)
    assert share is not None
    return share, part
