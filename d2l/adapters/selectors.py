"""Selectors of an adapter's chunks: "manual.pdf", "manual.pdf:p. 12-14", "manual.pdf:#3".

Texts and chunk records in, indices out. Only whole chunks can be selected: remarks name other pages
in the same chunks.
"""

import re
from collections.abc import Sequence
from itertools import chain, islice
from pathlib import PurePath

from d2l.adapters.provenance import ChunkRecord
from d2l.errors import AdapterError

#: Longer numbers belong to no page and no chunk, and are slow to parse.
_PAGES = re.compile(r"^p\.?\s*(\d{1,18})(?:\s*[-–]\s*(\d{1,18}))?$")
_CHUNK = re.compile(r"^#(\d{1,18})$")
_MOST_NAMED = 20  # pages in a remark
_MOST_PLACES = 8  # documents, page ranges or headings in a line


def select(
    text: str, chunks: Sequence[ChunkRecord], headings: Sequence[Sequence[str]] = ()
) -> tuple[list[int], list[str]]:
    """Select chunks by a text: (their indices, remarks on other pages in them).

    `headings`: those above each chunk, if they are known.

    The text names a document as in d2l.json, or its file name alone, or "" for any document; then,
    after a colon, a place in it: pages, a heading as in d2l.json, or "#n", the n-th chunk. Raises
    AdapterError if there is no such chunk.
    """
    documents = {chunk.document for chunk in chunks}
    above = headings or [()] * len(chunks)
    heads = [_fold(chunk.source, *own) for chunk, own in zip(chunks, above, strict=True)]
    named, place = _split(text, documents, set().union(*heads))
    own = [n for n, chunk in enumerate(chunks) if not named or chunk.document in named]
    if not place:
        return own, []
    pages, index = _PAGES.match(place), _CHUNK.match(place)
    if index:
        hit = [n for n in own if n == int(index[1])]
    elif pages:
        wanted = _range(pages)
        hit = [n for n in own if _overlap(wanted, chunks[n].source)]
    else:
        hit = [n for n in own if _fold(place) <= heads[n]]
    if not hit:
        raise AdapterError(
            f"{text}: no chunk of the adapter lies there",
            hint=f"the adapter holds {describe_places(chunks, own)}; or name a chunk by its "
            f'number, "#{own[0]}" to "#{own[-1]}"',
        )
    return hit, _remark(wanted, chunks, hit) if pages else []


def describe_places(chunks: Sequence[ChunkRecord], numbers: Sequence[int]) -> str:
    """Describe the places of some chunks, each page once: "a.pdf: p. 1-4, 6; b.txt: #7"."""
    documents: dict[str, list[int]] = {}
    for n in numbers:
        documents.setdefault(chunks[n].document, []).append(n)
    lines = [f"{name}: {_describe_own(chunks, own)}" for name, own in documents.items()]
    return _join_first(lines, "; ")


def _describe_own(chunks: Sequence[ChunkRecord], numbers: Sequence[int]) -> str:
    """Describe places in one document: pages as ranges, then headings and numbers."""
    matches = {n: _PAGES.match(chunks[n].source) for n in numbers}
    runs: list[range] = []
    for span in sorted((_range(m) for m in matches.values() if m), key=lambda r: r.start):
        if runs and span.start <= runs[-1].stop:
            runs[-1] = range(runs[-1].start, max(span.stop, runs[-1].stop))
        else:
            runs.append(span)
    ends = [(run.start, run.stop - 1) for run in runs]
    pages = [f"{first}-{last}" if first < last else f"{first}" for first, last in ends]
    others = [chunks[n].source or f"#{n}" for n, match in matches.items() if match is None]
    named = [f"p. {_join_first(pages, ', ')}"] if pages else []
    return _join_first([*named, *dict.fromkeys(others)], ", ")


def _join_first(texts: Sequence[str], comma: str) -> str:
    """Join the first few texts, and the number of the others."""
    n_more = len(texts) - _MOST_PLACES
    more = [f"… ({n_more:,} more)"] if n_more > 0 else []
    return comma.join([*texts[:_MOST_PLACES], *more])


def _fold(*headings: str) -> set[str]:
    """Fold the case of headings, without their sign."""
    return {heading.removeprefix("§").strip().casefold() for heading in headings}


def _split(text: str, documents: set[str], headings: set[str]) -> tuple[set[str], str]:
    """Split a text into (documents, place) after the longest prefix that names a document."""
    colons = [n for n in reversed(range(len(text))) if text[n] == ":"]
    for name, place in ((text, ""), *((text[:n], text[n + 1 :]) for n in colons)):
        full = {d for d in documents if name in (d, PurePath(d).name)}
        if full or not name:
            return full, place.strip()
    is_place = _PAGES.match(text) or _CHUNK.match(text) or text[:1] == "§"
    if (len(documents) == 1) if is_place else (_fold(text) <= headings):
        return set(documents), text
    raise AdapterError(
        f"{text}: the adapter has no such document",
        hint=f"it has: {', '.join(sorted(documents)) or 'none'}",
    )


def _range(match: re.Match[str]) -> range:
    first = int(match[1])
    return range(first, int(match[2] or first) + 1)


def _overlap(wanted: range, source: str) -> bool:
    match = _PAGES.match(source)
    if match is None:
        return False
    span = _range(match)  # compared by their ends, so that "p. 1-9999999999" is fast
    return max(wanted.start, span.start) < min(wanted.stop, span.stop)


def _remark(wanted: range, chunks: Sequence[ChunkRecord], hit: Sequence[int]) -> list[str]:
    """Name the other pages in selected chunks."""
    remarks = []
    for n in hit:
        match = _PAGES.match(chunks[n].source)
        span = _range(match) if match else wanted
        before, behind = range(span.start, wanted.start), range(wanted.stop, span.stop)
        more = [*islice(chain(before, behind), _MOST_NAMED + 1)]
        if more:
            pages = ", ".join(map(str, more[:_MOST_NAMED])) + (", …" * (len(more) > _MOST_NAMED))
            remarks.append(f"chunk {n} of {chunks[n].document} also holds text of page {pages}")
    return remarks
