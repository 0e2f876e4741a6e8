"""The teacher of a refined memory: the base with single passages, a seat for each of their tokens.

The adapter holds a passage in half as many seats as tokens, among others, and its seats leak. The
network reads each passage again alone, into a memory that the base gets exactly. Such a memory
answers more of people's questions than any adapter. If a question has no answer, the teacher gives
one all the same, which does no harm: the adapter's own answer would be of the same kind.
"""

from collections.abc import Sequence

import torch

from d2l.adapters.weights import Memory
from d2l.bases.activations import ActivationEncoder
from d2l.bases.models import batched
from d2l.documents.chunks import pack_sentences
from d2l.questions.marks import AboutText
from d2l.refining.references import References
from d2l.refining.subjects import MovableSeats
from d2l.training.learners.document_data import Asked, Exercise

_BATCH = 16  # exercises behind one opening at a time


def teach(
    subject: MovableSeats,
    references: References,
    *,
    texts: Sequence[str],
    about: Sequence[AboutText],
) -> None:
    """Keep the teacher's references for questions about documents, each behind the passage that
    holds its answer."""
    seats, config = subject.seats, subject.seats.config
    encode = ActivationEncoder(seats.base_model, config.reading)
    for number, text in enumerate(texts):
        limit, minimum = config.chunk_tokens, config.min_chunk_tokens
        pieces = pack_sentences(text, tokenizer=subject.tokenizer, limit=limit, minimum=minimum)
        for piece in pieces:
            asked = [
                subject.ask(Asked(one.question, one.answer))
                for one in about
                if one.document == number and piece.start <= one.start and one.stop <= piece.stop
            ]
            if asked:
                read = encode((*config.read_opening, *piece.token_ids))
                n_seats = min(max(len(piece.token_ids), config.min_seats), config.max_seats)
                memory = seats.generate(read, n_seats)
                assert isinstance(memory, Memory)
                read_passage(memory, subject, references, asked)


@torch.no_grad()
def read_passage(
    memory: Memory, subject: MovableSeats, references: References, exercises: Sequence[Exercise]
) -> None:
    """Keep the answers of a passage's memory to exercises; references that are known stay."""
    new = [one for one in exercises if one not in references]
    if not new:
        return
    decoder = subject.decoder
    keys, values = (t.to(decoder.device, torch.float32) for t in (memory.keys, memory.values))
    opening = decoder.read_opening(keys, values, leaks=False)
    for some in batched(new, _BATCH):
        states = decoder.states(some, opening)
        references.keep(some, torch.split(states, [len(one.answer) for one in some]))
