"""Documents and questions about them → the teacher that an adapter of seats is refined towards.

The network reads every passage that was asked about once more, now with a seat for each token.
"""

from collections.abc import Iterator, Sequence

from d2l.adapters.weights import Memory
from d2l.bases.activations import ActivationEncoder
from d2l.bases.tokenizers import BaseTokenizer
from d2l.documents.chunks import Piece, pack_sentences
from d2l.hypernets.seats.network import Seats
from d2l.learners.document_data import Asked
from d2l.refining.decoder import MemoryDecoder
from d2l.refining.question_writer import AboutText
from d2l.refining.subjects import MovableSeats
from d2l.refining.teacher import Teacher


def make_teacher(
    seats: Seats,
    decoder: MemoryDecoder,
    subject: MovableSeats,
    tokenizer: BaseTokenizer,
    *,
    texts: Sequence[str],
    about: Sequence[AboutText],
) -> Teacher:
    """A teacher that has read what was asked of these documents, each question behind the passage
    in which its answer is marked."""
    config = seats.config
    encode = ActivationEncoder(seats.base_model, config.reading)
    teacher = Teacher(decoder, subject.shared)
    for number, text in enumerate(texts):
        pieces = pack_sentences(
            text, tokenizer=tokenizer, limit=config.chunk_tokens, minimum=config.min_chunk_tokens
        )
        for piece in pieces:
            asked = list(_choose(about, number, piece))
            if not asked:
                continue
            read = encode((*config.read_opening, *piece.token_ids))
            n_seats = min(max(len(piece.token_ids), config.min_seats), config.max_seats)
            memory = seats.generate(read, n_seats)
            assert isinstance(memory, Memory)
            teacher.read(memory, [subject.ask(one) for one in asked])
    return teacher


def _choose(about: Sequence[AboutText], document: int, piece: Piece) -> Iterator[Asked]:
    """What was asked about a piece of a document, by its number."""
    for one in about:
        if one.document == document and piece.start <= one.start and one.stop <= piece.stop:
            yield Asked(one.question, one.answer)
