"""A set of questions → documents of one length, each with the questions that are asked about it.

Up to `PASSAGE_TOKENS` a document is one passage of one of the set's texts. A longer document holds
passages of different texts side by side, each a section of its own, and is asked about all of them.
A question goes with the passage of its text that holds its first answer; a question whose answer
stands in several passages is left out. The same file and length give the same documents.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from d2l.datasets.questions import Question
from d2l.datasets.silence import SILENCE
from d2l.documents.chunks import Tokenizer, pack_sentences, share_out
from d2l.documents.document import SEPARATOR, Document
from d2l.evaluation.metrics import (
    contains_answer,
    normalize_answer,
    pick_evenly,
    write_plainly,
)
from d2l.readers.parsing import Section

#: Longest document that is a single passage.
PASSAGE_TOKENS = 240
#: Shortest passage that is worth asking about.
SMALLEST_TOKENS = 40
#: Questions about a document of one passage, and about each of several side by side: more only
#: where the set has too few passages for all questions that are wanted.
FEWEST_ASKED, FEWEST_ASKED_BESIDE = 4, 2
#: Passages at least this full are taken first, so that documents have about the length asked for.
_FULL = 0.75
_SEED = 20_261
#: Characters on both sides of an answer that say which of several equal ones is meant.
_AROUND = 80


@dataclass(frozen=True)
class AskedPassage:
    """A stretch of one of the set's texts, and the questions that only it answers."""

    text: str
    n_tokens: int
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class AskedDocument:
    """A document to compile, its length in tokens, and questions: it answers the first alone."""

    document: Document
    n_tokens: int
    questions: tuple[Question, ...]
    unanswerable: tuple[Question, ...] = ()


def draw_documents(
    questions: Sequence[Question], *, tokenizer: Tokenizer, length: int, limit: int
) -> list[AskedDocument]:
    """Documents of at most `length` tokens with `limit` questions in all.

    Fewer where the set has no more. No question is asked twice; a passage stands in a second
    document only where the last one has no other to be filled up with.
    """
    whole = min(length, PASSAGE_TOKENS)
    passages = _cut_passages(questions, tokenizer, whole)
    random.Random(f"{_SEED}:{length}").shuffle(passages)
    passages.sort(key=lambda passage: passage.n_tokens < _FULL * whole)
    if length <= PASSAGE_TOKENS:
        fewest, groups = FEWEST_ASKED, [[passage] for passage in passages]
    else:
        by_text: dict[str | None, AskedPassage] = {}
        for passage in passages:  # side by side stand passages of different texts
            by_text.setdefault(passage.questions[0].document, passage)
        groups = list(_fill(list(by_text.values()), length, tokenizer))
        fewest = FEWEST_ASKED_BESIDE
    drawn: list[AskedDocument] = []
    for most in range(fewest, max([fewest, *(len(p.questions) for p in passages)]) + 1):
        drawn = list(_draw(groups, tokenizer, length=length, limit=limit, most=most))
        if sum(len(one.questions) for one in drawn) == limit:
            break
    return drawn


def join_texts(
    questions: Sequence[Question], *, tokenizer: Tokenizer, length: int, limit: int
) -> list[AskedDocument]:
    """The set's texts in the order of the file, joined to documents of about `length` tokens, a
    longer text alone, until `limit` questions are asked."""
    texts: dict[str, list[Question]] = {}
    for question in questions:
        assert question.document is not None  # sets are read so
        texts.setdefault(question.document, []).append(_locate(question))
    passages = [AskedPassage(text, 0, tuple(asked)) for text, asked in texts.items()]
    documents: list[AskedDocument] = []
    for number, group in enumerate(_fill(passages, length, tokenizer), start=1):
        asked = [question for passage in group for question in passage.questions]
        joined = _join(group, [], f"text {number}", tokenizer)
        documents.append(ask_some(joined, asked, limit))
        limit -= len(documents[-1].questions)
        if limit < 1:
            break
    return [one for one in documents if one.questions]


def ask_some(document: AskedDocument, questions: Sequence[Question], limit: int) -> AskedDocument:
    """The document with `limit` of the questions that it answers, and as many of the others."""
    unanswerable = [q._replace(references=(SILENCE,)) for q in questions if not q.references]
    return replace(
        document,
        questions=tuple(pick_evenly([q for q in questions if q.references], limit)),
        unanswerable=tuple(pick_evenly(unanswerable, limit)),
    )


