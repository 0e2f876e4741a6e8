"""Adapters that a new one is made from: read, told apart, and seated again where they hold seats.

Folders in; weights, memories and provenance out. For `d2l merge` and `d2l edit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from d2l.adapters import info as names
from d2l.adapters.info import AdapterInfo, read_info
from d2l.adapters.module_names import parse
from d2l.adapters.peft_config import refuse_extras
from d2l.adapters.peft_folder import read_adapter, read_memory
from d2l.adapters.provenance import Checkpoint, ChunkRecord, Opening, Options, Provenance
from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
from d2l.bases.models import load_frozen, pick_device
from d2l.errors import AdapterError, CheckpointError
from d2l.hypernets.fit import SEATS, open_network
from d2l.hypernets.protocol import Assembled, MergeOptions
from d2l.hypernets.registry import CheckpointFiles
from d2l.hypernets.seats.calibration import with_moments
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import Seats, load_seats
from d2l.hypernets.seats.seating import MODULES, fill_memory


@dataclass(frozen=True)
class ChangeOptions:
    """Where things lie, and how the new adapter is written; as for `d2l compile`."""

    checkpoint: str | None = None  # that seats were compiled with, if its name leads nowhere now
    base: str | None = None
    device: str = "auto"
    dtype: str | None = None  # None: the widest of the parents'
    offline: bool = False
    force: bool = False


@dataclass(frozen=True)
class Parent:
    """One adapter folder that goes into a new adapter."""

    info: AdapterInfo

    @cached_property
    def weights(self) -> LoraWeights:
        """Its weights in fp32."""
        return read_adapter(self.info.folder)

    @property
    def provenance(self) -> Provenance | None:
        """What its d2l.json says; None for adapters of other tools."""
        return self.info.provenance

    @property
    def chunks(self) -> tuple[ChunkRecord, ...]:
        """Its chunks, each with `ranks` [start, stop) unless compression mixed them."""
        return () if self.provenance is None else self.provenance.chunks

    @property
    def options(self) -> Options:
        """The options that it was compiled with."""
        return Options() if self.provenance is None else self.provenance.options

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The network that made it, where d2l did."""
        return None if self.provenance is None else self.provenance.checkpoint

    @property
    def opening(self) -> Opening | None:
        """The opening that its prompts begin with, where it has one."""
        return None if self.provenance is None else self.provenance.prompt.opening

    @property
    def has_seats(self) -> bool:
        """Whether it holds a memory that can be seated again."""
        return self.opening is not None and (self.info.folder / names.MEMORY).is_file()

    @cached_property
    def memory(self) -> Memory:
        """The memory that it was seated from."""
        return read_memory(self.info.folder)

    def seat_factors(self) -> Tensor:
        """What each seat's delta is multiplied by: (seats,), from its options and chunks."""
        factors = torch.full((self.memory.n_seats,), float(self.options.scale))
        for chunk in self.chunks:
            if chunk.ranks is not None:
                start, stop = chunk.ranks
                factors[start:stop] *= float(chunk.scale)
        return factors.double()


@dataclass(frozen=True)
class Seated:
    """Seats that were seated again: weights and memory, and the network's configuration."""

    assembled: Assembled
    config: SeatsConfig
    checkpoint: CheckpointFiles


def read_parent(folder: Path) -> Parent:
    """Read an adapter folder that is to go into another; raises AdapterError."""
    info = read_info(folder)
    refuse_extras(info, purpose="merged or edited")
    return Parent(info)


def pick_dtype(parents: Sequence[Parent], dtype: str | None, *, exact: bool) -> str:
    """Precision of the new adapter: the one asked for, else the parents' where that holds the new
    values exactly (`exact`), else fp32."""
    if dtype is not None:
        return dtype
    stored = {t.dtype for parent in parents for t in parent.info.tensors.values()}
    kept = {"BF16": "bf16", "F16": "fp16"}.get(next(iter(stored)), "fp32")
    return kept if exact and len(stored) == 1 else "fp32"


def load_seats_of(
    parents: Sequence[Parent], options: ChangeOptions
) -> tuple[Seats, CheckpointFiles]:
    """The network that made these seats adapters, on its base; raises where they differ in it."""
    first = parents[0].checkpoint
    assert first is not None  # it has seats, which d2l.json says
    for parent in parents[1:]:
        if parent.checkpoint is None or parent.checkpoint.sha256 != first.sha256:
            raise AdapterError(
                f"{parent.info.folder} was compiled by another network than "
                f"{parents[0].info.folder}, so their seats cannot stand side by side",
                hint="compile the documents again, with one checkpoint",
            )
    network = open_network(
        options.checkpoint or first.name,
        kinds=SEATS,
        base=options.base,
        offline=options.offline,
    )
    if network.digest() != first.sha256:
        raise CheckpointError(
            f"{network.files.path}: is not the checkpoint that {parents[0].info.folder} was "
            "compiled with",
            hint="name that one with --checkpoint, or compile the document again",
        )
    device, n_layers = pick_device(options.device), network.config.reading.n_layers
    model = load_frozen(network.base, device=device, dtype=torch.float32, n_layers=n_layers)
    seats, moments = load_seats(network.files.path, model), network.find_moments(network.base)
    return seats if moments is None else with_moments(seats, moments), network.files


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
        memory, seats.base_model, opening=opening, first_layer=config.first_layer, shared=shared
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
        weights = LoraWeights(assembled.weights.base, assembled.weights.scale, scaled)
        assembled = Assembled(weights, memory)
    return Seated(Assembled(assembled.weights, memory), config, files)
