"""How a seat network compiles documents: chunks, seats, the prompt, and what the card says."""

import json
from collections import Counter
from collections.abc import Sequence

from d2l.adapters.card import quote
from d2l.adapters.info import CHAT_TEMPLATE
from d2l.adapters.provenance import Opening, Prompt
from d2l.bases.catalog import find_known
from d2l.bases.models import BaseFiles
from d2l.bases.tokenizer_files import read_compact
from d2l.bases.tokenizers import BaseTokenizer
from d2l.compiler.forgotten import Share, find_forgotten, name_forgotten
from d2l.compiler.kind import CompileKind, Reader, refuse_shallow
from d2l.compiler.options import CompileOptions
from d2l.documents.chunks import Chunk, Piece, pack_sentences
from d2l.documents.document import Document
from d2l.documents.stable_chunks import find_headings, pack_stable
from d2l.errors import BaseModelError, DocumentError, OptionError
from d2l.hypernets.fit import OpenNetwork
from d2l.hypernets.seats.config import (
    SeatsConfig,
    count_seats,
    level_seats,
    set_density,
    split_seats,
    split_stable,
)
from d2l.hypernets.seats.opening import chat_template, opening_text

#: What a tokenizer needs to know that is not in tokenizer.json.
_TOKENIZER_KEYS = (
    "bos_token",
    "clean_up_tokenization_spaces",
    "eos_token",
    "model_max_length",
    "pad_token",
    "unk_token",
)

#: A line of every card: what all seats cost.
CHANGES = "- It changes general answers too, the more the more seats are used.\n"


def find_reader(network: OpenNetwork[SeatsConfig]) -> BaseFiles:
    """The base: seats are its own keys and values."""
    refuse_shallow(network, network.base, network.config.base)
    return network.base


def cut(
    documents: Sequence[Document],
    network: OpenNetwork[SeatsConfig],
    reader: Reader,
    options: CompileOptions,
) -> list[Chunk]:
    """Pack sentences into chunks and share the seats among them.

    Each document gets the seats that it would get alone, while all of them fit into the network:
    then compiling together equals joining the memories of documents compiled one by one.
    Otherwise all documents share the network's seats: by length, or, where that would leave all of
    them with more tokens a seat than the network remembers, so that the short ones keep theirs.
    """
    config, tokenizer = network.config, reader.tokenizer
    limit = options.chunk_tokens or config.chunk_tokens
    if not config.min_chunk_tokens <= limit <= config.chunk_tokens:
        raise OptionError(
            f"chunks of {limit} tokens, but this network reads "
            f"{config.min_chunk_tokens} to {config.chunk_tokens}",
            hint="leave --chunk-tokens out",
        )
    pieces = [_pack(document, config, tokenizer, limit, options) for document in documents]
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


def _pack(
    document: Document,
    config: SeatsConfig,
    tokenizer: BaseTokenizer,
    limit: int,
    options: CompileOptions,
) -> list[Piece]:
    """The document's text in pieces, without the words that the network reads before each."""
    if options.chunking == "stable":
        headings = find_headings(document)
        return pack_stable(document.text, tokenizer=tokenizer, limit=limit, headings=headings)
    return pack_sentences(
        document.text, tokenizer=tokenizer, limit=limit, minimum=config.min_chunk_tokens
    )


def _share_seats(
    lengths: Sequence[Sequence[int]], config: SeatsConfig, options: CompileOptions
) -> list[list[int]]:
    """Seats of every chunk of every document."""
    held = config.held_density
    if options.tokens_per_seat is not None:
        config = set_density(config, options.tokens_per_seat)
    flat = [length for document in lengths for length in document]
    if options.merge.method == "average":
        each = count_seats(max(flat), config=config, max_seats=options.max_rank)
        return [[each] * len(document) for document in lengths]
    most = min(options.max_rank or config.max_seats, config.max_seats)
    split = split_stable if options.chunking == "stable" else split_seats
    alone = [
        split(document, count_seats(sum(document), config=config, max_seats=most))
        for document in lengths
    ]
    if sum(map(sum, alone)) <= most:
        return alone
    count_seats(sum(flat), config=config, max_seats=most)  # refuses what no opening is short for
    if sum(flat) <= held * most:
        together = iter(split(flat, most))
        return [[next(together) for _ in document] for document in lengths]
    granted = level_seats([sum(document) for document in alone], most)
    return [split(sizes, n_seats) for sizes, n_seats in zip(lengths, granted, strict=True)]


def count_ranks(
    config: SeatsConfig, chunks: Sequence[Chunk], options: CompileOptions
) -> tuple[int, int]:
    """Seats, which --max-rank bounded already when they were shared out."""
    del config
    ranks = [chunk.rank for chunk in chunks]
    total = max(ranks) if options.merge.method == "average" else sum(ranks)
    return total, total


