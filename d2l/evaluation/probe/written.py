"""A document → questions of the base's writer, with pages, and the adapter's answers to them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from d2l.bases.models import batched, find_base
from d2l.bases.tokenizers import load_tokenizer
from d2l.compiler.originals import Originals, find_page
from d2l.documents.document import Document
from d2l.evaluation.metrics import contains_answer
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.scoring import Asked, answer_adapted
from d2l.progress import Progress, silent
from d2l.questions.about import write_about
from d2l.questions.marks import AboutText
from d2l.questions.replies import agrees

#: Questions between two reports of progress.
_BATCH = 8


@dataclass(frozen=True)
class PageQuestion:
    """A question about a document, its answer, and where that stands; `page` is None in formats
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
    base = find_base(name, override=asker.options.base, offline=offline)
    texts = [document.text for document in originals.documents]
    causal, tokenizer = asker.model.get_base_model(), load_tokenizer(base.folder)
    with asker.model.disable_adapter():
        questions, n_written = write_about(causal, tokenizer, base, texts, most=most, watch=watch)
    placed = []
    for written in questions:
        document = originals.documents[written.document]
        if _is_printed_around(document, written):
            continue
        page = find_page(document, written.start)
        place = document.where(written.start, written.stop)
        placed.append(PageQuestion(document.name, page, place, written.question, written.answer))
    return placed, n_written


def _is_printed_around(document: Document, written: AboutText) -> bool:
    """True if an answer stands in the header or footer of a document's only page.

    These are the first and the last line, if they are no sentences. The reader leaves them out of
    documents with several pages.
    """
    if [section.page for section in document.sections] != [1]:
        return False
    text = document.text.strip()
    line = document.text[: written.stop].rpartition("\n")[2]
    line += document.text[written.stop :].partition("\n")[0]
    ends = (text.partition("\n")[0], text.rpartition("\n")[2])
    return line.strip() in ends and not line.rstrip().endswith((".", "!", "?"))


@dataclass(frozen=True)
class PageAnswer:
    """The adapter's answer to a question about a page; `contained`: it has the wanted answer."""

    asked: PageQuestion
    said: str
    contained: bool

    @property
    def place(self) -> str:
        """The page that answers, else the place or the document."""
        asked = self.asked
        where = f"p. {asked.page}" if asked.page is not None else asked.place
        return f"{asked.document}, {where}" if where else asked.document

    def to_json(self) -> dict[str, Any]:
        """The values of `d2l probe --json`."""
        return {**self.asked.to_json(), "said": self.said, "contained": self.contained}


def answer_questions(
    asker: AdaptedModel, questions: Sequence[PageQuestion], *, watch: Progress = silent
) -> tuple[PageAnswer, ...]:
    """Ask the adapter on `asker`; an answer counts as it does for the writer's own reader."""
    answered: list[PageAnswer] = []
    for some in watch(batched(questions, _BATCH), "asking"):
        answers = answer_adapted(asker, [Asked(one.question) for one in some])
        for asked, answer in zip(some, answers, strict=True):
            right = contains_answer(answer.text, (asked.answer,)) or agrees(
                answer.text, asked.answer, question=asked.question
            )
            answered.append(PageAnswer(asked, answer.text, right))
    return tuple(answered)
