"""How a Doc-to-LoRA network compiles documents: chunks, ranks, and what the card says."""

from bisect import bisect_left
from collections.abc import Sequence

from d2l.adapters.provenance import Prompt
from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import BaseTokenizer, Encoded
from d2l.compiler.kind import CompileKind, Reader, refuse_shallow
from d2l.compiler.options import CompileOptions
from d2l.documents.chunks import Chunk, split_at, split_evenly
from d2l.documents.document import Document
from d2l.documents.stable_chunks import find_headings, pack_stable
from d2l.errors import BaseModelError, OptionError
from d2l.hypernets.doc_to_lora.network import DocToLoraConfig
from d2l.hypernets.fit import OpenNetwork

#: Chunk limit where neither the user nor the checkpoint names one: the public evaluation's.
DEFAULT_CHUNK_TOKENS = 8192
#: What adapters without an opening answer to: the base's own chat, one user turn.
BASE_PROMPT = Prompt(chat_template="base", turns="user", opening=None)


def find_reader(network: OpenNetwork[DocToLoraConfig]) -> BaseFiles:
    """The base, or the other model that reads for the network; refused where it does not fit."""
    config = network.config
    reader = network.base if config.encoder is None else network.find_other(config.encoder)
    name = config.encoder or config.base
    refuse_shallow(network, reader, name)
    width = int(reader.config.hidden_size)
    if width != config.feature_size:
        raise BaseModelError(
            f"{reader.folder}: hidden states are {width} wide, the checkpoint reads "
            f"{config.feature_size}",
            hint=f"the checkpoint reads documents with {name}",
        )
    return reader


def cut(
    documents: Sequence[Document],
    network: OpenNetwork[DocToLoraConfig],
    reader: Reader,
    options: CompileOptions,
) -> list[Chunk]:
    """Template each document, then cut its tokens evenly; documents never share a chunk."""
    if options.tokens_per_seat is not None:
        raise OptionError(
            f"{network.files.name}: is no seat network, so it has no tokens per seat",
            hint="leave --tokens-per-seat out",
        )
    config, tokenizer = network.config, reader.tokenizer
    limit = options.chunk_tokens or config.chunk_tokens or DEFAULT_CHUNK_TOKENS
    family = reader.files.family
    template = tokenizer.document_template(family.document_template)
    listed = (family.affixes or {}).get(reader.files.name)
    prefix, suffix = listed if listed is not None else tokenizer.affixes(template)
    chunks: list[Chunk] = []
    for document in documents:
        text = document.text
        start_of_text = len(text) - len(text.lstrip())
        encoded = tokenizer.encode_template(template, text.strip())
        if options.chunking == "stable":
            borders = _find_borders(document, encoded, tokenizer, limit)
            slices = split_at(encoded.ids, borders, prefix=prefix, suffix=suffix)
        else:
            slices = split_evenly(encoded.ids, limit=limit, prefix=prefix, suffix=suffix)
        for ids, first, last in slices:
            begin = encoded.offsets[first][0] + start_of_text
            end = encoded.offsets[last - 1][1] + start_of_text
            source = document.where(begin, end)
            span = (begin, end)
            chunks.append(Chunk(len(chunks), ids, source, document.name, config.rank, span))
    return chunks


def _find_borders(
    document: Document, encoded: Encoded, tokenizer: BaseTokenizer, limit: int
) -> list[int]:
    """Tokens of the templated document that stable chunks begin with, but for the first."""
    text = document.text
    offset = len(text) - len(text.lstrip())
    pieces = pack_stable(text, tokenizer=tokenizer, limit=limit, headings=find_headings(document))
    starts = [start for start, _ in encoded.offsets]  # rising, as the text is read
    return sorted(
        {bisect_left(starts, piece.start - offset) for piece in pieces[1:]} - {0, len(starts)}
    )


def count_ranks(
    config: DocToLoraConfig, chunks: Sequence[Chunk], options: CompileOptions
) -> tuple[int, int]:
    """The ranks of all chunks and of the learned part, before and after --max-rank."""
    total = sum(chunk.rank for chunk in chunks) + config.bias_rank
    return total, min(total, options.max_rank or total)


KIND = CompileKind(
    config=DocToLoraConfig,
    find_reader=find_reader,
    cut=cut,
    count_ranks=count_ranks,
    warn=lambda _config, _chunks: [],
    prompt=lambda _config, _rank: BASE_PROMPT,
    texts=lambda _config, _rank, _base: {},
    card_prompt=lambda _rank: (
        "Ask with the base's own chat template: one user turn, no system text.\n"
    ),
    card_limits=lambda _config: (
        "- Rank grows with the document's length; runtimes limit it (`--max-rank` bounds it).\n"
        "- The delta is computed for this base model only.\n"
    ),
)
