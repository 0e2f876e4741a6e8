"""What was read → plan: what compiling will do, before any weights are loaded.

Reads the checkpoint's configuration and the base's config and tokenizer; `run` executes the plan.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from d2l.adapters.peft_config import VLLM_RANKS
from d2l.adapters.provenance import ExamplesRecord
from d2l.bases import devices
from d2l.bases.models import BaseFiles
from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.documents.intake import Intake
from d2l.errors import DocumentError, OptionError
from d2l.hypernets.network import AnyNetwork
from d2l.hypernets.networks import open_network
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.protocol import HypernetConfig
from d2l.hypernets.registry import CheckpointFiles


@dataclass(frozen=True, repr=False)
class CompilePlan:
    """Everything that is decided before computing; `warnings` are for the user."""

    network: AnyNetwork
    chunks: tuple[Chunk, ...]
    intake: Intake  # the documents, those that could not be read, and how they were read
    options: CompileOptions
    rank: int  # that chunks share, or seats
    full_rank: int  # before --max-rank
    warnings: tuple[str, ...] = ()
    examples: ExamplesRecord | None = None  # solved examples that are read with a description

    def __repr__(self) -> str:
        names = ", ".join(document.name for document in self.documents)
        return (
            f"CompilePlan({names!r:.60}, checkpoint={self.checkpoint.name!r}, "
            f"tokens {self.describe_tokens()}, rank {self.file_rank})"
        )

    @property
    def config(self) -> HypernetConfig:
        """The network's configuration."""
        config: HypernetConfig = self.network.config
        return config

    @property
    def checkpoint(self) -> CheckpointFiles:
        """The network's name and files."""
        return self.network.files

    @property
    def base(self) -> BaseFiles:
        """The model that is adapted."""
        return self.network.base

    @property
    def encoder(self) -> BaseFiles:
        """The model that reads; nearly always the base itself."""
        return self.network.reader

    @cached_property
    def moments(self) -> Path | None:
        """Second moments that were measured on this base, if a seat network's own are of
        another."""
        return self.network.find_moments()

    @property
    def documents(self) -> tuple[Document, ...]:
        """The documents that are compiled."""
        return self.intake.documents

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Inputs that could not be read: (name, reason)."""
        return self.intake.skipped

    @property
    def method(self) -> str:
        """How chunks become one adapter: a key of merge_methods.METHODS."""
        return self.options.merge

    @property
    def file_rank(self) -> int:
        """Rank of the weights that will be written."""
        return self.network.find_file_rank(self.rank)

    @property
    def adapter_bytes(self) -> int:
        """Size of the weights that will be written."""
        itemsize = 4 if self.options.dtype == "fp32" else 2
        return self.network.count_values(self.rank) * itemsize

    @cached_property
    def device(self) -> str:
        """The device that it will run on; raises BaseModelError if that is not there."""
        return devices.pick_device(self.options.device)

    @property
    def array_device(self) -> str:
        """The device for linear algebra on weights: CUDA, or else the CPU."""
        return self.device if devices.is_cuda(self.device) else "cpu"

    @property
    def keeps_parts(self) -> bool:
        """Whether a part is kept for each chunk, of which questions choose."""
        return bool(self.chunks[0].text)

    @property
    def parts_bytes(self) -> int:
        """Size of the parts' memories that will be written."""
        kept = self.chunks if self.keeps_parts else ()
        return sum(self.network.count_part_bytes(chunk.part_rank) for chunk in kept)

    @property
    def n_tokens(self) -> int:
        """Tokens that the base will read, templates included."""
        return sum(len(chunk.token_ids) for chunk in self.chunks)

    @cached_property
    def n_text_tokens(self) -> int:
        """Tokens of the documents' text: what people are told."""
        return self.network.count_tokens(self.documents).total()

    @cached_property
    def ranks(self) -> Counter[str]:
        """Ranks, or seats, of each document, by its name."""
        shared, held = self.network.averages_share and self.method == "average", Counter[str]()
        for chunk in self.chunks:
            before = held[chunk.document]
            held[chunk.document] = max(before, chunk.rank) if shared else before + chunk.rank
        return held

    def describe_tokens(self) -> str:
        """The text's length, for people: "240", or "4,553 in 36 parts" (or "chunks")."""
        n_chunks, unit = len(self.chunks), "parts" if self.keeps_parts else "chunks"
        return f"{self.n_text_tokens:,}" + (f" in {n_chunks:,} {unit}" if n_chunks > 1 else "")


def prepare(
    intake: Intake, options: CompileOptions, *, network: AnyNetwork | None = None
) -> CompilePlan:
    """Plan the compilation of documents: chunks, rank and size, and everything checked.

    `network` is what `open_network` gave for the same options: many plans, opened once.
    Raises CheckpointError, BaseModelError, DocumentError or OptionError with what to do about it.
    """
    if not intake.documents:
        raise DocumentError("nothing to compile: no document was read")
    if network is None:
        network = open_network(options.checkpoint, base=options.base, offline=options.offline)
    network.require("documents")
    if network.imposes_on_base and options.encoder != "plain":
        raise OptionError(
            f"{network.files.name}: its base reads with the weights that it answers with",
            hint="leave --encoder out: it is for Doc-to-LoRA networks",
        )
    chunks = network.cut(intake.documents, options)
    full, rank = network.count_ranks(chunks, options)
    warnings = [
        *network.warnings,
        *network.warn(chunks, network.count_tokens(intake.documents), options),
    ]
    if (file_rank := network.find_file_rank(rank)) > VLLM_RANKS[-1]:
        warnings.append(
            f"rank {file_rank:,} is more than vLLM loads, {VLLM_RANKS[-1]}: choose more "
            f"--chunk-tokens, or --max-rank {VLLM_RANKS[-1]}"
        )
    return CompilePlan(
        network=network,
        chunks=tuple(chunks),
        intake=intake,
        options=options,
        rank=rank,
        full_rank=full,
        warnings=tuple(warnings),
    )
