"""Documents → passages to recite: sentences cut in two, each with its chunk and page."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from d2l.compiler.originals import Stretch, find_page
from d2l.documents.sentences import find_sentences
from d2l.evaluation.metrics import pick_evenly

#: Shortest sentence that is cut in two, and how much of a long one is used, in words.
MIN_WORDS, MAX_WORDS = 8, 40


@dataclass(frozen=True)
class HalvedSentence:
    """A sentence in two halves; `page` is None in formats that have none."""

    document: str
    chunk: int | None
    page: int | None
    given: str
    wanted: str


def find_passages(stretches: Sequence[Stretch]) -> list[HalvedSentence]:
    """Every sentence of at least `MIN_WORDS` words whose second half begins in a stretch.

    In order of the text; one that occurs several times is taken the first time only.
    """
    passages: dict[tuple[str, str], HalvedSentence] = {}
    documents = {id(stretch.document): stretch.document for stretch in stretches}
    for key, document in documents.items():
        own = [stretch for stretch in stretches if id(stretch.document) == key]
        for given, wanted, middle in _halve_sentences(document.text):
            at = next((s for s in own if s.start <= middle < s.stop), None)
            if at is not None:
                page = find_page(document, middle)
                passage = HalvedSentence(document.name, at.chunk, page, given, wanted)
                passages.setdefault((given, wanted), passage)
    return list(passages.values())


def choose_passages(passages: Sequence[HalvedSentence], limit: int) -> list[HalvedSentence]:
    """At most `limit` passages in order, as many of every chunk (else page) as possible, evenly
    spaced in it."""
    groups = [
        list(group)
        for _, group in groupby(
            passages, key=lambda p: (p.document, p.chunk, p.page if p.chunk is None else None)
        )
    ]
    counts = [0] * len(groups)
    while (left := limit - sum(counts)) > 0:
        growing = [n for n, group in enumerate(groups) if counts[n] < len(group)]
        if not growing:
            break
        for n in pick_evenly(growing, left):
            counts[n] += 1
    return [p for group, n in zip(groups, counts, strict=True) for p in pick_evenly(group, n)]


def _halve_sentences(text: str) -> Iterator[tuple[str, str, int]]:
    """(first half, second half, character at which the second begins) of every long sentence."""
    for start, stop in find_sentences(text):
        words = [(m.group(), m.start()) for m in re.finditer(r"\S+", text[start:stop])]
        if sum(any(map(str.isalpha, word)) for word, _ in words) < MIN_WORDS:
            continue  # numbers and rules of tables are no words
        words = words[:MAX_WORDS]
        half = len(words) // 2
        given = " ".join(word for word, _ in words[:half])
        wanted = " ".join(word for word, _ in words[half:])
        yield given, wanted, start + words[half][1]
