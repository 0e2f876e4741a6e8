"""Chunks: a document's text or tokens cut into what one pass of the base reads.

Deterministic; a tokenizer comes in as a function, so no base model is known here. Each network
kind has its rule: `split_evenly` for Doc-to-LoRA, `pack_sentences` for seats.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple, Protocol, TypeVar

from d2l.documents.document import Document
from d2l.documents.sentences import split_sentences

T = TypeVar("T")


class Tokenizer(Protocol):
    """What packing asks of a tokenizer."""

    def encode(self, text: str) -> list[int]:
        """Token ids of ordinary text, nothing added."""

    def token_starts(self, text: str) -> list[int]:
        """For each of these tokens, the character of `text` at which it begins."""


@dataclass(frozen=True)
class Chunk:
    """What the encoder reads at once, and where it came from."""

    index: int
    token_ids: tuple[int, ...]  # template included: exactly what the encoder sees
    source: str  # "p. 3-5", for progress and provenance
    document: str = ""  # name of the input it belongs to
    rank: int = 0  # width of its slice of the adapter; 0 shares the slice before it
    span: tuple[int, int] = (0, 0)  # [start, stop) in characters of its document's text
    part_rank: int = 0  # ranks, or seats, of the part that is kept of it; 0: none is kept
    headings: tuple[str, ...] = ()  # above its first character, outermost first
    text: str = ""  # of a chunk that a part is kept of, without headings


def keep_part(chunk: Chunk, document: Document, rank: int) -> Chunk:
    """The chunk with what its part is found and cited by."""
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

    Inner ends get the template's halves: (chunk ids, start, stop) where start and stop are the
    slice of `token_ids`. Chunks may pass `limit` by the affixes. `limit` <= 0 does not cut.
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
    """The same with the inner ends where they are wanted: indices in `token_ids`, rising."""
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
    sentence is cut every `limit` tokens. A last piece under `minimum` tokens joins the one
    before it, which may then pass the limit.
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


def share_out(
    pieces: Sequence[Piece],
    questions: Sequence[T],
    *,
    find: Callable[[T], Callable[[str], object]],
    trust_single: bool,
) -> list[list[T]]:
    """Each piece's questions: a question goes with the one piece that holds its answer.

    `find` gives what tells whether a text holds a question's answer. Where several pieces do, or
    none, the question is left out: "3" may be anybody's number of children. With `trust_single`
    a text of one piece is taken to answer all of them, however it words the answer.
    """
    if trust_single and len(pieces) == 1:
        return [list(questions)]
    owned: list[list[T]] = [[] for _ in pieces]
    for question in questions:
        holds = find(question)
        holding = [index for index, piece in enumerate(pieces) if holds(piece.text)]
        if len(holding) == 1:
            owned[holding[0]].append(question)
    return owned


def join_pieces(pieces: Sequence[Piece], tokenizer: Tokenizer) -> Piece:
    """Join neighbors by a space; a piece alone stays as it is."""
    if len(pieces) == 1:
        return pieces[0]
    text = " ".join(piece.text for piece in pieces)
    return Piece(text, tuple(tokenizer.encode(text)), pieces[0].start, pieces[-1].stop)


def cut_long(piece: Piece, tokenizer: Tokenizer, limit: int) -> list[Piece]:
    """Cut an over-long sentence every `limit` tokens.

    Ids are the sentence's own, sliced. A character whose bytes fall on both sides of a cut
    counts to the right in `text`, which only shows and joins.
    """
    starts = [*tokenizer.token_starts(piece.text), len(piece.text)]
    parts = []
    for first in range(0, len(piece.token_ids), limit):
        last = min(first + limit, len(piece.token_ids))
        begin, end = starts[first], starts[last]
        text, ids = piece.text[begin:end].strip(), piece.token_ids[first:last]
        parts.append(Piece(text, ids, piece.start + begin, piece.start + end))
    return parts
