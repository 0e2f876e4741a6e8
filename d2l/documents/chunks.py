"""Chunks: a document's text or tokens, cut for one pass of the base each.

The same text gives the same chunks. Each kind of network has its rule: `split_evenly` for
Doc-to-LoRA, `pack_sentences` for seats.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, Protocol

from d2l.documents.document import Document
from d2l.documents.sentences import split_sentences


class Tokenizer(Protocol):
    """A tokenizer, as far as packing needs it."""

    def encode(self, text: str) -> list[int]:
        """Token ids of ordinary text, without special tokens."""

    def token_starts(self, text: str) -> list[int]:
        """Position in `text` of the first character of each token."""


@dataclass(frozen=True)
class Chunk:
    """Tokens that the encoder reads at once, and their place in a document."""

    index: int
    token_ids: tuple[int, ...]  # template included: exactly the encoder's input
    source: str  # "p. 3-5", for progress and provenance
    document: str = ""  # name of the input
    rank: int = 0  # width of its slice of the adapter; 0 shares the slice before it
    span: tuple[int, int] = (0, 0)  # [start, stop) in characters of its document's text
    part_rank: int = 0  # ranks, or seats, of its part; 0: the adapter keeps no part
    headings: tuple[str, ...] = ()  # above its first character, outermost first
    text: str = ""  # without headings; only if the adapter keeps a part


def keep_part(chunk: Chunk, document: Document, rank: int) -> Chunk:
    """Give a chunk the rank, headings and text of its part, which finding and citing need."""
    start, stop = chunk.span
    headings = document.heading_path(start)
    text = document.text[start:stop]
    return replace(chunk, part_rank=rank, headings=headings, text=text)


class Piece(NamedTuple):
    """A stretch of text with its token ids; `start` and `stop` are characters of the document."""

    text: str
    token_ids: tuple[int, ...]
    start: int
    stop: int


def split_evenly(
    token_ids: Sequence[int], *, limit: int, prefix: Sequence[int], suffix: Sequence[int]
) -> list[tuple[tuple[int, ...], int, int]]:
    """Cut a templated token list into ceil(n / limit) slices of equal length.

    Returns (chunk ids, start, stop), a slice of `token_ids` with the template's halves at inner
    ends, by which a chunk may exceed `limit`. `limit` <= 0 does not cut.
    Source of the rule: SakanaAI/doc-to-lora, ctx_to_lora/data/processing.py, split_too_long_ctx.
    """
    count = len(token_ids)
    n_chunks = max(1, math.ceil(count / limit)) if limit > 0 else 1
    if n_chunks == 1:
        return [(tuple(token_ids), 0, count)]
    length = math.ceil(count / n_chunks)
    return split_at(token_ids, range(length, count, length), prefix=prefix, suffix=suffix)


def split_at(
    token_ids: Sequence[int],
    borders: Sequence[int],
    *,
    prefix: Sequence[int],
    suffix: Sequence[int],
) -> list[tuple[tuple[int, ...], int, int]]:
    """Cut like `split_evenly`, but at these `borders`: rising indices in `token_ids`."""
    count = len(token_ids)
    chunks = []
    for start, stop in pairwise([0, *borders, count]):
        head = () if start == 0 else tuple(prefix)
        tail = () if stop == count else tuple(suffix)
        chunks.append(((*head, *token_ids[start:stop], *tail), start, stop))
    return chunks


def pack_sentences(text: str, *, tokenizer: Tokenizer, limit: int, minimum: int) -> list[Piece]:
    """Pack whole sentences, joined by a space, into pieces of at most `limit` tokens.

    A sentence ends after ".", "!" or "?" before white space, and at a line's end. A longer
    sentence is cut every `limit` tokens. A last piece under `minimum` tokens joins the piece
    before it, which may then exceed the limit.
    """
    packed: list[Piece] = []
    for sentence, start in split_sentences(text):
        ids = tuple(tokenizer.encode(sentence))
        whole = Piece(sentence, ids, start, start + len(sentence))
        for piece in cut_long(whole, tokenizer, limit) if len(ids) > limit else [whole]:
            joined = join_pieces([packed[-1], piece], tokenizer) if packed else None
            if joined is not None and len(joined.token_ids) <= limit:
                packed[-1] = joined
            else:
                packed.append(piece)
    if len(packed) > 1 and len(packed[-1].token_ids) < minimum:
        packed[-2:] = [join_pieces(packed[-2:], tokenizer)]
    return packed


def join_pieces(pieces: Sequence[Piece], tokenizer: Tokenizer) -> Piece:
    """Join neighbors by a space; a single piece stays as it is."""
    if len(pieces) == 1:
        return pieces[0]
    text = " ".join(piece.text for piece in pieces)
    return Piece(text, tuple(tokenizer.encode(text)), pieces[0].start, pieces[-1].stop)


def cut_long(piece: Piece, tokenizer: Tokenizer, limit: int) -> list[Piece]:
    """Cut an over-long sentence every `limit` tokens; its ids are sliced, not encoded again.

    A character whose bytes fall on both sides of a cut belongs to the text on the right.
    """
    starts = [*tokenizer.token_starts(piece.text), len(piece.text)]
    parts = []
    for first in range(0, len(piece.token_ids), limit):
        last = min(first + limit, len(piece.token_ids))
        begin, end = starts[first], starts[last]
        text, ids = piece.text[begin:end].strip(), piece.token_ids[first:last]
        parts.append(Piece(text, ids, piece.start + begin, piece.start + end))
    return parts
