"""Compiling with a base's own keys and values: everything that differs from a trained network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import torch

from d2l.adapters.parts import OVERVIEW
from d2l.adapters.provenance import Opening
from d2l.adapters.weights import Memory
from d2l.bases.activations import Activations
from d2l.bases.turns import TurnTexts
from d2l.documents.chunks import Chunk, Piece
from d2l.documents.document import Document
from d2l.documents.overview import write_overview
from d2l.documents.stable_chunks import pack_below_headings
from d2l.hypernets.formats.fields import naming
from d2l.hypernets.formats.format import Format, native_format
from d2l.hypernets.formats.native import CONFIG_FILE, WEIGHTS_FILE, check_shapes, read_weights
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.protocol import ChunkWeights, PromptFiles
from d2l.hypernets.registry import OWN
from d2l.hypernets.seats.compiling import LoadedSeats, SeatsNetwork
from d2l.hypernets.seats.config import SeatsConfig, read_config
from d2l.hypernets.seats.network import join_memories
from d2l.hypernets.seats.own import instruct
from d2l.hypernets.seats.second_moments import FILE_NAME


def _find_weights(path: Path) -> Path:
    """Find the trained end of parts, else the configuration, which alone identifies a network."""
    trained = path / WEIGHTS_FILE
    return trained if trained.is_file() else path / CONFIG_FILE


def _read_end(path: Path, config: SeatsConfig, n_seats: int) -> Memory:
    """Read the keys and values that end parts; raises CheckpointError."""
    tensors = read_weights(path)
    shape = (config.layers, n_seats, config.kv_heads * config.head_dim)
    with naming(path):
        check_shapes(
            {name: one.shape for name, one in tensors.items()}, {"keys": shape, "values": shape}
        )
    return Memory(tensors["keys"], tensors["values"])


FORMAT = replace(
    native_format(OWN, "own keys and values", SeatsConfig.from_json, FILE_NAME),
    description="a d2l folder of a base's own keys and values (config.json; model.safetensors)",
    read_config=lambda path: read_config(path / CONFIG_FILE),
    find_weights=_find_weights,
)


@dataclass(frozen=True)
class LoadedOwn(LoadedSeats):
    """A base with the trained keys and values that end each memory, in place of those of the text
    that ends each part."""

    end: Memory

    def write(
        self, chunk: Chunk, activations: Activations, ranks: Sequence[int]
    ) -> list[ChunkWeights]:
        """Write the memories of a chunk that was read, of each of these ranks: its part has the end
        in place of its last seats, in which an adapter has no share."""
        written = zip(super().write(chunk, activations, ranks), ranks, strict=True)
        return [self._end(one) if n == chunk.part_rank else one for one, n in written]

    def _end(self, written: ChunkWeights) -> Memory:
        assert isinstance(written, Memory)
        return join_memories([written.first(-self.end.n_seats), self.end])


@dataclass(frozen=True)
class OwnNetwork(SeatsNetwork):
    """A network of a base's own keys and values, a seat a token, with at most a trained end."""

    kind: ClassVar[str] = OWN
    formats: ClassVar[tuple[Format, ...]] = (FORMAT,)

    def load(self, *, device: str, dtype: torch.dtype | None) -> LoadedSeats:
        """Load the base, with the second moments that fit it, and the end of parts if there is a
        trained one; raises D2LError."""
        loaded = super().load(device=device, dtype=dtype)
        if not self.n_end:
            return loaded
        end = _read_end(self.files.path / WEIGHTS_FILE, self.config, self.n_end)
        return LoadedOwn(**vars(loaded), end=end)

    @property
    def n_end(self) -> int:
        """Number of seats of the trained end."""
        has_end = (self.files.path / WEIGHTS_FILE).is_file()
        return len(self.tokenizer.encode(self.config.part_end)) * has_end

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
        """Pack the text into pieces, each with the end that divides it from a question; the limit
        counts it. Parts keep their lines: a base reads steps, lists and tables by them."""
        if keeps:
            n_end = len(self.tokenizer.encode(self.config.part_end))
            room = max(limit - n_end, self.config.min_chunk_tokens)
            pieces = pack_below_headings(document, self.tokenizer, room, keeps_lines=True)
        else:
            pieces = super().pack(document, limit, options, keeps=False)
        return [piece._replace(token_ids=self._encode(piece.text)) for piece in pieces]

    def _encode(self, text: str) -> tuple[int, ...]:
        """Encode a part's text with the text of its end, whose tokens a trained end stands for."""
        end, encode = self.config.part_end, self.tokenizer.encode
        return tuple([*encode(text), *encode(end)] if self.n_end else encode(text + end))

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
        lead = TurnTexts(*config.turns).lead(config.instruction)
        opening = Opening(ids=config.read_opening, text=lead, seats=())
        return replace(made, opening=opening, turns=config.turns, n_end=self.n_end)

    def explain_limits(self) -> str:
        """Lines of the model card on what other runtimes read, and on answers."""
        return (
            "- Other runtimes read the beginning of the document alone: about "
            f"{self.config.max_seats:,} tokens. `d2l ask` and `d2l serve` read the whole, by "
            "its parts.\n"
            f"{self.explain_base()}"
        )
