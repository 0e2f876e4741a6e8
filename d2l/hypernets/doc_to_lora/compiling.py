"""Compiling documents with a Doc-to-LoRA network: everything but the weights."""

import math
from bisect import bisect_left
from collections.abc import Sequence
from functools import cached_property
from typing import ClassVar

from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import BaseTokenizer, Encoded
from d2l.documents.chunks import Chunk, keep_part, split_at, split_evenly
from d2l.documents.document import Document
from d2l.documents.stable_chunks import pack_stable
from d2l.errors import BaseModelError, OptionError
from d2l.hypernets.doc_to_lora import released
from d2l.hypernets.doc_to_lora.network import WIDEST, DocToLoraConfig, build
from d2l.hypernets.doc_to_lora.perceiver import MLP_RATIO
from d2l.hypernets.formats.format import Format, native_format
from d2l.hypernets.network import Network, refuse_shallow
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.protocol import Cut

#: Default limit of a chunk's tokens, from the public evaluation (SakanaAI/doc-to-lora,
#: scripts/main_exp/eval/d2l.sh). Higher: fewer chunks, longer than in training.
MOST_CHUNK_TOKENS = 8192
#: Most chunks of a document in the public networks' training. Longer documents get longer chunks.
HELD_CHUNKS = 8
#: Training of gemma_demo, without a limit in its arguments: one chunk of at most 2,344 tokens.
ONE_CHUNK = (1, 2344)
#: Measurements of others (AdapterBench; 24 questions on a novel).
_MEASURED = (
    "others found no needle in 7,000 tokens (gemma_demo, chunks of 1,024), and one token over and "
    "over from 50 chunks of 512 on (gemma_2b_d2l)"
)


