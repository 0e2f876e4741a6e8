"""Documents → adapter: `prepare()` returns a plan, `run()` executes it.

The pipeline that the package exists for, readable from top to bottom. Prints nothing.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from d2l.adapters.merge_methods import compress
from d2l.adapters.peft_folder import AdapterContent, refuse_adapter, write_adapter
from d2l.adapters.weights import LoraWeights
from d2l.bases.activations import ActivationEncoder
from d2l.bases.models import load_frozen, pick_device, pick_dtype
from d2l.compiler import card
from d2l.compiler.plan import CompileOptions, CompilePlan, prepare
from d2l.compiler.records import describe_compile
from d2l.compiler.timing import remember_rate
from d2l.hypernets.checkpoints import load_hypernet
from d2l.hypernets.protocol import Hypernetwork
from d2l.hypernets.seats.calibration import with_moments
from d2l.hypernets.seats.network import Seats
from d2l.progress import Progress, silent

__all__ = ["CompileOptions", "CompilePlan", "CompileResult", "prepare", "run"]

Loaded = tuple[ActivationEncoder, Hypernetwork]


@dataclass(frozen=True)
class CompileResult:
    """What was written; `seconds` excludes loading the base and the network."""

    adapter: Path
    plan: CompilePlan
    device: str
    seconds: float
    merge_error: dict[str, float] = field(default_factory=dict)


def run(
    plan: CompilePlan,
    out: Path,
    *,
    options: CompileOptions,
    watch: Progress = silent,
    skipped: Sequence[tuple[str, str]] = (),
    loaded: Loaded | None = None,
) -> CompileResult:
    """Read the chunks, write their weights, merge them, and store the adapter at `out`.

    One chunk's activations are on the device at a time; parts wait on the CPU. `skipped` are
    inputs that could not be read, (name, reason), for the provenance. `loaded` is what `load` gave
    for a plan of the same options: many documents, loaded once. Raises D2LError.
    """
    refuse_adapter(out, force=options.force)  # before the work, not after it
    device = pick_device(options.device)
    encode, hypernet = loaded or load(plan, device)
    start = time.perf_counter()
    parts = [
        hypernet.generate(encode(chunk.token_ids), chunk.rank)
        for chunk in watch(plan.chunks, "compiling")
    ]
    assembled = hypernet.assemble(parts, options.merge)
    weights, merge_error = _bound_rank(assembled.weights, plan)
    content = AdapterContent(
        weights=weights,
        n_base_layers=plan.config.n_base_layers,
        provenance=describe_compile(plan, options, assembled, merge_error, skipped),
        memory=assembled.memory,
        texts=card.write_texts(plan, out.name),
    )
    write_adapter(content, out, dtype=options.dtype, force=options.force)
    seconds = time.perf_counter() - start
    remember_rate(plan, device, seconds)
    return CompileResult(out, plan, device, seconds, merge_error)


def load(plan: CompilePlan, device: str) -> Loaded:
    """The base as an encoder, and the network."""
    imposes = plan.kind.imposes_on_base
    dtype = torch.float32 if imposes else pick_dtype(device)
    n_layers = plan.config.reading.n_layers
    model = load_frozen(plan.encoder, device=device, dtype=dtype, n_layers=n_layers)
    hypernet = load_hypernet(plan.checkpoint.path, device=device, base=model if imposes else None)
    if plan.moments is not None:
        assert isinstance(hypernet, Seats)  # no other network has moments
        hypernet = with_moments(hypernet, plan.moments)
    encode = ActivationEncoder(model, plan.config.reading)
    if n_leading := plan.config.reading.skip_tokens:
        encode.read_ahead(plan.chunks[0].token_ids[:n_leading])
    return encode, hypernet


def _bound_rank(weights: LoraWeights, plan: CompilePlan) -> tuple[LoraWeights, dict[str, float]]:
    """Apply --max-rank; (weights, relative error of each module's delta), none if exact."""
    if plan.rank >= weights.rank:
        return weights, {}
    return compress(weights, plan.rank)
