"""What was read → plan: what `compile` will do, before any weights are loaded.

Reads the checkpoint's configuration and the base's config and tokenizer; `compile.run` executes.
What differs from one kind of network to another stands in `kinds`.
"""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from d2l.bases.models import BaseFiles, pick_device
from d2l.bases.tokenizers import load_tokenizer
from d2l.compiler.kind import CompileKind, Reader
from d2l.compiler.kinds import DOCUMENTS, find_kind
from d2l.compiler.options import CompileOptions
from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.documents.intake import Intake
from d2l.errors import DocumentError
from d2l.hypernets.fit import OpenNetwork, open_network
from d2l.hypernets.protocol import HypernetConfig
from d2l.hypernets.registry import CheckpointFiles

__all__ = ["CompileOptions", "CompilePlan", "prepare"]


@dataclass(frozen=True)
class CompilePlan:
    """Everything that is decided before computing; `warnings` are for the user. `moments`: second
    moments that were measured on this base, where a seat network's own are of another."""

    chunks: tuple[Chunk, ...]
    config: HypernetConfig
    checkpoint: CheckpointFiles
    base: BaseFiles
    encoder: BaseFiles  # the model that reads; nearly always the base itself
    intake: Intake  # the documents, those that could not be read, and how they were read
    options: CompileOptions
    rank: int  # that chunks share, or seats
    full_rank: int  # before --max-rank
    file_rank: int  # of the weights that will be written
    adapter_bytes: int
    warnings: tuple[str, ...] = ()
    moments: Path | None = None

    @property
    def documents(self) -> tuple[Document, ...]:
        """What is compiled."""
        return self.intake.documents

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Inputs that could not be read: (name, reason)."""
        return self.intake.skipped

    @property
    def method(self) -> str:
        """How chunks become one adapter: a key of merge_methods.METHODS."""
        return self.options.merge.method

    @cached_property
    def device(self) -> str:
        """The device that it will run on; raises BaseModelError where that is not there."""
        return pick_device(self.options.device)

    @cached_property
    def kind(self) -> CompileKind[Any]:
        """How networks of this kind compile."""
        return find_kind(self.config)

    @property
    def n_tokens(self) -> int:
        """Tokens that the base will read, templates included."""
        return sum(len(chunk.token_ids) for chunk in self.chunks)

    @cached_property
    def unrefinable(self) -> str | None:
        """Why the documents cannot be refined on, in a sentence; None where they can."""
        from d2l.refining.drills import name_reason

        return name_reason(self.documents)

    @cached_property
    def ranks(self) -> Counter[str]:
        """Ranks, or seats, that hold something of each document, by its name."""
        shared, held = self.kind.averages_share and self.method == "average", Counter[str]()
        for chunk in self.chunks:
            before = held[chunk.document]
            held[chunk.document] = max(before, chunk.rank) if shared else before + chunk.rank
        return held

    def describe_tokens(self) -> str:
        """What is read, for people: "267 in 1 chunk"."""
        n_chunks = len(self.chunks)
        return f"{self.n_tokens:,} in {n_chunks:,} {'chunk' if n_chunks == 1 else 'chunks'}"


def open_compiler(options: CompileOptions) -> OpenNetwork[Any]:
    """The network that compiles, without its weights; raises CheckpointError."""
    return open_network(
        options.checkpoint, kinds=DOCUMENTS, base=options.base, offline=options.offline
    )


def prepare(
    intake: Intake, options: CompileOptions, *, network: OpenNetwork[Any] | None = None
) -> CompilePlan:
    """Plan the compilation of what was read: chunks, rank and size, and everything checked.

    `network` is what `open_compiler` gave for the same options: many plans, opened once.
    Raises CheckpointError, BaseModelError, DocumentError or OptionError with what to do about it.
    """
    if not intake.documents:
        raise DocumentError("nothing to compile: no document was read")
    network = network or open_compiler(options)
    config, base, kind = network.config, network.base, find_kind(network.config)
    reader = _load_reader(network, kind)
    chunks = kind.cut(intake.documents, network, reader, options)
    full, rank = kind.count_ranks(config, chunks, options)
    itemsize = 4 if options.dtype == "fp32" else 2
    return CompilePlan(
        chunks=tuple(chunks),
        config=config,
        checkpoint=network.files,
        base=base,
        encoder=reader.files,
        intake=intake,
        options=options,
        rank=rank,
        full_rank=full,
        file_rank=kind.file_rank(config, rank),
        adapter_bytes=kind.count_values(config, rank) * itemsize,
        warnings=(*network.warnings, *kind.warn(config, chunks)),
        moments=network.find_moments(base),
    )


def _load_reader(network: OpenNetwork[Any], kind: CompileKind[Any]) -> Reader:
    """The model that reads documents, with its tokenizer."""
    files = kind.find_reader(network)
    own = files is network.base
    return Reader(files, network.tokenizer if own else load_tokenizer(files.folder))
