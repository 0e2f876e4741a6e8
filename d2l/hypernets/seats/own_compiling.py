"""Compiling with a base's own keys and values: everything that differs from a trained network."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

from d2l.adapters.parts import OVERVIEW
from d2l.adapters.provenance import Opening
from d2l.bases.turns import TurnTexts
from d2l.documents.chunks import Chunk, Piece
from d2l.documents.document import Document
from d2l.documents.overview import write_overview
from d2l.hypernets.formats.format import Format, native_format
from d2l.hypernets.formats.native import CONFIG_FILE
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.protocol import PromptFiles
from d2l.hypernets.registry import OWN
from d2l.hypernets.seats.compiling import SeatsNetwork
from d2l.hypernets.seats.config import SeatsConfig, read_config
from d2l.hypernets.seats.own import PART_END, instruct

FORMAT = replace(
    native_format(OWN, "own keys and values", SeatsConfig.from_json),
    description="a d2l folder of a base's own keys and values (config.json)",
    read_config=lambda path: read_config(path / CONFIG_FILE),
    find_weights=lambda path: path / CONFIG_FILE,
)


@dataclass(frozen=True)
class OwnNetwork(SeatsNetwork):
    """A network without weights: a memory is the base's own keys and values, a seat a token."""

    kind: ClassVar[str] = OWN
    formats: ClassVar[tuple[Format, ...]] = (FORMAT,)

    def for_tasks(self) -> Self:
        """The network with prompts of tasks: an instruction on documents misleads there."""
        return replace(self, config=instruct(self.config, self.tokenizer, ""))

    def keeps_parts(self, n_tokens: int) -> bool:
        """True: a part is the page in the prompt, which the seats of an adapter only come near."""
        del n_tokens
        return True

    def pack(
        self, document: Document, limit: int, options: CompileOptions, *, keeps: bool
    ) -> list[Piece]:
        """Pack the text into pieces, each with the end that divides it from a question."""
        pieces = super().pack(document, limit, options, keeps=keeps)
        return [piece._replace(token_ids=self._encode(piece.text)) for piece in pieces]

    def _encode(self, text: str) -> tuple[int, ...]:
        return tuple(self.tokenizer.encode(text + PART_END))

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
        return replace(made, opening=opening, turns=config.turns)

    def explain_limits(self) -> str:
        """Lines of the model card on what other runtimes read, and on answers."""
        return (
            "- Other runtimes read the beginning of the document alone: about "
            f"{self.config.max_seats:,} tokens. `d2l ask` and `d2l serve` read the whole, by "
            "its parts.\n"
            f"{self.explain_base()}"
        )

    @cached_property
    def familiarity(self) -> None:
        """Descriptions of training: none, since nothing was trained."""
        return
