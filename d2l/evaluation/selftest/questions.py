"""A document → questions that a person might ask about it, with answers and pages.

The writer of a base asks (`questions.about`); here questions get their chunks and pages.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from d2l.bases.models import batched, find_base
from d2l.bases.tokenizers import load_tokenizer
from d2l.compiler.originals import Originals, find_page
from d2l.documents.document import Document
from d2l.evaluation.metrics import contains_answer, list_answer
from d2l.evaluation.part_answers import asks_parts
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.likelihood import answer_greedily
from d2l.progress import Progress, silent
from d2l.questions.about import write_about
from d2l.questions.marks import AboutText
from d2l.questions.replies import agrees

#: Wrong answers that are shown to people.
_SHOWN = 3


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
    most: int | None = None,
    offline: bool = False,
    watch: Progress = silent,
) -> tuple[list[PageQuestion], int]:
    """(questions about an adapter's documents in order, how many the base's writer wrote).

    Those count that the base answers with the passage in its prompt. None where there is no writer
    for the base. `most`: passages that are asked about, evenly spread (None: all). The base is the
    one on `asker`, its adapter switched off.
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
    """Whether an answer stands in the header or footer of a document's only page: on the first or
    the last line, which is no sentence. Of several pages the reader leaves these lines out."""
    if [section.page for section in document.sections] != [1]:
        return False
    text = document.text.strip()
    line = document.text[: written.stop].rpartition("\n")[2]
    line += document.text[written.stop :].partition("\n")[0]
    ends = (text.partition("\n")[0], text.rpartition("\n")[2])
    return line.strip() in ends and not line.rstrip().endswith((".", "!", "?"))


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
    """Ask the adapter on `asker`; an answer counts as it does for the writer's own reader."""
    answered: list[AnsweredQuestion] = []
    for some in watch(batched(questions, batch), "asking"):
        answers = answer_texts(asker, [question.question for question in some], batch=batch)
        for asked, said in zip(some, answers, strict=True):
            right = contains_answer(said, (asked.answer,)) or agrees(
                said, asked.answer, question=asked.question
            )
            answered.append(AnsweredQuestion(asked, said, right))
    return tuple(answered)


def answer_texts(asker: AdaptedModel, texts: Sequence[str], *, batch: int = 8) -> list[str]:
    """The adapter's greedy answers to user turns, by its parts where it has some."""
    if asks_parts(asker):
        return [asker.ask(text) for text in texts]
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


def describe_answered(
    answered: Sequence[AnsweredQuestion], n_written: int, n_answerable: int
) -> list[str]:
    """How many of the writer's questions were answered, page by page, and some wrong answers."""
    wrong = [answer for answer in answered if not answer.contained]
    lines = [
        f"questions  {len(answered) - len(wrong)} of {len(answered)} right (of {n_written:,} that "
        f"were written, {n_answerable:,} are answerable from their passage)"
    ]
    for place, own in group_by_place(answered).items():
        lines.append(f"  {place}: {sum(answer.contained for answer in own)} of {len(own)}")
    for answer in wrong[:_SHOWN]:
        lines += list_answer(f"? {answer.asked.question}", answer.asked.answer, answer.said)
    return lines
