"""Stable chunk borders: a change of the text moves only the borders nearby.

Packing from the start would move every border behind an inserted sentence. Here a text that is too
long is cut at its best border, and then each half: before a heading, else between paragraphs, else
between sentences; among equal borders, where the text around has the lowest digest. A change
affects only the stretches that hold it.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from d2l.documents.chunks import Piece, Tokenizer, cut_long, join_pieces
from d2l.documents.document import Document
from d2l.documents.sentences import split_sentences
from d2l.readers.parsing import CELL

_HEADING, _PARAGRAPH, _SENTENCE = range(3)
_MARKDOWN_HEADING = re.compile(r"#{1,6} ")
#: Each half of a cut holds at least this share of the limit, so that pieces do not get tiny.
_LEAST_SHARE = 0.25
#: Most tokens of the headings above a piece; half of the limit if that is less.
_HEADING_TOKENS = 32
_LINE = re.compile(r"[^\n]+")


class _Unit(NamedTuple):
    """A sentence or a row of a table, or a slice of a very long one; `border` ranks the cut before
    it, the lowest is best."""

    piece: Piece
    border: tuple[int, str]


def pack_stable(
    text: str, *, tokenizer: Tokenizer, limit: int, headings: Iterable[int] = ()
) -> list[Piece]:
    """Pack whole sentences and rows, joined by a space, into pieces of at most `limit` tokens.

    `headings` are positions of headings in `text`; Markdown headings need none. Pieces are shorter
    than those of `pack_sentences`, and so more.
    """
    units = _find_units(text, tokenizer, limit, sorted(headings))
    pieces: list[Piece] = []
    waiting = [units] if units else []
    while waiting:  # no recursion: a text may be one cut after the other
        stretch = waiting.pop()
        n_tokens = sum(len(unit.piece.token_ids) for unit in stretch)
        if n_tokens <= 2 * limit or len(stretch) == 1:  # joining saves tokens, but never half
            whole = join_pieces([unit.piece for unit in stretch], tokenizer)
            if len(whole.token_ids) <= limit or len(stretch) == 1:
                pieces.append(whole)
                continue
        at = _find_cut(stretch, limit)
        waiting += [stretch[at:], stretch[:at]]
    return pieces


def pack_below_headings(
    document: Document, tokenizer: Tokenizer, limit: int, *, keeps_lines: bool = False
) -> list[Piece]:
    """Pack like `pack_stable`, each piece behind the headings above it ("Care > Filter"), which
    count towards its `limit`: a page alone often does not name its subject.

    `keeps_lines`: with the document's line breaks, where the limit has room for them.
    """
    most = min(_HEADING_TOKENS, limit // 2)
    rest, starts = limit - most, document.heading_starts
    pieces = []
    for piece in pack_stable(document.text, tokenizer=tokenizer, limit=rest, headings=starts):
        path = [t for t in document.heading_path(piece.start) if not piece.text.startswith(t)]
        while path and len(tokenizer.encode(" > ".join(path))) > most:
            path.pop(0)  # the innermost says most
        read = "\n".join(filter(None, (" > ".join(path), piece.text)))
        lines = "\n".join(filter(None, (" > ".join(path), document.text[piece.start : piece.stop])))
        if keeps_lines and len(tokenizer.encode(lines)) <= limit:
            read = lines
        if piece.text and (ids := tokenizer.encode(read)):  # a cut may leave a space alone
            pieces.append(piece._replace(text=read, token_ids=tuple(ids)))
    return pieces


def _find_units(
    text: str, tokenizer: Tokenizer, limit: int, headings: Sequence[int]
) -> list[_Unit]:
    units: list[_Unit] = []
    last_stop, last_text, waiting = 0, "", list(headings)
    for sentence, start in _split_rows(text):
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


def _split_rows(text: str) -> Iterator[tuple[str, int]]:
    """Yield rows of tables, and the sentences of other lines, as `split_sentences` gives them."""
    for line in _LINE.finditer(text):
        row = line[0].strip()
        whole = [(row, line[0].index(row))]
        for sentence, start in whole if CELL in row else split_sentences(line[0]):
            yield sentence, line.start() + start


def _find_cut(units: Sequence[_Unit], limit: int) -> int:
    """Find the first unit of the second half."""
    lengths = [len(unit.piece.token_ids) for unit in units]
    total = sum(lengths)
    least = min(limit * _LEAST_SHARE, total / 2)
    best: tuple[tuple[int, str], int, int] | None = None
    fairest, read = (total, 1), 0
    for index, unit in enumerate(units):
        if index:
            smaller = min(read, total - read)
            fairest = min(fairest, (total - 2 * smaller, index))
            # A text that repeats itself has equal borders: the middle one is best.
            if smaller >= least and (best is None or (unit.border, -smaller, index) < best):
                best = (unit.border, -smaller, index)
        read += lengths[index]
    return best[2] if best is not None else fairest[1]