def warn_long(config: SeatsConfig, chunks: Sequence[Chunk]) -> list[str]:
    """Say what has more tokens than its seats can hold."""
    tokens, seats = Counter[str](), Counter[str]()
    for chunk in chunks:
        tokens[chunk.document] += len(chunk.token_ids) - len(config.read_opening)
        seats[chunk.document] += chunk.rank
    held, total = config.held_tokens, tokens.total()
    forgotten = find_forgotten([Share(n, tokens[n], seats[n]) for n in tokens], config)
    if len(tokens) > 1 and forgotten:
        return [name_forgotten(forgotten, config, alone="an adapter of its own with --each")]
    if total > held:
        return [
            f"the document has {total:,} tokens and this network holds about {held:,}: it is "
            "compiled all the same, but expect few of its facts to come back "
            "(compile the pages that matter, or use a larger checkpoint)"
        ]
    return [
        f"{one.name} has {one.n_tokens:,} tokens for {one.n_seats:,} seats, and this network "
        f"remembers about {config.held_density:.0f} tokens a seat: expect few of its facts to "
        "come back"
        for one in forgotten
    ]


def describe_prompt(config: SeatsConfig, n_seats: int) -> Prompt:
    """The prompt that a seats adapter answers to."""
    opening = Opening(
        ids=tuple(config.opening(n_seats)),
        text=opening_text(config, n_seats),
        seats=tuple(range(1, n_seats + 1)),  # positions; 0 is the sink
    )
    return Prompt(chat_template=CHAT_TEMPLATE, turns="user", opening=opening)


def write_texts(config: SeatsConfig, n_seats: int, base: BaseFiles) -> dict[str, str]:
    """Tokenizer and chat template, so that `AutoTokenizer.from_pretrained` on the folder and
    `apply_chat_template` alone make the prompt that the memory answers to."""
    return {CHAT_TEMPLATE: chat_template(config, n_seats), **_tokenizer_files(base)}


def _tokenizer_files(base: BaseFiles) -> dict[str, str]:
    """The base's tokenizer, without the base's own chat template, which must not win.

    Its class becomes the one that takes tokenizer.json as it is and that every transformers
    knows: Llama's class of version 5 rebuilds its own, and version 4 cannot load those of 5.
    """
    folder = base.folder
    texts = {"tokenizer.json": read_compact(folder / "tokenizer.json")}
    config = folder / "tokenizer_config.json"
    try:
        found = json.loads(config.read_text("utf-8")) if config.is_file() else {}
        if not isinstance(found, dict):
            raise ValueError("no JSON object")
    except (OSError, ValueError, RecursionError) as error:
        raise BaseModelError(
            f"{config}: cannot be read ({error})", hint="get the base's files again"
        ) from error
    settings = {key: found[key] for key in _TOKENIZER_KEYS if key in found}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    settings["model_input_names"] = ["input_ids", "attention_mask"]  # no token types: not a BERT
    texts["tokenizer_config.json"] = json.dumps(settings, indent=2, sort_keys=True) + "\n"
    return texts


def describe_opening(n_seats: int) -> str:
    """What prompts of a seats adapter begin with, for people."""
    return (
        f"The memory hangs on the first {n_seats + 1} tokens of the prompt (the opening, in "
        "`d2l.json`). This folder's tokenizer and chat template put them there; a prompt without "
        "them cannot read the memory. A system message of your own follows the opening.\n"
    )


def _list_limits(config: SeatsConfig) -> str:
    return (
        "- Seats remember short notes best. Recall falls with length: of a page some facts come "
        f"back, of more than about {config.held_tokens:,} tokens few.\n"
        "- It answers in a few words; ask one fact at a time.\n"
        f"{CHANGES}"
        f"{limit_bases(config)}\n"
    )


def limit_bases(config: SeatsConfig) -> str:
    """A line of the card on the weights that the seats were made for."""
    file, known = quote(config.base_file), find_known(config.base)
    if known is not None and known.rescaled and known.file == config.base_file:
        return (
            f"- It was made on {file}, whose parts are scaled otherwise than the original weights: "
            "on those, and on other files of the base, it answers ordinary text wrongly. To serve "
            "one of them, measure it once (`d2l calibrate --base BASE`), and compile with `--base "
            "BASE`."
        )
    return (
        f"- It was made on {file}. On other files of the same base, for example quantized in "
        "another way, answers differ a little."
    )


KIND = CompileKind(
    config=SeatsConfig,
    find_reader=find_reader,
    cut=cut,
    count_ranks=count_ranks,
    warn=warn_long,
    prompt=describe_prompt,
    texts=write_texts,
    card_prompt=describe_opening,
    card_limits=_list_limits,
    # Seats impose keys on the base: rounding it to bf16 moves logits by 0.15.
    imposes_on_base=True,
    averages_share=True,
    own_tokenizer=True,
    rank_unit=" (seats)",
    file_rank=SeatsConfig.find_rank,
    count_values=SeatsConfig.count_values,
)
