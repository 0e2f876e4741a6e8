"""A base's own KV cache as a network: what differs from other networks of memories."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import nn

from d2l.adapters.parts import OVERVIEW, PartKind
from d2l.adapters.provenance import Opening
from d2l.adapters.weights import Memory
from d2l.bases.activations import Activations
from d2l.documents.chunks import Chunk, Piece
from d2l.documents.document import Document
from d2l.documents.overview import write_overview
from d2l.documents.stable_chunks import pack_below_headings
from d2l.hypernets.formats.fields import naming
from d2l.hypernets.formats.format import Format, native_format, read_kind
from d2l.hypernets.formats.native import CONFIG_FILE, WEIGHTS_FILE, check_shapes, read_weights
from d2l.hypernets.kv.config import KvConfig, read_config
from d2l.hypernets.kv.describing import instruct
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.protocol import ChunkWeights, PromptFiles
from d2l.hypernets.registry import KV, OLD_KV
from d2l.hypernets.seats.network import Seats, join_memories, read_moments
from d2l.hypernets.seats.seated import LoadedSeats, SeatedNetwork
from d2l.hypernets.seats.second_moments import FILE_NAME


def _find_weights(path: Path) -> Path:
    """Find the trained suffix, else the configuration, which alone identifies a network."""
    trained = path / WEIGHTS_FILE
    return trained if trained.is_file() else path / CONFIG_FILE


def _read_suffix(path: Path, config: KvConfig, n_seats: int) -> Memory:
    """Read the keys and values of the suffix; raises CheckpointError."""
    tensors = read_weights(path)
    shape = (config.layers, n_seats, config.kv_heads * config.head_dim)
    with naming(path):
        check_shapes(
            {name: one.shape for name, one in tensors.items()}, {"keys": shape, "values": shape}
        )
    return Memory(tensors["keys"], tensors["values"])


FORMAT = replace(
    native_format(KV, "KV cache", KvConfig.from_json, FILE_NAME),
    description="a d2l folder of a base's own KV cache (config.json; model.safetensors)",
    matches=lambda path: read_kind(path) in (KV, OLD_KV),
    read_config=lambda path: read_config(path / CONFIG_FILE),
    find_weights=_find_weights,
)


@dataclass(frozen=True)
class LoadedKv(LoadedSeats):
    """A base with a trained suffix, in place of the separator's keys and values."""

    suffix: Memory

    def write(
        self, chunk: Chunk, activations: Activations, ranks: Sequence[int]
    ) -> list[ChunkWeights]:
        """Write one memory per rank. In the part's memory the suffix replaces the last seats."""
        written = zip(super().write(chunk, activations, ranks), ranks, strict=True)
        return [self._append(one) if n == chunk.part_rank else one for one, n in written]

    def _append(self, written: ChunkWeights) -> Memory:
        assert isinstance(written, Memory)
        return join_memories([written.first(-self.suffix.n_seats), self.suffix])


@dataclass(frozen=True)
class KvNetwork(SeatedNetwork[KvConfig]):
    """A base's own KV cache, a seat a token, with at most a trained suffix."""

    kind: ClassVar[str] = KV
    part_kind: ClassVar[PartKind] = "kv"
    formats: ClassVar[tuple[Format, ...]] = (FORMAT,)

    def load(self, *, device: str, dtype: torch.dtype | None) -> LoadedSeats:
        """Load the base, with the second moments that fit it, and the suffix if there is one;
        raises D2LError."""
        loaded = super().load(device=device, dtype=dtype)
        if not self.n_suffix:
            return loaded
        suffix = _read_suffix(self.files.path / WEIGHTS_FILE, self.config, self.n_suffix)
        return LoadedKv(**vars(loaded), suffix=suffix)

    @classmethod
    def load_hypernet(
        cls, path: Path, entry: Format, *, device: str, base: nn.Module | None = None
    ) -> Seats:
        """Make seats on the base, with second moments if the folder has some."""
        del entry, device
        assert base is not None
        config, moments = read_config(path / CONFIG_FILE), path / FILE_NAME
        statistics = read_moments(moments, config) if moments.is_file() else None
        return Seats(config, None, statistics, base)

    @property
    def n_suffix(self) -> int:
        """Length of the trained suffix."""
        has_suffix = (self.files.path / WEIGHTS_FILE).is_file()
        return len(self.tokenizer.encode(self.config.part_end)) * has_suffix

    def for_tasks(self) -> Self:
        """The network with prompts of tasks: an instruction on documents misleads there."""
        config = replace(self.config, part_end="")
        return replace(self, config=instruct(config, self.tokenizer, ""))

    def keeps_parts(self, n_tokens: int) -> bool:
        """True: a part is the page in the prompt, which the seats of an adapter only come near."""
        del n_tokens
        return True

    def pack(
        self, document: Document, limit: int, options: CompileOptions, *, keeps: bool
    ) -> list[Piece]:
        """Pack the text into pieces, each with the separator from a question, which the limit
        counts. Parts keep their lines: a base reads steps, lists and tables by them."""
        if keeps:
            n_suffix = len(self.tokenizer.encode(self.config.part_end))
            room = max(limit - n_suffix, self.config.min_chunk_tokens)
            pieces = pack_below_headings(document, self.tokenizer, room, keeps_lines=True)
        else:
            pieces = super().pack(document, limit, options, keeps=False)
        return [piece._replace(token_ids=self._encode(piece.text)) for piece in pieces]

    def _encode(self, text: str) -> tuple[int, ...]:
        """Encode text and separator. A trained suffix takes the separator's places."""
        end, encode = self.config.part_end, self.tokenizer.encode
        return tuple([*encode(text), *encode(end)] if self.n_suffix else encode(text + end))

    def cut_whole(self, document: Document, index: int) -> Sequence[Chunk]:
        """Cut the chunk of the document's overview, which has no share in the adapter."""
        text = write_overview(document, self.tokenizer, self.config.chunk_tokens)
        ids = self._encode(text)
        read = (*self.config.read_opening, *ids)
        return [Chunk(index, read, OVERVIEW, document.name, part_rank=len(ids), text=text)]

    def count_part(self, n_tokens: int, options: CompileOptions) -> int:
        """Count the seats of a part: one a token, whatever the longest opening holds."""
        del options
        return n_tokens

    def describe_prompt(self, rank: int) -> PromptFiles:
        """Describe the prompt with the opening of `rank` seats, behind which the instruction
        stands; parts stand behind the opening that the base read them behind."""
        made, config = super().describe_prompt(rank), self.config
        lead = config.texts.lead(config.instruction)
        opening = Opening(ids=config.read_opening, text=lead, seats=())
        return replace(made, opening=opening, turns=config.turns, n_suffix=self.n_suffix)
