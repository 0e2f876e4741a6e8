"""A document → questions that a person might ask about it, with answers and pages.

The writer of a base asks (`refining.questions`); here questions get their chunks and pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from d2l.bases.models import batched, find_base
from d2l.bases.tokenizers import load_tokenizer
from d2l.evaluation.metrics import contains_answer
from d2l.evaluation.originals import Originals, find_page
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.likelihood import answer_greedily
from d2l.progress import Progress, silent
from d2l.refining.questions import write_about


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
        """As `--json` prints it; question and answers are what `--qa` reads."""
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
    offline: bool = False,
    watch: Progress = silent,
) -> list[PageQuestion]:
    """Questions about an adapter's documents, by the writer for its base, in order.

    None where there is no writer for the base, or nothing that passes the round trip. The base is
    the one on `asker`, its adapter switched off.
    """
    name = str(asker.info.config.get("base_model_name_or_path"))
    base = find_base(name, override=asker.options.base, offline=offline)
    texts = [document.text for document in originals.documents]
    causal = asker.model.get_base_model()
    with asker.model.disable_adapter():
        questions = write_about(causal, load_tokenizer(base.folder), base, texts, watch=watch)
    placed = []
    for written in questions:
        document = originals.documents[written.document]
        page = find_page(document, written.start)
        place = document.where(written.start, written.stop)
        placed.append(PageQuestion(document.name, page, place, written.question, written.answer))
    return placed


@dataclass(frozen=True)
class AnsweredQuestion:
    """A question, what the adapter said, and whether the answer is in that."""

    asked: PageQuestion
    said: str
    contained: bool

    def to_json(self) -> dict[str, Any]:
        """As `d2l probe --json` prints it."""
        return {**self.asked.to_json(), "said": self.said, "contained": self.contained}


def answer_questions(
    asker: AdaptedModel,
    questions: Sequence[PageQuestion],
    *,
    batch: int = 8,
    watch: Progress = silent,
) -> tuple[AnsweredQuestion, ...]:
    """Ask the adapter on `asker`."""
    answered: list[AnsweredQuestion] = []
    for some in watch(batched(questions, batch), "asking"):
        answers = answer_texts(asker, [question.question for question in some], batch=batch)
        for question, said in zip(some, answers, strict=True):
            answered.append(
                AnsweredQuestion(question, said, contains_answer(said, (question.answer,)))
            )
    return tuple(answered)


def answer_texts(asker: AdaptedModel, texts: Sequence[str], *, batch: int = 8) -> list[str]:
    """The adapter's greedy answers to user turns."""
    prompts, end = [asker.prompt(text) for text in texts], asker.end_token()
    answers = answer_greedily(
        asker.model, prompts, max_tokens=asker.options.max_new_tokens, batch=batch, end=end, pad=end
    )
    decode = asker.base_tokenizer.decode
    return [str(decode(ids, skip_special_tokens=True)).strip() for ids in answers]


def group_by_place(answered: Sequence[AnsweredQuestion]) -> dict[str, list[AnsweredQuestion]]:
    """Questions by where their answers stand: a page, else a place or the document."""
    groups: dict[str, list[AnsweredQuestion]] = {}
    for answer in answered:
        asked = answer.asked
        where = f"p. {asked.page}" if asked.page is not None else asked.place
        groups.setdefault(f"{asked.document}, {where}" if where else asked.document, []).append(
            answer
        )
    return groups