def find_right(pages: Sequence[str], question: Question) -> tuple[int, ...]:
    """Places of the pages that hold an answer and at least half of the evidence, most of it first.
    Without evidence, the page with an answer, where it is the only one."""
    wanted = _pair_words(question.evidence)
    references = [write_plainly(reference) for reference in question.references]
    shares = {
        place: len(wanted & _pair_words(page)) / max(len(wanted), 1)
        for place, page in enumerate(pages)
        if contains_answer(write_plainly(page), references)
    }
    if not wanted:
        return tuple(shares) if len(shares) == 1 else ()
    found = sorted(shares, key=lambda place: -shares[place])
    return tuple(place for place in found if shares[place] >= 0.5)


def _pair_words(text: str) -> set[tuple[str, ...]]:
    """All neighboring words of a text, which hardly ever stand together by chance."""
    words = normalize_answer(write_plainly(text)).split()
    return set(pairwise(words)) if len(words) > 1 else {(word,) for word in words}


def _locate(question: Question) -> Question:
    """The question with the surroundings of its first answer as evidence, where it has none."""
    text = question.document or ""
    start = text.find(question.references[0]) if question.references else -1
    if question.evidence or start < 0:
        return question
    stop = start + len(question.references[0])
    return question._replace(evidence=text[max(start - _AROUND, 0) : stop + _AROUND])


def _draw(
    groups: Sequence[Sequence[AskedPassage]],
    tokenizer: Tokenizer,
    *,
    length: int,
    limit: int,
    most: int,
) -> Iterator[AskedDocument]:
    """Documents of these passages until there are `limit` questions, at most so many a passage."""
    for number, group in enumerate(groups, start=1):
        asked = _ask_about(group, most)[:limit]
        if asked:
            yield _join(group, asked, f"{length} tokens, {number}", tokenizer)
        limit -= len(asked)
        if not limit:
            return


def _cut_passages(
    questions: Sequence[Question], tokenizer: Tokenizer, limit: int
) -> list[AskedPassage]:
    """Passages of all texts that answer something, none longer than `limit`."""
    texts: dict[str, list[Question]] = {}
    for question in questions:
        assert question.document is not None  # sets are read so
        texts.setdefault(question.document, []).append(question)
    passages = []
    for text, asked in texts.items():
        pieces = pack_sentences(text, tokenizer=tokenizer, limit=limit, minimum=1)
        owned = share_out(pieces, asked, find=lambda q: partial(_holds, q), trust_single=False)
        passages += [
            AskedPassage(piece.text, len(piece.token_ids), tuple(own))
            for piece, own in zip(pieces, owned, strict=True)
            if own and min(SMALLEST_TOKENS, limit) <= len(piece.token_ids) <= limit
        ]
    return passages


def _holds(question: Question, text: str) -> bool:
    return contains_answer(text, question.references[:1])


def _fill(
    passages: Sequence[AskedPassage], length: int, tokenizer: Tokenizer
) -> Iterator[list[AskedPassage]]:
    """Passages side by side, in order, until the next would exceed the length.

    The last group is filled up with passages that stood in others, nothing being asked of these.
    """
    group: list[AskedPassage] = []
    for passage in passages:
        if group and _count([*group, passage], tokenizer) > length:
            yield group
            group = []
        group.append(passage)
    if not group:
        return
    for passage in passages[: len(passages) - len(group)]:
        if _count([*group, passage], tokenizer) > length:
            break
        group.append(replace(passage, questions=()))
    yield group


def _ask_about(group: Sequence[AskedPassage], most: int) -> list[Question]:
    """Choose questions that exactly one passage of a group answers, at most `most` of each passage,
    round-robin over the passages."""
    return [
        passage.questions[turn]
        for turn in range(most)
        for passage in group
        if turn < len(passage.questions)
        and sum(_holds(passage.questions[turn], other.text) for other in group) == 1
    ]


def _join(
    group: Sequence[AskedPassage], asked: Sequence[Question], name: str, tokenizer: Tokenizer
) -> AskedDocument:
    text = _text_of(group)
    data = text.encode("utf-8")
    document = Document(
        name=name,
        format="text",
        sections=tuple(Section(passage.text) for passage in group),
        digest=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
    )
    return AskedDocument(document, _count(group, tokenizer), tuple(asked))


def _count(group: Sequence[AskedPassage], tokenizer: Tokenizer) -> int:
    return len(tokenizer.encode(_text_of(group)))


def _text_of(group: Sequence[AskedPassage]) -> str:
    return SEPARATOR.join(passage.text for passage in group)
