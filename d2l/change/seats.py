"""Seats of adapters: thinned out, joined, and seated again.

Parents' memories in, weights out, on the network that made them and its base.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from d2l.adapters.module_names import parse
from d2l.adapters.peft_folder import pick_torch_dtype
from d2l.adapters.provenance import ChunkRecord
from d2l.adapters.record_values import Span
from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
from d2l.bases.catalog import find_used
from d2l.bases.devices import pick_device
from d2l.change.parents import ChangeOptions, Parent
from d2l.errors import CheckpointError, MergeError
from d2l.hypernets.networks import open_seats
from d2l.hypernets.options import MergeOptions
from d2l.hypernets.registry import name_known
from d2l.hypernets.seats.network import Seats
from d2l.hypernets.seats.seating import MODULES, fill_memory


def load_seats_of(parent: Parent, options: ChangeOptions) -> Seats:
    """Load the network that made a seats adapter, on its base; raises CheckpointError."""
    made_by, provenance = parent.checkpoint, parent.provenance
    assert made_by is not None  # it has seats, as d2l.json records
    assert provenance is not None
    name = options.checkpoint or name_known(made_by.name, made_by.sha256)
    made_on = provenance.base
    base = options.base or find_used(made_on.name, made_on.sha256)
    network = open_seats(name, base=base, made_on=made_on.name, offline=options.offline)
    if network.digest() != made_by.sha256:
        raise CheckpointError(
            f"{network.files.path}: is not the checkpoint that {parent.name} was compiled with",
            hint="name that one with --checkpoint, or compile the document again",
        )
    network.prepare(device=pick_device(options.device))
    dtype = pick_torch_dtype(parent.options.base_dtype or "fp32")  # seats fit rounded weights, too
    return network.load(device=options.device, dtype=dtype).hypernet


def seat_again(
    seats: Seats, memory: Memory, factors: Tensor, *, bias_scale: float, n_seats: int = 0
) -> LoraWeights:
    """Seat a memory as compiling does, each seat's delta times its factor (seats,).

    A memory of fewer seats than `n_seats`, or than the shortest opening, is followed by seats
    without effect.
    """
    config = seats.config
    opening = config.opening(max(memory.n_seats, config.min_seats, n_seats))
    shared = seats.shared
    if shared is not None and bias_scale != 1.0:
        shared = shared.scaled(bias_scale)
    filled = fill_memory(
        memory,
        seats.base_model,
        opening=opening,
        layers=config.reading.key_value_layers,
        shared=shared,
    )
    weights = seats.assemble([filled], MergeOptions(bias_scale=bias_scale)).weights
    missing = len(opening) - 1 - memory.n_seats
    factors = torch.cat([factors, torch.zeros(missing, dtype=factors.dtype)])
    if bool((factors == 1).all()):
        return weights
    scaled = {
        name: LoraFactors(f.a, (f.b.double() * factors).to(f.b.dtype))
        if parse(name).short in MODULES
        else f
        for name, f in weights.factors.items()
    }
    return replace(weights, factors=scaled)


def tile(chunks: Sequence[ChunkRecord], n_seats: int) -> list[Span]:
    """List the chunks' spans of seats and the gaps between them, side by side."""
    spans, at = list[Span](), 0
    owned = sorted({chunk.ranks for chunk in chunks if chunk.ranks is not None})
    for start, stop in owned:
        if start < at or stop > n_seats:
            raise MergeError(
                "chunks that share their seats cannot be given fewer",
                hint="compile the document again, with --merge concat",
            )
        if start > at:
            spans.append((at, start))
        spans.append((start, stop))
        at = stop
    if at < n_seats:
        spans.append((at, n_seats))
    return spans


def thin_out(memory: Memory, n_seats: int, *, heads: int) -> Memory:
    """Choose `n_seats` of a memory's seats, separately in every layer and head; all if there are
    no more.

    The seats are divided into `n_seats` even stretches, so that the whole document is covered; of
    each stretch a head keeps the seat whose value is farthest from the mean of all: its effect is
    largest. Keys and values stay unchanged, and together. Averages of neighbors lose far more: the
    mean of two keys is near to no question.
    """
    layers, n_old, size = memory.keys.shape
    if n_seats >= n_old:
        return memory
    by_head = (layers, n_old, heads, size // heads)
    values = memory.values.reshape(by_head)
    away = (values - values.mean(1, keepdim=True)).norm(dim=-1)
    ends = [round(n_old * n / n_seats) for n in range(n_seats + 1)]
    best = [away[:, start:stop].argmax(1) + start for start, stop in pairwise(ends)]
    chosen = torch.stack(best, dim=1)[..., None]  # (layers, n_seats, heads, 1)

    def take(given: Tensor) -> Tensor:
        index = chosen.expand(-1, -1, -1, size // heads)
        return given.reshape(by_head).gather(1, index).reshape(layers, n_seats, size)

    return Memory(take(memory.keys), take(memory.values))
