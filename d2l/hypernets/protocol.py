"""The interface of every hypernetwork: a configuration, `generate` and `assemble`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from d2l.adapters.weights import LoraWeights, Memory
from d2l.bases.activations import Activations
from d2l.bases.families import Reading
from d2l.hypernets.options import MergeOptions

Part = LoraWeights | Memory


@dataclass(frozen=True)
class Assembled:
    """The adapter of a whole document; for seats also the memory that it was seated from, and the
    chunks' own memories where they are kept."""

    weights: LoraWeights
    memory: Memory | None = None
    parts: tuple[Memory, ...] = ()


class HypernetConfig(Protocol):
    """Facts of a network that the pipeline needs before any weights are loaded."""

    @property
    def kind(self) -> str:
        """Network kind: "doc_to_lora", "seats" or "text_to_lora"."""

    @property
    def base(self) -> str:
        """Name of the base model that the adapters fit."""

    @property
    def target_modules(self) -> tuple[str, ...]:
        """Short names of the adapted modules, sorted."""

    @property
    def n_base_layers(self) -> int:
        """Number of decoder layers of the base."""

    @property
    def n_adapted_layers(self) -> int:
        """Number of layers that an adapter changes."""

    @property
    def module_shapes(self) -> Mapping[str, tuple[int, int]]:
        """(d_in, d_out) of each target module."""

    @property
    def values_a_rank(self) -> int:
        """Numbers in an adapter for each of its ranks."""

    @property
    def bias_rank(self) -> int:
        """Rank that a learned, document-independent part adds to every adapter; 0 without one."""

    @property
    def reading(self) -> Reading:
        """What the network reads of the frozen base."""

    @property
    def chunk_tokens(self) -> int | None:
        """Chunk limit in tokens that the network was trained with, if it is known."""


class Hypernetwork(Protocol):
    """A pretrained network that writes adapters. Results are on the CPU, whatever the device."""

    @property
    def config(self) -> HypernetConfig:
        """The network's configuration."""

    def generate(self, condition: Activations, rank: int) -> Part:
        """Weights of one chunk, of at most `rank` (0: a chunk that gets no seat of its own)."""

    def assemble(self, parts: Sequence[Part], options: MergeOptions) -> Assembled:
        """One adapter from all parts, in document order."""
