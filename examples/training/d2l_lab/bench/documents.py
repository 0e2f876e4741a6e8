"""A set of questions → documents of one length, each with the questions that are asked about it.

Up to `PASSAGE_TOKENS` a document is one passage of one of the set's texts. A longer document holds
passages of different texts side by side, each a section of its own, and is asked about all of them.
A question goes with the passage of its text that holds its first answer; a question whose answer
stands in several passages, or in none, is left out. The same file and length give the same
documents.
"""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

from d2l import Document
from d2l.documents.chunks import Tokenizer, pack_sentences
from d2l.evaluation.metrics import contains_answer, normalize_answer, write_plainly
from d2l.readers.parsing import Section
from d2l_lab.questions import Question, share_out

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


@dataclass(frozen=True)
class AskedPassage:
    """A stretch of one of the set's texts, and the questions that only it answers."""

    text: str
    n_tokens: int
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class AskedDocument:
    """A document to compile, its length in tokens, and the questions about it."""

    document: Document
    n_tokens: int
    questions: tuple[Question, ...]


def draw_documents(
    questions: Sequence[Question], *, tokenizer: Tokenizer, length: int, limit: int
) -> list[AskedDocument]:
    """Draw documents of at most `length` tokens with `limit` questions in all.

    A small set gives fewer. No question is asked twice; a passage stands in a second document only
    if the last document has no other to be filled up with.
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


def find_right(pages: Sequence[str], question: Question) -> tuple[int, ...]:
    """Find the pages that hold an answer and at least half of the evidence, most of it first.

    Gives their indices. Without evidence: the page with an answer, if there is one alone.
    """
    wanted = _pair_words(question.evidence)
    references = [write_plainly(reference) for reference in question.references]
    shares = {
        number: len(wanted & _pair_words(page)) / max(len(wanted), 1)
        for number, page in enumerate(pages)
        if contains_answer(write_plainly(page), references)
    }
    if not wanted:
        return tuple(shares) if len(shares) == 1 else ()
    ordered = sorted(shares, key=lambda number: -shares[number])
    return tuple(number for number in ordered if shares[number] >= 0.5)


def _pair_words(text: str) -> set[tuple[str, ...]]:
    """List the pairs of neighboring words, which hardly ever stand together by chance."""
    words = normalize_answer(write_plainly(text)).split()
    return set(pairwise(words)) if len(words) > 1 else {(word,) for word in words}


def _draw(
    groups: Sequence[Sequence[AskedPassage]],
    tokenizer: Tokenizer,
    *,
    length: int,
    limit: int,
    most: int,
) -> Iterator[AskedDocument]:
    """Join passages to documents until there are `limit` questions, `most` a passage."""
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
    """Cut all texts into passages of at most `limit` tokens that answer something."""
    texts: dict[str, list[Question]] = {}
    for question in questions:
        if question.references and question.document is not None:
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
    """Put passages side by side, in order, until the next would exceed the length.

    The last group is filled up with passages of other groups, without their questions.
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
    return "\n\n".join(passage.text for passage in group)
