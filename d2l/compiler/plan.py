"""Documents → plan: what `compile` will do, before any weights are loaded.

Reads the checkpoint's configuration and the base's config and tokenizer; `compile.run` executes.
What differs from one kind of network to another stands in `kinds`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import load_tokenizer
from d2l.compiler.kind import CompileKind, Reader
from d2l.compiler.kinds import DOCUMENTS, find_kind
from d2l.compiler.options import CompileOptions
from d2l.documents.chunks import Chunk
from d2l.documents.document import Document
from d2l.errors import DocumentError, OptionError
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
    documents: tuple[Document, ...]
    method: str  # key of merge.METHODS
    rank: int  # of the adapter that will be written
    full_rank: int  # before --max-rank
    adapter_bytes: int
    warnings: tuple[str, ...] = ()
    moments: Path | None = None

    @property
    def kind(self) -> CompileKind[Any]:
        """How networks of this kind compile."""
        return find_kind(self.config)

    @property
    def n_tokens(self) -> int:
        """Tokens that the base will read, templates included."""
        return sum(len(chunk.token_ids) for chunk in self.chunks)

    def describe_tokens(self) -> str:
        """What is read, for people: "267 in 1 chunk"."""
        n_chunks = len(self.chunks)
        return f"{self.n_tokens:,} in {n_chunks:,} {'chunk' if n_chunks == 1 else 'chunks'}"


def prepare(documents: Sequence[Document], options: CompileOptions) -> CompilePlan:
    """Plan the compilation of documents: chunks, rank and size, and everything checked.

    Raises CheckpointError, BaseModelError, DocumentError or OptionError with what to do about it.
    """
    if not documents:
        raise DocumentError("nothing to compile: no document was read")
    network: OpenNetwork[Any] = open_network(
        options.checkpoint, kinds=DOCUMENTS, base=options.base, offline=options.offline
    )
    config, base, kind = network.config, network.base, find_kind(network.config)
    reader = _load_reader(network, kind)
    chunks = kind.cut(documents, network, reader, options)
    if options.max_rank is not None and options.max_rank < 1:
        raise OptionError(f"--max-rank is {options.max_rank}, expected 1 or more")
    full, rank = kind.count_ranks(config, chunks, options)
    itemsize = 4 if options.dtype == "fp32" else 2
    values = sum(d_in + d_out for d_in, d_out in config.module_shapes.values())
    return CompilePlan(
        chunks=tuple(chunks),
        config=config,
        checkpoint=network.files,
        base=base,
        encoder=reader.files,
        documents=tuple(documents),
        method=options.merge.method,
        rank=rank,
        full_rank=full,
        adapter_bytes=rank * values * config.n_adapted_layers * itemsize,
        warnings=(*network.warnings, *kind.warn(config, chunks)),
        moments=network.find_moments(base),
    )


def _load_reader(network: OpenNetwork[Any], kind: CompileKind[Any]) -> Reader:
    """The model that reads documents, with its tokenizer."""
    files = kind.find_reader(network)
    own = files is network.base
    return Reader(files, network.tokenizer if own else load_tokenizer(files.folder))
