"""Networks whose memories are seated: a trained one, and a base's own KV cache."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, TypeVar

import torch

from d2l.adapters.card import quote
from d2l.adapters.info import CHAT_TEMPLATE
from d2l.adapters.parts import OVERVIEW
from d2l.bases.activations import Activations
from d2l.bases.catalog import find_known
from d2l.bases.models import BaseFiles, load_frozen
from d2l.bases.tokenizer_files import read_compact
from d2l.datasets.tasks import Example
from d2l.documents.chunks import Chunk, Piece, keep_part, pack_sentences
from d2l.documents.document import Document
from d2l.documents.stable_chunks import pack_below_headings, pack_stable
from d2l.errors import BaseModelError, DocumentError, OptionError
from d2l.files.cache import cache_dir
from d2l.hypernets.network import LoadedNetwork, Network, load_reading, refuse_shallow
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.protocol import ChunkWeights, Cut, PromptFiles
from d2l.hypernets.seats.calibration import (
    cut_plain_text,
    measure_moments,
    with_moments,
)
from d2l.hypernets.seats.network import Seats
from d2l.hypernets.seats.opening import chat_template, describe_prompt
from d2l.hypernets.seats.seated_config import SeatedConfig
from d2l.hypernets.seats.second_moments import FILE_NAME, write_statistics
from d2l.hypernets.seats.sharing import (
    SeatShare,
    count_seats,
    find_forgotten,
    name_forgotten,
    set_density,
    share_seats,
)
from d2l.hypernets.seats.turns import Turns, cut_turns
from d2l.progress import Progress, silent

Config = TypeVar("Config", bound=SeatedConfig)

#: Settings of a tokenizer that are not in tokenizer.json.
_TOKENIZER_KEYS = (
    "bos_token",
    "clean_up_tokenization_spaces",
    "eos_token",
    "model_max_length",
    "pad_token",
    "unk_token",
)


@dataclass(frozen=True)
class LoadedSeats(LoadedNetwork):
    """A network of memories on its base."""

    hypernet: Seats

    def write(
        self, chunk: Chunk, activations: Activations, ranks: Sequence[int]
    ) -> list[ChunkWeights]:
        """Write a memory of a chunk for each number of seats. Turns keep their KV cache, a seat a
        token."""
        if isinstance(chunk, Turns):
            return [self.hypernet.copy(activations, rank) for rank in ranks]
        return super().write(chunk, activations, ranks)


class SeatedNetwork(Network[Config]):
    """A network of memories: chunks become keys and values, which seats impose on the base."""

    unit: ClassVar[str] = "seats"
    imposes_on_base: ClassVar[bool] = True
    averages_share: ClassVar[bool] = True
    own_tokenizer: ClassVar[bool] = True
    reads_examples: ClassVar[bool] = True

    @property
    def reads(self) -> tuple[str, ...]:
        """Inputs of its training."""
        own = self.config.reads
        return ("documents", "descriptions") if own == "both" else (own,)

    @cached_property
    def reader(self) -> BaseFiles:
        """The base: seats are its own keys and values."""
        if self.embedder is not None:
            raise BaseModelError(
                f"{self.files.name}: its base reads descriptions, so there is no other embedder",
                hint="leave --embedder out, or say where the base lies with --base",
            )
        refuse_shallow(self.config, self.base, self.config.base)
        return self.base

    def cut(self, documents: Sequence[Document], options: CompileOptions) -> Cut:
        """Pack sentences into chunks and share the seats among them.

        Each document gets the seats that it would get alone, if all of them fit into the network:
        then compiling together equals joining the memories of documents compiled one by one.
        Otherwise all documents share the network's seats: by length, or, if that left every
        document with more tokens a seat than the network remembers, so that short ones keep theirs.
        """
        config = self.config
        limit = options.chunk_tokens or config.chunk_tokens
        if not config.min_chunk_tokens <= limit <= config.chunk_tokens:
            raise OptionError(
                f"chunks of {limit} tokens, but this network reads "
                f"{config.min_chunk_tokens} to {config.chunk_tokens}",
                hint="leave --chunk-tokens out",
            )
        n_tokens = self.count_tokens(documents)
        held = int(config.max_seats * config.tokens_per_seat)
        keeps = self.keeps_parts(n_tokens.total()) if options.parts is None else options.parts
        pieces = [self.pack(document, limit, options, keeps=keeps) for document in documents]
        if keeps:
            options = replace(options, chunking="stable")
        lengths = [[len(piece.token_ids) - self.n_suffix for piece in packed] for packed in pieces]
        for document, sizes in zip(documents, lengths, strict=True):
            if not sum(sizes):
                raise DocumentError(
                    f"{document.name}: no text that the base's tokenizer knows",
                    hint="leave this document out",
                )
        shares = share_seats(lengths, config, options, keeps_parts=keeps)
        chunks: list[Chunk] = []
        for document, packed, ranks in zip(documents, pieces, shares, strict=True):
            for piece, rank in zip(packed, ranks, strict=True):
                ids = (*config.read_opening, *piece.token_ids)
                span = (piece.start, piece.stop)
                chunk = Chunk(len(chunks), ids, document.where(*span), document.name, rank, span)
                if keeps:
                    n_seats = self.count_part(len(piece.token_ids), options)
                    chunk = keep_part(chunk, document, n_seats)
                chunks.append(chunk)
            chunks += self.cut_whole(document, len(chunks)) if keeps else ()
        ranks = [chunk.rank for chunk in chunks]  # --max-rank has bounded their sharing
        rank = max(ranks) if options.merge == "average" else sum(ranks)
        warnings = () if keeps else self._warn(chunks, n_tokens)
        return Cut(tuple(chunks), n_tokens, rank, rank, keeps, held, tuple(warnings))

    def cut_task(
        self, description: Document, examples: Sequence[Example], options: CompileOptions
    ) -> Cut:
        """Cut a description as a document without parts; with examples one chunk of turns."""
        if examples:
            turns, chosen = cut_turns(self.config, self.tokenizer, description, examples)
            tokens = self.count_tokens((description,))
            cut = Cut((turns,), tokens, turns.rank, turns.rank, examples=chosen)
        else:
            cut = self.cut((description,), options)
        chunks = tuple(replace(chunk, part_rank=0) for chunk in cut.chunks)
        warnings = tuple(self.warn_description(chunks))
        return replace(cut, chunks=chunks, keeps_parts=False, warnings=warnings)

    def find_export_limit(self, chunks: Sequence[Chunk]) -> int | None:
        """Find the limit with which an opening holds each part; None: it does."""
        longest = max(chunk.part_rank for chunk in chunks if chunk.source != OVERVIEW)
        return self.config.exported_tokens if longest > self.config.max_seats else None

    @property
    def n_suffix(self) -> int:
        """Length of the trained suffix of each part; the adapter itself has none."""
        return 0

    def keeps_parts(self, n_tokens: int) -> bool:
        """True if a document of so many tokens keeps parts by default: it has more than the seats
        hold."""
        return n_tokens > int(self.config.max_seats * self.config.tokens_per_seat)

    def cut_whole(self, document: Document, index: int) -> Sequence[Chunk]:
        """Cut the overview chunk of a document, which gets no seats of the adapter; trained
        networks have no such chunk."""
        del document, index
        return ()

    def count_part(self, n_tokens: int, options: CompileOptions) -> int:
        """Count the seats of a part: the seats of its text as a document."""
        config, density = self.config, options.tokens_per_seat
        config = config if density is None else set_density(config, density)
        return count_seats(n_tokens, config=config, max_seats=options.max_rank)

    def pack(
        self, document: Document, limit: int, options: CompileOptions, *, keeps: bool
    ) -> list[Piece]:
        """Pack the document's text into pieces, without the words that the network reads before."""
        text, tokenizer = document.text, self.tokenizer
        if keeps:
            return pack_below_headings(document, tokenizer, limit)
        if options.chunking == "stable":
            starts = document.heading_starts
            return pack_stable(text, tokenizer=tokenizer, limit=limit, headings=starts)
        minimum = self.config.min_chunk_tokens
        return pack_sentences(text, tokenizer=tokenizer, limit=limit, minimum=minimum)

    def _warn(self, chunks: Sequence[Chunk], tokens: Counter[str]) -> list[str]:
        """Warn about documents with more tokens than seats can hold."""
        config = self.config
        seats = Counter[str]()
        for chunk in chunks:
            seats[chunk.document] += chunk.rank
        total = tokens.total()
        forgotten = find_forgotten([SeatShare(n, tokens[n], seats[n]) for n in tokens], config)
        if len(tokens) > 1 and forgotten:
            return [name_forgotten(forgotten, config, alone="an adapter of its own (d2l batch)")]
        if total > config.held_tokens:
            return [
                f"the document has {total:,} tokens and this network holds about "
                f"{config.held_tokens:,}: it is compiled all the same, but expect few of its facts "
                "to come back (compile the pages that matter, or use a larger checkpoint)"
            ]
        return [
            f"{one.name} has {one.n_tokens:,} tokens for {one.n_seats:,} seats, and this network "
            f"remembers about {config.held_density:.0f} tokens a seat: expect few of its facts to "
            "come back"
            for one in forgotten
        ]

    def warn_description(self, chunks: Sequence[Chunk]) -> list[str]:
        """Warn about a description with more tokens than seats can hold."""
        leading, held = len(self.config.read_opening), self.config.held_tokens
        n_tokens = sum(len(chunk.token_ids) - leading for chunk in chunks)
        if n_tokens <= held:
            return []
        return [
            f"the description has {n_tokens:,} tokens and this network holds about {held:,}: say "
            "in a sentence or two what the task is"
        ]

    def describe_prompt(self, rank: int) -> PromptFiles:
        """Describe the prompt with the opening of `rank` seats. Its files are tokenizer and chat
        template: `AutoTokenizer.from_pretrained` and `apply_chat_template` make the prompt."""
        config = self.config
        texts = {CHAT_TEMPLATE: chat_template(config, rank), **copy_tokenizer(self.base)}
        longest = describe_prompt(config, config.max_seats).opening
        return PromptFiles(describe_prompt(config, rank), texts, longest)

    def explain_prompt(self, rank: int) -> str:
        """A paragraph of the card on the opening."""
        return (
            f"The memory hangs on the first {rank + 1} tokens of the prompt (the opening, in "
            "`d2l.json`). This folder's tokenizer and chat template put them there; a prompt "
            "without them cannot read the memory. A system message of your own follows the "
            "opening.\n"
        )

    def explain_base(self) -> str:
        """Lines of the card on general answers, and on the weights that the seats fit."""
        config = self.config
        file, known = quote(config.base_file), find_known(config.base)
        changes = "- It changes general answers too, the more the more seats are used.\n"
        if known is not None and known.rescaled and known.file == config.base_file:
            return (
                f"{changes}- It was made on {file}, whose parts are scaled otherwise than the "
                "original weights: on those, and on other files of the base, it answers ordinary "
                "text wrongly. To serve one of them, compile with `--checkpoint` and `--base "
                "BASE`, which measures it once.\n"
            )
        return (
            f"{changes}- It was made on {file}. On other files of the same base, for example "
            "quantized in another way, answers differ a little.\n"
        )

    @property
    def chunk_lengths(self) -> tuple[int, ...]:
        """Length of the longest chunks that the network reads."""
        return (len(self.config.read_opening) + self.config.chunk_tokens,)

    def prepare(self, *, device: str, watch: Progress = silent) -> None:
        """Measure second moments of the base where they are missing, once: minutes on a CPU."""
        path = self._moments_path
        if self._needs_moments and not path.is_file():
            model = load_frozen(self.base, device=device, dtype=self.pick_dtype(device))
            seats = self.load_hypernet(self.files.path, self.format, device=device, base=model)
            pieces = cut_plain_text(self.tokenizer, limit=self.config.chunk_tokens)
            moments = measure_moments(seats, pieces, watch=watch)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_statistics(path, moments)

    def load(self, *, device: str, dtype: torch.dtype | None) -> LoadedSeats:
        """Load network and base, with the second moments that fit the base; raises D2LError."""
        loaded = load_reading(self, device=device, dtype=dtype)
        seats, moments = loaded.hypernet, self.find_moments()
        seats = seats if moments is None else with_moments(seats, moments)
        return LoadedSeats(seats, loaded.encode, loaded.device)

    def find_moments(self) -> Path | None:
        """Find second moments that were measured on a base with other weights than the network's
        own moments."""
        path = self._moments_path
        return path if self._needs_moments and path.is_file() else None

    @property
    def _needs_moments(self) -> bool:
        """True if the network's moments were measured on other weights than the base's."""
        own, known = self.config.base_digest, (self.files.path / FILE_NAME).is_file()
        return not known or (bool(own) and self.base.digest() != own)

    @property
    def _moments_path(self) -> Path:
        """Path of the base's cached moments, by the SHA-256 of its weights and the network's."""
        base, network = self.base.digest(), self.digest()
        return cache_dir() / "moments" / f"{base[:16]}-{network[:16]}.safetensors"


def copy_tokenizer(base: BaseFiles) -> dict[str, str]:
    """Copy the base's tokenizer, without the base's own chat template, which would take precedence.

    Its class becomes the one that takes tokenizer.json unchanged in all versions of transformers:
    Llama's class of version 5 rebuilds its own, and version 4 cannot load the classes of 5.
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
