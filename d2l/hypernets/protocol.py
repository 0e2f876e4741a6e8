"""The interface of a hypernetwork: its configuration, its plan of documents, and its weights."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from d2l.adapters.provenance import Opening, Prompt
from d2l.adapters.weights import LoraWeights, Memory
from d2l.bases.activations import Activations
from d2l.bases.families import Reading
from d2l.documents.chunks import Chunk
from d2l.hypernets.options import CompileOptions

#: The output of a network for one chunk.
ChunkWeights = LoraWeights | Memory


@dataclass(frozen=True)
class Cut:
    """Documents or a description, cut into chunks, with numbers of tokens and ranks.

    `n_tokens`: of each document's text, without any template, by its name. `rank`: that the chunks
    share, or seats; `full_rank`: before --max-rank. `keeps_parts`: the adapter keeps a part of each
    chunk; `held_by_one`: tokens that one adapter without parts can hold. `examples`: indices of
    the solved examples that are read with a description, in their order.
    """

    chunks: tuple[Chunk, ...]
    n_tokens: Counter[str]
    rank: int
    full_rank: int
    keeps_parts: bool = False
    held_by_one: int = 0
    warnings: tuple[str, ...] = ()
    examples: tuple[int, ...] = ()


@dataclass(frozen=True)
class PromptFiles:
    """The prompt that an adapter answers to, and the text files that make it, by name: chat
    template and tokenizer. `opening`: the longest, in which parts hang; without seats, parts stand
    behind it, and `turns` are the texts around questions and answers. `n_suffix`: number of
    trained seats at the end of each part."""

    prompt: Prompt
    texts: Mapping[str, str] = field(default_factory=dict)
    opening: Opening | None = None
    turns: tuple[str, ...] = ()
    n_suffix: int = 0


@dataclass(frozen=True)
class Assembled:
    """The adapter of a whole document; of a seat network also the memory that was seated, and the
    parts that the adapter keeps."""

    weights: LoraWeights
    memory: Memory | None = None
    parts: tuple[Memory, ...] = ()


class HypernetConfig(Protocol):
    """Facts of a network that the pipeline needs before any weights are loaded."""

    @property
    def kind(self) -> str:
        """Network kind, as "doc_to_lora", "seats", "shine" or "text_to_lora"."""

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
    def bias_rank(self) -> int:
        """Rank that a learned, document-independent part adds to every adapter; 0 without one."""

    @property
    def reading(self) -> Reading:
        """The states of the frozen base that the network reads."""

    @property
    def chunk_tokens(self) -> int | None:
        """Chunk limit in tokens that the network was trained with, if it is known."""

    def find_rank(self, rank: int, /) -> int:
        """Highest rank of the written weights for `rank` ranks, or seats."""

    def count_values(self, rank: int, /) -> int:
        """Count the numbers in the written weights."""

    def count_part_bytes(self, rank: int, /) -> int:
        """Size of a part with so many seats; 0 if parts are ranks of the adapter itself."""

    @property
    def part_bits(self) -> int:
        """Bits of a number in a part's memory, four or eight; 0 if parts are ranks."""


class Loaded(Protocol):
    """A network with its weights, beside the model that reads for it, on a device."""

    @property
    def device(self) -> str:
        """The device that network and reader are on."""

    def read_ahead(self, chunk: Chunk) -> None:
        """Read the tokens that every chunk begins with, as part of start-up."""

    def read(self, chunks: Sequence[Chunk]) -> list[Activations]:
        """Read chunks side by side."""

    def write(
        self, chunk: Chunk, activations: Activations, ranks: Sequence[int]
    ) -> list[ChunkWeights]:
        """Write the weights of a chunk that was read, of each of these ranks, on the CPU."""

    def assemble(self, written: Iterable[ChunkWeights], options: CompileOptions) -> Assembled:
        """Join the weights of chunks, in document order, into one adapter."""
