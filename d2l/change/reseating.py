"""Seats that are seated once more: for `d2l merge` and `d2l edit`.

Adapters' memories in, weights out, on the network that made them and its base.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from d2l.adapters.module_names import parse
from d2l.adapters.weights import LoraFactors, Memory
from d2l.change.parents import ChangeOptions, Parent
from d2l.errors import AdapterError, CheckpointError
from d2l.hypernets.fit import SEATS, open_network
from d2l.hypernets.loaded import load_network
from d2l.hypernets.protocol import Assembled, MergeOptions
from d2l.hypernets.registry import CheckpointFiles, name_known
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import Seats
from d2l.hypernets.seats.seating import MODULES, fill_memory


@dataclass(frozen=True)
class Seated:
    """Seats that were seated again: weights and memory, and the network's configuration."""

    assembled: Assembled
    config: SeatsConfig
    checkpoint: CheckpointFiles


def load_seats_of(
    parents: Sequence[Parent], options: ChangeOptions
) -> tuple[Seats, CheckpointFiles]:
    """The network that made these seats adapters, on its base; raises where they differ in it."""
    first = parents[0].checkpoint
    assert first is not None  # it has seats, which d2l.json says
    for parent in parents[1:]:
        if parent.checkpoint is None or parent.checkpoint.sha256 != first.sha256:
            raise AdapterError(
                f"{parent.name} was compiled by another network than "
                f"{parents[0].name}, so their seats cannot stand side by side",
                hint="compile the documents again, with one checkpoint",
            )
    network = open_network(
        options.checkpoint or name_known(first.name, first.sha256),
        kinds=SEATS,
        base=options.base,
        offline=options.offline,
    )
    if network.digest() != first.sha256:
        raise CheckpointError(
            f"{network.files.path}: is not the checkpoint that {parents[0].name} was compiled with",
            hint="name that one with --checkpoint, or compile the document again",
        )
    loaded = load_network(
        network.files.path,
        network.config,
        network.base,
        device=options.device,
        dtype=torch.float32,
        moments=network.find_moments(network.base),
    )
    assert isinstance(loaded.hypernet, Seats)  # which is what SEATS takes
    return loaded.hypernet, network.files


def seat_again(
    seats: Seats, files: CheckpointFiles, memory: Memory, factors: Tensor, *, bias_scale: float
) -> Seated:
    """Seat a memory as compiling does, each seat's delta times its factor (seats,).

    A memory of fewer seats than the shortest opening gets seats that change nothing behind it.
    """
    config = seats.config
    opening = config.opening(max(memory.n_seats, config.min_seats))
    shared = seats.network.shared
    if shared is not None and bias_scale != 1.0:
        shared = shared.scaled(bias_scale)
    missing = len(opening) - 1 - memory.n_seats
    filled = fill_memory(
        memory, seats.base_model, opening=opening, layers=config.memory_layers, shared=shared
    )
    assembled = seats.assemble([filled], MergeOptions(bias_scale=bias_scale))
    factors = torch.cat([factors, torch.zeros(missing, dtype=factors.dtype)])
    if bool((factors != 1).any()):
        scaled = {
            name: LoraFactors(f.a, (f.b.double() * factors).to(f.b.dtype))
            if parse(name).short in MODULES
            else f
            for name, f in assembled.weights.factors.items()
        }
        weights = replace(assembled.weights, factors=scaled)
        assembled = Assembled(weights, memory)
    return Seated(Assembled(assembled.weights, memory), config, files)
