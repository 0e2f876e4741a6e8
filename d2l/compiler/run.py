"""Documents → adapter: `prepare()` returns a plan, `load()` what executes it, `run()` the adapter.

The pipeline that the package exists for, readable from top to bottom. Writes nothing, prints
nothing.
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from d2l.adapters.merge_methods import compress
from d2l.adapters.peft_folder import AdapterContent, pick_torch_dtype
from d2l.adapters.weights import LoraWeights, Memory
from d2l.bases.activations import Activations
from d2l.bases.models import pick_dtype
from d2l.compiler import part_cache
from d2l.compiler.content import Outcome, make_content
from d2l.compiler.part_cache import NOTHING, Found
from d2l.compiler.plan import CompileOptions, CompilePlan, prepare
from d2l.compiler.timing import remember_rate
from d2l.documents.chunks import Chunk
from d2l.errors import OptionError
from d2l.files.places import remember
from d2l.hypernets.loaded import Loaded, load_network
from d2l.hypernets.protocol import Assembled, Part
from d2l.hypernets.seats.network import Seats
from d2l.progress import Progress, silent

__all__ = ["CompileOptions", "CompilePlan", "Loaded", "load", "look_up", "prepare", "run"]


def look_up(plan: CompilePlan) -> Found:
    """What the cache holds for a plan whose options want one; raises OptionError."""
    if not plan.options.cache:
        return NOTHING
    device = plan.device
    return part_cache.look_up(plan, device=device, base_dtype=_pick_base_dtype(plan, device))


def needs_weights(plan: CompilePlan, found: Found) -> bool:
    """Whether anything is left to compute: the cache may hold all of the adapter."""
    return found.assembled is None or plan.options.refine is not None


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
    `look_up` gave; if it holds all of the adapter, nothing need be loaded. Raises D2LError.
    """
    start = time.perf_counter()
    assembled = found.assembled
    if assembled is None:
        assert loaded is not None  # whoever has it not has to look that nothing is missing
        assembled = assemble(plan, loaded, watch=watch, found=found)
    part_cache.remember_places(plan, found)
    outcome = _bound_rank(assembled, plan)
    seconds = time.perf_counter() - start
    if plan.options.refine is not None:
        assert loaded is not None  # whoever wants it refined has to load
        outcome = _refine(outcome, plan, loaded, watch)
    content = make_content(plan, outcome)
    _remember_files(plan, content)
    if loaded is not None and not found.n_cached:  # the cache's rate is nobody's
        remember_rate(plan, loaded.device, seconds)
    return content


def assemble(
    plan: CompilePlan,
    loaded: Loaded,
    *,
    watch: Progress = silent,
    found: Found = NOTHING,
    first: Activations | None = None,
) -> Assembled:
    """Read the chunks, write their weights and join them; nothing is said yet of where from.
    `first` is what the base makes of the first chunk, where that is known."""
    parts = [
        _make_part(chunk, loaded, found, None if chunk.index else first)
        for chunk in watch(plan.chunks, "compiling")
    ]
    assembled = _as_stored(loaded.hypernet.assemble(parts, plan.options.merge))
    found.keep_assembled(assembled)
    return assembled


def assemble_each(
    plans: Sequence[CompilePlan], loaded: Loaded, read: Sequence[Activations]
) -> list[Assembled]:
    """The adapters of documents of one chunk each, in order, at one go; `read` is what the base
    makes of them. Of seat networks alone; nothing is cached."""
    network = loaded.hypernet
    assert isinstance(network, Seats)  # no other seats
    memories = []
    for plan, one in zip(plans, read, strict=True):
        (chunk,) = plan.chunks
        part = part_cache.as_stored(loaded.make_part(chunk.token_ids, chunk.rank, one))
        assert isinstance(part, Memory)
        memories.append(part)
    return [_as_stored(made) for made in network.assemble_each(memories)]


def _as_stored(made: Assembled) -> Assembled:
    """The same as the cache would give it back."""
    weights = part_cache.as_stored(made.weights)
    assert isinstance(weights, LoraWeights)
    return Assembled(weights, made.memory)


def _make_part(chunk: Chunk, loaded: Loaded, found: Found, read: Activations | None) -> Part:
    """What the network makes of a chunk, now or before."""
    part = found.part(chunk.index)
    if part is None:
        part = part_cache.as_stored(loaded.make_part(chunk.token_ids, chunk.rank, read))
        found.keep_part(chunk.index, part)
    return part


def _bound_rank(assembled: Assembled, plan: CompilePlan) -> Outcome:
    """Apply --max-rank, with the relative error of each module's delta; none where it is exact."""
    if plan.rank >= assembled.weights.rank:
        return Outcome(assembled.weights, assembled)
    weights, errors = compress(assembled.weights, plan.rank)
    return Outcome(weights, assembled, errors)


def _refine(outcome: Outcome, plan: CompilePlan, loaded: Loaded, watch: Progress) -> Outcome:
    """Correct what was made on the documents themselves."""
    # What trains is not imported for those who do not.
    from d2l.refining.compiled import refine_compiled

    bounded = replace(outcome.assembled, weights=outcome.weights)
    refined = refine_compiled(plan, loaded.hypernet, bounded, watch)
    # Norms are of what there was before compression.
    assembled = outcome.assembled if outcome.merge_error else refined.assembled
    return Outcome(refined.assembled.weights, assembled, outcome.merge_error, refined)


def _remember_files(plan: CompilePlan, content: AdapterContent) -> None:
    """Note where documents and network lie, for those who know no more than their digests."""
    made = content.provenance
    assert made is not None  # compiling says where an adapter came from
    places = {document.digest: Path(document.name) for document in plan.documents}
    remember(places | {made.checkpoint.sha256 or "": plan.checkpoint.path})


def load(plan: CompilePlan) -> Loaded:
    """Load the base, up to the last layer that is read, and the network; raises D2LError."""
    loaded = load_network(
        plan.checkpoint.path,
        plan.config,
        plan.encoder,
        device=plan.device,
        dtype=_pick_base_dtype(plan, plan.device),
        moments=plan.moments,
    )
    loaded.read_ahead(plan.chunks[0].token_ids)
    return loaded


def _pick_base_dtype(plan: CompilePlan, device: str) -> torch.dtype:
    """The precision that the base runs in: fp32 where the network imposes values on it."""
    wanted = plan.options.base_dtype
    if wanted is None:
        return torch.float32 if plan.kind.imposes_on_base else pick_dtype(device)
    dtype = pick_torch_dtype(wanted)
    if plan.kind.imposes_on_base and dtype != torch.float32:
        raise OptionError(
            f"{plan.checkpoint.name}: its base runs in fp32, not in {wanted}",
            hint="leave the dtype of the base out",
        )
    return dtype
