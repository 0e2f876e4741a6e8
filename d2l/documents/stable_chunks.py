"""Chunk borders that a change of the text moves only nearby: chosen by content, not by counting.

Text in, pieces out. Packing from the start moves every border behind an inserted sentence. Here a
text that is too long is cut at its best border: before a heading, else between paragraphs, else
between sentences; among equals the one whose neighbors have the lowest digest. Each half is cut
further. A change is seen by the stretches that hold it, and by no other.
"""

import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from d2l.documents.chunks import Piece, Tokenizer, cut_long, join_pieces
from d2l.documents.document import Document
from d2l.documents.sentences import split_sentences

_HEADING, _PARAGRAPH, _SENTENCE = range(3)
_MARKDOWN_HEADING = re.compile(r"#{1,6} ")
#: Each half of a cut holds at least this share of the limit, so that pieces do not get tiny.
_LEAST_SHARE = 0.25
#: Most room for the headings above a piece, in tokens; half of the limit where that is less.
_HEADING_TOKENS = 32


class _Unit(NamedTuple):
    """A sentence, or a part of one that is too long alone; `border` is how good a cut before it
    is, lower first."""

    piece: Piece
    border: tuple[int, str]


def pack_stable(
    text: str, *, tokenizer: Tokenizer, limit: int, headings: Iterable[int] = ()
) -> list[Piece]:
    """Pack whole sentences, joined by a space, into pieces of at most `limit` tokens.

    `headings` are characters of `text` at which headings stand; lines of Markdown headings are
    found. Pieces are shorter than those of `pack_sentences`, so there are more of them.
    """
    units = _find_units(text, tokenizer, limit, sorted(headings))
    pieces: list[Piece] = []
    waiting = [units] if units else []
    while waiting:  # no recursion: a text may be one cut after the other
        stretch = waiting.pop()
        whole = join_pieces([unit.piece for unit in stretch], tokenizer)
        if len(stretch) == 1 or len(whole.token_ids) <= limit:
            pieces.append(whole)
        else:
            at = _find_cut(stretch, limit)
            waiting += [stretch[at:], stretch[:at]]
    return pieces


def pack_below_headings(document: Document, tokenizer: Tokenizer, limit: int) -> list[Piece]:
    """The same, each piece behind the headings above it ("Care > Filter"), which count towards its
    `limit`: a page alone often does not say what it is about."""
    most = min(_HEADING_TOKENS, limit // 2)
    room, starts = limit - most, document.heading_starts
    pieces = []
    for piece in pack_stable(document.text, tokenizer=tokenizer, limit=room, headings=starts):
        path = [t for t in document.heading_path(piece.start) if not piece.text.startswith(t)]
        while path and len(tokenizer.encode(" > ".join(path))) > most:
            path.pop(0)  # the innermost says most
        text = "\n".join(filter(None, (" > ".join(path), piece.text)))
        pieces.append(piece._replace(text=text, token_ids=tuple(tokenizer.encode(text))))
    return pieces


def _find_units(
    text: str, tokenizer: Tokenizer, limit: int, headings: Sequence[int]
) -> list[_Unit]:
    units: list[_Unit] = []
    last_stop, last_text, waiting = 0, "", list(headings)
    for sentence, start in split_sentences(text):
        ids = tuple(tokenizer.encode(sentence))
        whole = Piece(sentence, ids, start, start + len(sentence))
        kind = _PARAGRAPH if "\n\n" in text[last_stop:start] else _SENTENCE
        while waiting and waiting[0] <= start:
            waiting.pop(0)
            kind = _HEADING
        if _MARKDOWN_HEADING.match(sentence):
            kind = _HEADING
        for piece in cut_long(whole, tokenizer, limit) if len(ids) > limit else [whole]:
            near = f"{last_text[-200:]}\n{piece.text[:200]}"
            digest = hashlib.sha256(near.encode("utf-8", "backslashreplace")).hexdigest()
            units.append(_Unit(piece, (kind, digest)))
            kind, last_text = _SENTENCE, piece.text
        last_stop = whole.stop
    return units


def _find_cut(units: Sequence[_Unit], limit: int) -> int:
    """The unit that the second half begins with."""
    lengths = [len(unit.piece.token_ids) for unit in units]
    total = sum(lengths)
    least = min(limit * _LEAST_SHARE, total / 2)
    best: tuple[tuple[int, str], int] | None = None
    fairest, read = (total, 1), 0
    for index, unit in enumerate(units):
        if index:
            smaller = min(read, total - read)
            fairest = min(fairest, (total - 2 * smaller, index))
            if smaller >= least and (best is None or unit.border < best[0]):
                best = (unit.border, index)
        read += lengths[index]
    return best[1] if best is not None else fairest[1]
