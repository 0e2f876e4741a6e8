"""Documents → questions that a person might ask, with answers and the answers' characters.

The text is cut into passages. Rules choose the answers of a passage, the writer asks for them, and
the base must give them back with the passage in its prompt.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import BaseTokenizer
from d2l.documents.chunks import pack_sentences
from d2l.progress import Progress, silent
from d2l.questions.marks import AboutText, choose_answers, find_answers
from d2l.questions.writer import QuestionWriter, open_writer

_PASSAGE_TOKENS, _FEWEST_TOKENS = 240, 12


@dataclass(frozen=True)
class Excerpt:
    """A passage of a document: its text, and the character of the document that it starts at."""

    document: int
    start: int
    text: str


def write_about(
    causal: Any,
    tokenizer: BaseTokenizer,
    base: BaseFiles,
    texts: Sequence[str],
    *,
    most: int | None = None,
    watch: Progress = silent,
) -> tuple[list[AboutText], int]:
    """Write questions about documents: those that the base answers, in text order, and the number
    of all that were written. Neither if the base has no writer.

    `most`: passages that are asked about, evenly spread (None: all).
    """
    writer = open_writer(causal, tokenizer, base)
    if writer is None:
        return [], 0
    passages = list(cut(texts, tokenizer))
    questions, n_written = list[AboutText](), 0
    for index in watch(spread(len(passages))[:most], "asking questions"):
        answered, n_of_passage = ask_about(writer, passages[index])
        questions += answered
        n_written += n_of_passage
    unique = {(item.document, item.question.casefold()): item for item in reversed(questions)}
    return sorted(unique.values(), key=lambda item: (item.document, item.start)), n_written


def cut(texts: Sequence[str], tokenizer: BaseTokenizer) -> Iterator[Excerpt]:
    """Cut documents into passages of whole sentences that a writer can read."""
    for number, text in enumerate(texts):
        packed = pack_sentences(
            text, tokenizer=tokenizer, limit=_PASSAGE_TOKENS, minimum=_FEWEST_TOKENS
        )
        for piece in packed:
            if len(piece.token_ids) >= _FEWEST_TOKENS:
                yield Excerpt(number, piece.start, text[piece.start : piece.stop])


def ask_about(writer: QuestionWriter, passage: Excerpt) -> tuple[list[AboutText], int]:
    """Ask for every answer of a passage: the questions that the base answers, and the number of
    all that were written."""
    text = passage.text
    written = writer.write(text, choose_answers(find_answers(text)))
    answered = [
        AboutText(
            passage.document,
            passage.start + span.start,
            passage.start + span.stop,
            question,
            " ".join(span.of(text).split()),
        )
        for question, span in writer.keep_answered(text, written)
    ]
    return answered, len(written)


def spread(n: int) -> list[int]:
    """List the numbers below `n` so that every beginning of the list is evenly spread: by their
    bits in reverse."""
    bits = max(n - 1, 1).bit_length()
    return [m for m in (int(f"{k:0{bits}b}"[::-1], 2) for k in range(2**bits)) if m < n]
