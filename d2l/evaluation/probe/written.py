"""A document → questions of the base's writer, with pages, and the adapter's answers to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from d2l.bases.catalog import find_used
from d2l.bases.models import batched, find_base
from d2l.bases.tokenizers import load_tokenizer
from d2l.compiler.originals import Originals
from d2l.evaluation.metrics import contains_answer
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.scoring import Query, answer_adapted
from d2l.progress import Progress, silent
from d2l.questions.about import write_about
from d2l.questions.replies import agrees

#: Questions between two reports of progress.
_BATCH = 8


@dataclass(frozen=True)
class PageQuestion:
    """A question about a document, its answer and the answer's place; `page` is None in formats
    without pages."""

    document: str
    page: int | None
    place: str
    question: str
    answer: str

    def to_json(self) -> dict[str, Any]:
        """The values of `--json`; `--qa` reads question and answers."""
        return {
            "question": self.question,
            "answers": [self.answer],
            "document": self.document,
            "page": self.page,
        }


def write_questions(
    asker: AdaptedModel,
    originals: Originals,
    *,
    most: int | None = None,
    offline: bool = False,
    watch: Progress = silent,
) -> tuple[list[PageQuestion], int]:
    """Write questions about an adapter's documents, in order; also counts all that were written.

    A question is kept if the base answers it with the passage in its prompt. A base without a
    writer gives none. `most`: passages that are asked about, evenly spread (None: all). The base is
    that of `asker`, without the adapter.
    """
    name = str(asker.info.config.get("base_model_name_or_path"))
    given = asker.options.base or find_used(name, asker.info.base_sha256)
    base = find_base(name, override=given, offline=offline)
    texts = [document.text for document in originals.documents]
    causal, tokenizer = asker.model.get_base_model(), load_tokenizer(base.folder)
    with asker.model.disable_adapter():
        questions, n_written = write_about(causal, tokenizer, base, texts, most=most, watch=watch)
    placed = []
    for written in questions:
        document = originals.documents[written.document]
        if not document.is_margin(written.stop):
            page = document.find_page(written.start)
            place = document.where(written.start, written.stop)
            asked = PageQuestion(document.name, page, place, written.question, written.answer)
            placed.append(asked)
    return placed, n_written


@dataclass(frozen=True)
class PageAnswer:
    """The adapter's answer to a question about a page."""

    asked: PageQuestion
    said: str

    @property
    def contained(self) -> bool:
        """True if the answer has the wanted one, also by the rules of the writer's own reader."""
        asked = self.asked
        return contains_answer(self.said, (asked.answer,)) or agrees(
            self.said, asked.answer, question=asked.question
        )

    @property
    def place(self) -> str:
        """The page with the answer, else its place or the document."""
        asked = self.asked
        where = f"p. {asked.page}" if asked.page is not None else asked.place
        return f"{asked.document}, {where}" if where else asked.document

    def to_json(self) -> dict[str, Any]:
        """The values of `d2l probe --json`."""
        return {**self.asked.to_json(), "said": self.said, "contained": self.contained}


def answer_questions(
    asker: AdaptedModel, questions: Sequence[PageQuestion], *, watch: Progress = silent
) -> tuple[PageAnswer, ...]:
    """Ask the adapter on `asker`."""
    answered: list[PageAnswer] = []
    for some in watch(batched(questions, _BATCH), "asking"):
        answers = answer_adapted(asker, [Query(one.question) for one in some])
        answered += [
            PageAnswer(*pair) for pair in zip(some, (a.text for a in answers), strict=True)
        ]
    return tuple(answered)
