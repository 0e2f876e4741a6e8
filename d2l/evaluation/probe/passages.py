"""Documents → passages to recite: sentences cut in two, each with its chunk and page."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from d2l.compiler.originals import Originals, Stretch
from d2l.documents.sentences import find_sentences
from d2l.evaluation.metrics import pick_evenly

#: Shortest sentence that is cut in two, and how much of a long one is used, in words.
MIN_WORDS, MAX_WORDS = 8, 40
#: Words by which a chunk without a place is called.
_BEGIN_WORDS = 5


@dataclass(frozen=True)
class HalvedSentence:
    """A sentence in two halves; `page` is None in formats that have none."""

    document: str
    chunk: int | None
    page: int | None
    given: str
    wanted: str


@dataclass(frozen=True)
class Place:
    """A chunk or a page of a document, under its name for people."""

    document: str
    name: str
    chunk: int | None = None
    page: int | None = None

    def holds(self, passage: HalvedSentence) -> bool:
        """True if a passage stands there."""
        if self.page is not None:
            return (passage.document, passage.page) == (self.document, self.page)
        return (passage.document, passage.chunk) == (self.document, self.chunk)


def list_places(originals: Originals) -> list[Place]:
    """List the pages of each document, or its chunks if the format has no pages."""
    places = []
    for document in originals.documents:
        name = document.name
        pages = sorted({s.page for s in document.sections if s.page is not None})
        places += [Place(name, f"p. {page}", page=page) for page in pages]
        for stretch in () if pages else originals.stretches:
            if stretch.document is document:
                words = document.text[stretch.start : stretch.stop].split()
                begins = " ".join(words[:_BEGIN_WORDS])
                unnamed = name if stretch.chunk is None else f"chunk {stretch.chunk}: {begins} …"
                places.append(Place(name, stretch.place or unnamed, chunk=stretch.chunk))
    return places


def find_passages(stretches: Sequence[Stretch]) -> list[HalvedSentence]:
    """Find the sentences of at least `MIN_WORDS` words whose second half begins in a stretch.

    In order of the text; a sentence that occurs several times is taken the first time only.
    """
    passages: dict[tuple[str, str], HalvedSentence] = {}
    documents = {id(stretch.document): stretch.document for stretch in stretches}
    for key, document in documents.items():
        own = [stretch for stretch in stretches if id(stretch.document) == key]
        for given, wanted, middle in _halve_sentences(document.text):
            at = next((s for s in own if s.start <= middle < s.stop), None)
            if at is not None:
                page = document.find_page(middle)
                passage = HalvedSentence(document.name, at.chunk, page, given, wanted)
                passages.setdefault((given, wanted), passage)
    return list(passages.values())


def choose_passages(passages: Sequence[HalvedSentence], limit: int) -> list[HalvedSentence]:
    """Choose at most `limit` passages in order, evenly spaced in every chunk, else page."""
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
    """Yield (first half, second half, position of the second half) of every long sentence."""
    for start, stop in find_sentences(text):
        words = [(m.group(), m.start()) for m in re.finditer(r"\S+", text[start:stop])]
        if sum(any(map(str.isalpha, word)) for word, _ in words) < MIN_WORDS:
            continue  # numbers and rules of tables are no words
        words = words[:MAX_WORDS]
        half = len(words) // 2
        given = " ".join(word for word, _ in words[:half])
        wanted = " ".join(word for word, _ in words[half:])
        yield given, wanted, start + words[half][1]
