"""Documents → adapter: `prepare()` returns a plan, `load()` what executes it, `run()` the adapter.

The pipeline that the package exists for, readable from top to bottom. Writes nothing, prints
nothing.
"""

import time
from dataclasses import replace
from pathlib import Path, PurePath
from typing import NamedTuple

import torch

from d2l.adapters.info import CARD
from d2l.adapters.merge_methods import compress
from d2l.adapters.peft_folder import AdapterContent, pick_torch_dtype
from d2l.adapters.weights import LoraWeights
from d2l.bases.activations import ActivationEncoder
from d2l.bases.models import load_frozen, pick_dtype
from d2l.compiler import card, part_cache, privacy
from d2l.compiler.lock import describe
from d2l.compiler.part_cache import NOTHING, Found
from d2l.compiler.plan import CompileOptions, CompilePlan, prepare
from d2l.compiler.records import describe_compile
from d2l.compiler.timing import remember_rate
from d2l.documents.chunks import Chunk
from d2l.errors import OptionError
from d2l.files.places import remember
from d2l.hypernets.checkpoints import load_hypernet
from d2l.hypernets.protocol import Assembled, Hypernetwork, Part
from d2l.hypernets.seats.calibration import with_moments
from d2l.hypernets.seats.network import Seats
from d2l.progress import Progress, silent

__all__ = ["CompileOptions", "CompilePlan", "Loaded", "load", "look_up", "prepare", "run"]


class Loaded(NamedTuple):
    """The base as an encoder, and the network, on a device."""

    encode: ActivationEncoder
    hypernet: Hypernetwork
    device: str


def look_up(plan: CompilePlan) -> Found:
    """What the cache holds for a plan whose options want one; raises OptionError."""
    if not plan.options.cache:
        return NOTHING
    device = plan.device
    return part_cache.look_up(plan, device=device, base_dtype=_pick_base_dtype(plan, device))


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
    weights, merge_error = _bound_rank(assembled.weights, plan)
    seconds = time.perf_counter() - start
    refined = None
    if plan.options.refine is not None:
        assert loaded is not None  # whoever wants it refined has to load
        # What trains is not imported for those who do not.
        from d2l.compiler.refine_adapters import refine_compiled

        bounded = replace(assembled, weights=weights)
        refined = refine_compiled(plan, loaded.hypernet, bounded, watch)
        weights = refined.assembled.weights
        if not merge_error:  # norms are of what there was before compression
            assembled = refined.assembled
    names = privacy.name_shared(plan)
    record = describe_compile(plan, assembled, merge_error)
    record = record if refined is None else refined.note(record)
    texts = card.write_texts(plan, None if refined is None else refined.done)
    content = AdapterContent(
        weights=weights,
        n_base_layers=plan.config.n_base_layers,
        provenance=privacy.redact_provenance(record, names),
        memory=assembled.memory,
        texts=texts | {CARD: privacy.redact(texts[CARD], names)},
        dtype=plan.options.dtype,
        name=_name(plan),
        lock=describe(plan),
    )
    places = {document.digest: Path(document.name) for document in plan.documents}
    remember(places | {record.checkpoint.sha256 or "": plan.checkpoint.path})
    if loaded is not None and not found.n_cached:  # the cache's rate is nobody's
        remember_rate(plan, loaded.device, seconds)
    return content


def assemble(
    plan: CompilePlan, loaded: Loaded, *, watch: Progress = silent, found: Found = NOTHING
) -> Assembled:
    """Read the chunks, write their weights and join them; nothing is said yet of where from."""
    parts = [_make_part(chunk, loaded, found) for chunk in watch(plan.chunks, "compiling")]
    made = loaded.hypernet.assemble(parts, plan.options.merge)
    weights = part_cache.as_stored(made.weights)
    assert isinstance(weights, LoraWeights)
    assembled = Assembled(weights, made.memory)
    found.keep_assembled(assembled)
    return assembled


def _make_part(chunk: Chunk, loaded: Loaded, found: Found) -> Part:
    """What the network makes of a chunk, now or before."""
    part = found.part(chunk.index)
    if part is None:
        made = loaded.hypernet.generate(loaded.encode(chunk.token_ids), chunk.rank)
        part = part_cache.as_stored(made)
        found.keep_part(chunk.index, part)
    return part


def load(plan: CompilePlan) -> Loaded:
    """Load the base, up to the last layer that is read, and the network; raises D2LError."""
    device = plan.device
    imposes = plan.kind.imposes_on_base
    n_layers = plan.config.reading.n_layers
    dtype = _pick_base_dtype(plan, device)
    model = load_frozen(plan.encoder, device=device, dtype=dtype, n_layers=n_layers)
    hypernet = load_hypernet(plan.checkpoint.path, device=device, base=model if imposes else None)
    if plan.moments is not None:
        assert isinstance(hypernet, Seats)  # no other network has moments
        hypernet = with_moments(hypernet, plan.moments)
    encode = ActivationEncoder(model, plan.config.reading)
    if n_leading := plan.config.reading.skip_tokens:
        encode.read_ahead(plan.chunks[0].token_ids[:n_leading])
    return Loaded(encode, hypernet, device)


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


def _bound_rank(weights: LoraWeights, plan: CompilePlan) -> tuple[LoraWeights, dict[str, float]]:
    """Apply --max-rank; (weights, relative error of each module's delta), none if exact."""
    if plan.rank >= weights.rank:
        return weights, {}
    return compress(weights, plan.rank)


def _name(plan: CompilePlan) -> str:
    """A folder that suits the adapter: the first document's, by another suffix."""
    return f"{PurePath(plan.documents[0].name).stem or 'documents'}.lora"
