"""Documents → plan: what `compile` will do, before any weights are loaded.

Reads the checkpoint's configuration and the base's config and tokenizer; `compile.run` executes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from d2l.bases.models import BaseFiles, find_base
from d2l.bases.tokenizers import BaseTokenizer, load_tokenizer
from d2l.documents.chunks import Chunk, pack_sentences, split_evenly
from d2l.documents.document import Document
from d2l.errors import BaseModelError, CheckpointError, DocumentError, OptionError
from d2l.hypernets.checkpoints import list_warnings, read_config
from d2l.hypernets.doc_to_lora.network import DocToLoraConfig
from d2l.hypernets.fit import check_fit
from d2l.hypernets.protocol import HypernetConfig, MergeOptions
from d2l.hypernets.registry import DEFAULT, CheckpointFiles, find_checkpoint
from d2l.hypernets.seats.config import SeatsConfig, allot_seats, count_seats, set_density

#: Chunk limit where neither the user nor the checkpoint names one: the public evaluation's.
DEFAULT_CHUNK_TOKENS = 8192


@dataclass(frozen=True)
class CompileOptions:
    """What the user may choose; the defaults are those of the command line."""

    checkpoint: str = DEFAULT
    base: str | None = None  # where the base lies, if not where the checkpoint's name leads
    device: str = "auto"
    merge: MergeOptions = field(default_factory=MergeOptions)
    max_rank: int | None = None
    chunk_tokens: int | None = None
    tokens_per_seat: int | None = None  # seat networks only; None: the checkpoint's own
    dtype: str = "bf16"  # of the written adapter; a key of peft_files.DTYPES
    offline: bool = False
    force: bool = False


@dataclass(frozen=True)
class CompilePlan:
    """Everything that is decided before computing; `warnings` are for the user."""

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
    checkpoint = find_checkpoint(options.checkpoint, offline=options.offline)
    config = read_config(checkpoint.path)
    if config.kind == "text_to_lora":
        raise CheckpointError(
            f"{checkpoint.name}: is a Text-to-LoRA network, which reads task descriptions and no "
            "documents",
            hint="use t2l make, or name another checkpoint",
        )
    base = find_base(config.base, override=options.base, offline=options.offline)
    warnings = [*list_warnings(checkpoint.path), *check_fit(config, base, given=options.base)]
    encoder = _find_encoder(config, base, options)
    tokenizer = load_tokenizer(encoder.folder)
    if isinstance(config, SeatsConfig):
        chunks = chunk_for_seats(documents, tokenizer, config, options)
        warnings += _warn_long(config, chunks)
    else:
        assert isinstance(config, DocToLoraConfig)  # FORMATS reads no further kind
        if options.tokens_per_seat is not None:
            raise OptionError(
                f"{checkpoint.name}: is no seat network, so it has no tokens per seat",
                hint="leave --tokens-per-seat out",
            )
        chunks = chunk_for_doc_to_lora(documents, tokenizer, config, encoder, options)
    full, rank = _plan_rank(config, chunks, options)
    itemsize = 4 if options.dtype == "fp32" else 2
    values = sum(d_in + d_out for d_in, d_out in config.module_shapes.values())
    return CompilePlan(
        chunks=tuple(chunks),
        config=config,
        checkpoint=checkpoint,
        base=base,
        encoder=encoder,
        documents=tuple(documents),
        method=options.merge.method,
        rank=rank,
        full_rank=full,
        adapter_bytes=rank * values * config.n_adapted_layers * itemsize,
        warnings=tuple(warnings),
    )


def _find_encoder(config: HypernetConfig, base: BaseFiles, options: CompileOptions) -> BaseFiles:
    """The model that reads documents; refused where it has not what the network reads."""
    name = getattr(config, "encoder", None)  # set where it is not the base
    encoder = base if name is None else find_base(name, offline=options.offline)
    hint = f"the checkpoint reads documents with {name or config.base}"
    n_layers, width = int(encoder.config.num_hidden_layers), int(encoder.config.hidden_size)
    if n_layers < config.reading.n_layers:
        raise BaseModelError(
            f"{encoder.folder}: has {n_layers} layers, the checkpoint reads "
            f"{config.reading.n_layers}",
            hint=hint,
        )
    if isinstance(config, DocToLoraConfig) and width != config.feature_size:
        raise BaseModelError(
            f"{encoder.folder}: hidden states are {width} wide, the checkpoint reads "
            f"{config.feature_size}",
            hint=hint,
        )
    return encoder


def chunk_for_doc_to_lora(
    documents: Sequence[Document],
    tokenizer: BaseTokenizer,
    config: DocToLoraConfig,
    encoder: BaseFiles,
    options: CompileOptions,
) -> list[Chunk]:
    """Template each document, then cut its tokens evenly; documents never share a chunk."""
    limit = options.chunk_tokens or config.chunk_tokens or DEFAULT_CHUNK_TOKENS
    family = encoder.family
    template = tokenizer.document_template(family.document_template)
    listed = (family.affixes or {}).get(encoder.name)
    prefix, suffix = listed if listed is not None else tokenizer.affixes(template)
    chunks: list[Chunk] = []
    for document in documents:
        text = document.text
        start_of_text = len(text) - len(text.lstrip())
        encoded = tokenizer.encode_template(template, text.strip())
        slices = split_evenly(encoded.ids, limit=limit, prefix=prefix, suffix=suffix)
        for ids, first, last in slices:
            begin = encoded.offsets[first][0] + start_of_text
            end = encoded.offsets[last - 1][1] + start_of_text
            source = document.where(begin, end)
            span = (begin, end)
            chunks.append(Chunk(len(chunks), ids, source, document.name, config.rank, span))
    return chunks


def chunk_for_seats(
    documents: Sequence[Document],
    tokenizer: BaseTokenizer,
    config: SeatsConfig,
    options: CompileOptions,
) -> list[Chunk]:
    """Pack sentences into chunks and share the seats among them.

    Each document gets the seats that it would get alone, while all of them fit into the network:
    then compiling together equals joining the memories of documents compiled one by one.
    Otherwise all documents share the network's seats by length.
    """
    limit = options.chunk_tokens or config.chunk_tokens
    if not config.min_chunk_tokens <= limit <= config.chunk_tokens:
        raise OptionError(
            f"chunks of {limit} tokens, but this network reads "
            f"{config.min_chunk_tokens} to {config.chunk_tokens}",
            hint="leave --chunk-tokens out",
        )
    pieces = [
        pack_sentences(
            document.text, tokenizer=tokenizer, limit=limit, minimum=config.min_chunk_tokens
        )
        for document in documents
    ]
    lengths = [[len(piece.token_ids) for piece in packed] for packed in pieces]
    for document, sizes in zip(documents, lengths, strict=True):
        if not sum(sizes):
            raise DocumentError(
                f"{document.name}: no text that the base's tokenizer knows",
                hint="leave this document out",
            )
    shares = _share_seats(lengths, config, options)
    chunks: list[Chunk] = []
    for document, packed, ranks in zip(documents, pieces, shares, strict=True):
        for piece, rank in zip(packed, ranks, strict=True):
            ids = (*config.read_opening, *piece.token_ids)
            span = (piece.start, piece.stop)
            source = document.where(*span)
            chunks.append(Chunk(len(chunks), ids, source, document.name, rank, span))
    return chunks


def _share_seats(
    lengths: Sequence[Sequence[int]], config: SeatsConfig, options: CompileOptions
) -> list[list[int]]:
    """Seats of every chunk of every document."""
    if options.tokens_per_seat is not None:
        config = set_density(config, options.tokens_per_seat)
    flat = [length for document in lengths for length in document]
    if options.merge.method == "average":
        each = count_seats(max(flat), config=config, max_seats=options.max_rank)
        return [[each] * len(document) for document in lengths]
    most = min(options.max_rank or config.max_seats, config.max_seats)
    alone = [allot_seats(document, config=config, max_seats=most) for document in lengths]
    if sum(map(sum, alone)) <= most:
        return alone
    together = iter(allot_seats(flat, config=config, max_seats=most))
    return [[next(together) for _ in document] for document in lengths]


def _plan_rank(
    config: HypernetConfig, chunks: Sequence[Chunk], options: CompileOptions
) -> tuple[int, int]:
    """Rank before and after `max_rank`; seats bound it when they are shared out."""
    if options.max_rank is not None and options.max_rank < 1:
        raise OptionError(f"--max-rank is {options.max_rank}, expected 1 or more")
    if isinstance(config, SeatsConfig):
        ranks = [chunk.rank for chunk in chunks]
        total = max(ranks) if options.merge.method == "average" else sum(ranks)
        return total, total
    total = sum(chunk.rank for chunk in chunks) + config.bias_rank
    return total, min(total, options.max_rank or total)


def _warn_long(config: SeatsConfig, chunks: Sequence[Chunk]) -> list[str]:
    """Say when a document is longer than the seats can hold."""
    held = config.held_tokens
    n_tokens = sum(len(chunk.token_ids) - len(config.read_opening) for chunk in chunks)
    if n_tokens <= held:
        return []
    return [
        f"the document has {n_tokens:,} tokens and this network holds about {held:,}: it is "
        "compiled all the same, but expect few of its facts to come back "
        "(compile the pages that matter, or use a larger checkpoint)"
    ]
