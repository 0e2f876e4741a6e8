"""Answers: a text, the passage that carries it, and the parts that were asked.

Needs no model and no torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Self

from d2l.adapters.parts import PartRecord
from d2l.answer.passage import LONGEST, find_passage, is_supported
from d2l.answer.refusal import show
from d2l.answer.scope import GREETS
from d2l.datasets.silence import is_silence
from d2l.parts.judging import Choice
from d2l.parts.kept import Kept
from d2l.parts.router import find_stop_words, is_near, split_content

#: End of an answer: an end token, or the limit of tokens or of a server's time.
Finish = Literal["stop", "length", "timeout"]


@dataclass(frozen=True)
class Citation:
    """Likely part behind an answer, with the scores of its choice; the text of one memory has no
    scores."""

    index: int
    part: PartRecord
    score: float | None = None
    margin: float | None = None

    def to_json(self) -> dict[str, object]:
        """Values of `--json` and of the server."""
        return {
            "part": self.index,
            "document": self.part.document,
            "page": self.part.page,
            "heading": list(self.part.headings),
            "place": self.part.place,
            "score": None if self.score is None else round(self.score, 3),
            "margin": None if self.margin is None else round(self.margin, 3),
        }


class Answer(str):
    """Answer: its text, as a str, and where it comes from.

    `citations`: the parts that were asked, the source first, or if nothing was `found` the closest.
    `passage`: the lines of the first that carry the answer, None without the document's text;
    `supported`: its words stand there. `finish`: "stop", or the reason why it was cut.
    """

    citations: tuple[Citation, ...]
    passage: str | None
    supported: bool | None
    finish: Finish
    found: bool

    def __new__(
        cls,
        text: str,
        finish: Finish = "stop",
        citations: Sequence[Citation] = (),
        passage: str | None = None,
        supported: bool | None = None,
    ) -> Self:
        """Make an answer; the refusal that networks learned becomes "Not found."."""
        new = super().__new__(cls, show(text))
        new.citations, new.passage, new.supported = tuple(citations), passage, supported
        new.finish, new.found = finish, not is_silence(text)
        return new

    @property
    def text(self) -> str:
        """Text alone."""
        return str(self)

    @property
    def place(self) -> str | None:
        """Place of the passage in the document, for people."""
        return self.citations[0].part.place if self.citations else None

    def to_json(self) -> dict[str, object]:
        """Fields of `--json` and of the server: the keys of the first part, the answer's source, or
        a null if nothing was found; then all parts that were asked, and the passage."""
        rows = [citation.to_json() for citation in self.citations]
        return {
            **(rows[0] if rows and self.found else {"part": None}),
            "parts": rows,
            "passage": self.passage,
            "supported": self.supported,
            "finish": self.finish,
        }


def cite(
    kept: Kept,
    choice: Choice,
    question: str,
    text: str,
    finish: Finish,
    is_sure: bool | None = None,
) -> Answer:
    """Name the parts behind an answer, first the part with its passage; if no part answered, the
    parts that share words with the question, by score. `is_sure`: answers in few words agree, and
    their own words suffice; None: there is one answer."""
    if not choice.indices:
        return explain_whole(question, text, kept.records, finish)
    cited = [
        Citation(index, kept.records[index], score, choice.margin)
        for index, score in zip(choice.indices, choice.scores, strict=True)
    ]
    if is_silence(text):
        near = sorted((c for c in cited if c.score), key=lambda c: -(c.score or 0))
        return refuse(question, text, near, finish)
    question = "" if choice.together else question  # it names parts, and asks for no words
    n_read = kept.count_read(choice)
    answer = explain(question, text, cited, finish, n_read=n_read, named=choice.named)
    if is_sure is not None and answer.passage is not None:
        stands_there = answer.supported or is_supported("", text, answer.passage, answer.passage)
        answer.supported = is_sure and stands_there
    return answer


def explain(
    question: str,
    text: str,
    cited: Sequence[Citation],
    finish: Finish = "stop",
    *,
    n_read: int,
    named: bool = False,
) -> Answer:
    """Find the passage of an answer in the first `n_read` parts; its part then comes first. A
    greeting has none, unless it or its answer shares a word with a part."""
    texts = [
        (c, find_passage(question, text, c.part.text, c.part.headings)) for c in cited[:n_read]
    ]
    texts.sort(key=lambda pair: -(pair[1].weight if pair[1] else -1.0))
    if not texts or (passage := texts[0][1]) is None:
        return Answer(text, finish, cited)
    first = texts[0][0].part
    stands_there = passage.supported or is_supported("", text, first.text, first.text)
    if GREETS.fullmatch(question) and not (named or stands_there or _shares(question, first)):
        return Answer(text, finish)
    order = [*(citation for citation, _ in texts), *cited[n_read:]]
    read = "\n".join(citation.part.text for citation in cited[:n_read])
    is_long = len(text) > LONGEST  # a comparison has its words in several parts
    supported = passage.supported or (is_long and is_supported(question, text, read, read))
    return Answer(text, finish, order, passage.text, supported)


def refuse(question: str, text: str, near: Sequence[Citation], finish: Finish) -> Answer:
    """Name the closest parts of a refusal, and the nearest lines of the first, if it shares a word
    with the question."""
    if not near or not _shares(question, near[0].part):
        return Answer(text, finish)
    passage = find_passage(question, "", near[0].part.text, near[0].part.headings)
    return Answer(text, finish, near, passage.text if passage else None)


def explain_whole(
    question: str, text: str, records: Sequence[PartRecord], finish: Finish = "stop"
) -> Answer:
    """Find the passage of an answer, or the closest passage, in the text of one memory."""
    if not records:
        return Answer(text, finish)
    cited = [Citation(n, record) for n, record in enumerate(records) if not record.is_overview]
    if not is_silence(text):
        answer = explain(question, text, cited, finish, n_read=len(cited))
        return Answer(text, finish, answer.citations[:1], answer.passage, answer.supported)
    near = explain(question, question, cited, n_read=len(cited))
    return refuse(question, text, near.citations[:1], finish)


def _shares(question: str, part: PartRecord) -> bool:
    """True if a part has one of a question's words, but for stop words and typing errors."""
    stops = find_stop_words(question)
    asked = [word for word in split_content(question, stops) if word not in stops]
    words = split_content(part.searched, frozenset())
    return any(is_near(word, other) for word in asked for other in words)