class DocToLoraNetwork(Network[DocToLoraConfig]):
    """A Doc-to-LoRA network: each chunk becomes LoRA weights, which are added up."""

    kind: ClassVar[str] = DocToLoraConfig.kind
    build = staticmethod(build)
    formats: ClassVar[tuple[Format, ...]] = (
        native_format(DocToLoraConfig.kind, "Doc-to-LoRA", DocToLoraConfig.from_json),
        Format(
            name="released",
            description="a released Doc-to-LoRA checkpoint (pytorch_model.bin or its run folder)",
            matches=released.matches,
            read_config=lambda path: released.read_released(path).config,
            read_tensors=lambda path: released.read_released(path).read_tensors(),
            find_weights=released.find_file,
            list_warnings=released.list_warnings,
            weights=(released.WEIGHTS_FILE,),
            texts=(released.ARGUMENTS_FILE,),
        ),
    )

    @property
    def models(self) -> dict[str, str | None]:
        """The base, and another model that reads, if the network has any."""
        other = self.config.encoder
        return super().models | ({} if other is None else {other: None})

    @cached_property
    def reader(self) -> BaseFiles:
        """The base, or another model that reads documents; raises BaseModelError."""
        config = self.config
        reader = self.base if config.encoder is None else self.find_model(config.encoder)
        name = config.encoder or config.base
        refuse_shallow(config, reader, name)
        width = int(reader.config.hidden_size)
        if width != config.feature_size:
            raise BaseModelError(
                f"{reader.folder}: hidden states are {width} wide, the checkpoint reads "
                f"{config.feature_size}",
                hint=f"the checkpoint reads documents with {name}",
            )
        return reader

    @property
    def _trained(self) -> tuple[int, int]:
        """Most chunks of a document in training, and tokens of each."""
        tokens = self.config.chunk_tokens
        return ONE_CHUNK if tokens is None else (HELD_CHUNKS, tokens)

    @property
    def _most_tokens(self) -> int:
        """Text tokens of the longest chunks by default: template included, they fit the base."""
        window = int(self.reader.config.max_position_embeddings)
        return min(MOST_CHUNK_TOKENS, window) - sum(map(len, self._affixes(self.reader)))

    def _pick_limit(self, n_tokens: int) -> int:
        """Pick the tokens of a chunk: as in training, or for more chunks than in training as in the
        public evaluation."""
        n_chunks, trained = self._trained
        most = self._most_tokens
        return min(trained, most) if n_tokens <= n_chunks * trained else most

    def _warn(self, chunks: Sequence[Chunk], *, keeps_parts: bool) -> list[str]:
        """Warn about more and longer chunks than in training, about the base's window, and about a
        tokenizer of another revision."""
        reader, warnings = self.reader, list[str]()
        n_together = 1 if keeps_parts else len(chunks)  # questions choose parts
        longest = max(len(chunk.token_ids) for chunk in chunks)
        affixes = self._affixes(reader)
        in_text = longest - sum(map(len, affixes))
        n_trained, trained = self._trained
        if n_together > n_trained or in_text > trained:
            warnings.append(
                f"{len(chunks):,} chunks of {in_text:,} tokens or less are more than the network "
                f"was trained on, {n_trained} of {trained:,}: less may come back; {_MEASURED}; "
                "d2l-lab bench check compares two lengths"
            )
        window = int(reader.config.max_position_embeddings)
        if longest > window:
            warnings.append(
                f"chunks of {longest:,} tokens are longer than the base's window of {window:,}: "
                f"choose --chunk-tokens {window - sum(map(len, affixes)):,} or less"
            )
        tokenizer = self.load_tokenizer(reader)
        template = tokenizer.document_template(reader.family.document_template)
        if tokenizer.affixes(template)[0] != affixes[0]:
            warnings.append(
                f"the tokenizer of {reader.folder} begins a document with other tokens than in "
                f"training: it is of another revision of {reader.name}"
            )
        return warnings

    def _affixes(self, reader: BaseFiles) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids before and behind inner chunks: from the public code's list, or the template."""
        listed = (reader.family.affixes or {}).get(reader.name)
        if listed is not None:
            return listed
        tokenizer = self.load_tokenizer(reader)
        return tokenizer.affixes(tokenizer.document_template(reader.family.document_template))

    def cut(self, documents: Sequence[Document], options: CompileOptions) -> Cut:
        """Template each document, then cut its tokens evenly; documents never share a chunk."""
        if options.tokens_per_seat is not None:
            raise OptionError(
                f"{self.files.name}: is no seat network, so it has no tokens per seat",
                hint="leave --tokens-per-seat out",
            )
        reader = self.reader
        tokenizer = self.load_tokenizer(reader)
        template = tokenizer.document_template(reader.family.document_template)
        prefix, suffix = self._affixes(reader)
        read = [tokenizer.encode_template(template, one.text.strip()) for one in documents]
        limit = options.chunk_tokens or self._pick_limit(sum(len(one.ids) for one in read))
        chunks: list[Chunk] = []
        for document, encoded in zip(documents, read, strict=True):
            text = document.text
            start_of_text = len(text) - len(text.lstrip())
            if options.chunking == "stable":
                borders = _find_borders(document, encoded, tokenizer, limit)
                slices = split_at(encoded.ids, borders, prefix=prefix, suffix=suffix)
            else:
                slices = split_evenly(encoded.ids, limit=limit, prefix=prefix, suffix=suffix)
            for ids, first, last in slices:
                begin = encoded.offsets[first][0] + start_of_text
                end = encoded.offsets[last - 1][1] + start_of_text
                source, span = document.where(begin, end), (begin, end)
                chunks.append(
                    Chunk(len(chunks), ids, source, document.name, self.config.rank, span)
                )
        total = sum(chunk.rank for chunk in chunks) + self.config.bias_rank
        rank = min(total, options.max_rank or total)
        keeps = self._keeps_parts(len(chunks), options, is_cut=rank < total)
        if keeps:
            by_name = {document.name: document for document in documents}
            chunks = [keep_part(chunk, by_name[chunk.document], 0) for chunk in chunks]
        return Cut(
            tuple(chunks),
            self.count_tokens(documents),
            rank,
            total,
            keeps,
            math.prod(self._trained),
            tuple(self._warn(chunks, keeps_parts=keeps)),
        )

    def _keeps_parts(self, n_chunks: int, options: CompileOptions, *, is_cut: bool) -> bool:
        """True if questions choose parts. A part is a chunk's ranks in the adapter, so merging must
        not mix ranks."""
        mixed = options.merge != "concat" or is_cut
        if options.parts and mixed:
            raise OptionError(
                "parts are the ranks of each chunk, which averaging and --max-rank mix",
                hint="leave --parts out, or the other option",
            )
        return not mixed and (n_chunks > HELD_CHUNKS if options.parts is None else options.parts)

    @property
    def chunk_lengths(self) -> tuple[int, ...]:
        """Text tokens of chunks in training and at most."""
        return tuple(sorted({self._trained[1], self._most_tokens}))

    def count_working(self, n_tokens: int) -> int:
        """Numbers of the perceiver: three of its widest tensor, for as many layers as it reads
        side by side."""
        values = MLP_RATIO * n_tokens * self.config.feature_size
        return 3 * min(values * len(self.config.reading.hidden_states), max(WIDEST, values))

    def explain_limits(self) -> str:
        """Lines of the card on rank and base."""
        return (
            "- Rank grows with the document's length; runtimes limit it (`--max-rank` bounds it).\n"
            f"{self.explain_base()}"
        )


def _find_borders(
    document: Document, encoded: Encoded, tokenizer: BaseTokenizer, limit: int
) -> list[int]:
    """Find the first token of each stable chunk but the first, in the templated document."""
    text = document.text
    offset = len(text) - len(text.lstrip())
    pieces = pack_stable(text, tokenizer=tokenizer, limit=limit, headings=document.heading_starts)
    starts = [start for start, _ in encoded.offsets]  # rising, as the text is read
    return sorted(
        {bisect_left(starts, piece.start - offset) for piece in pieces[1:]} - {0, len(starts)}
    )
