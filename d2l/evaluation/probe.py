"""Adapter + a file of questions → report: answers of the adapter as `d2l ask` asks it, of the base
with the document in its prompt, and of the base alone."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

from d2l.adapters.info import AdapterInfo, read_info
from d2l.answer.model import AdaptedModel
from d2l.answer.options import AskOptions
from d2l.compiler.originals import read_originals
from d2l.datasets.questions import Question, read_questions
from d2l.datasets.silence import FEW_WORDS, is_silence
from d2l.errors import D2LError, ProbeError
from d2l.evaluation.answers import AnsweredQuestion, Arm, ArmScores, MarkedAnswer
from d2l.evaluation.metrics import contains_answer, match_exactly, token_f1, write_plainly
from d2l.parts.engine import Decoding
from d2l.progress import Progress, silent


@dataclass(frozen=True)
class LeftOut:
    """A question that was not asked, and the reason."""

    question: str
    wanted: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class QuestionsReport:
    """The outcome of `d2l probe ADAPTER --qa FILE`; `tokens` is None without the document.

    `wrong`: questions whose answer contains no reference, or is no refusal if there is none.
    """

    document: str
    tokens: int | None
    scores: tuple[ArmScores, ...]
    questions: tuple[AnsweredQuestion, ...]
    wrong: tuple[AnsweredQuestion, ...]
    left_out: tuple[LeftOut, ...]
    remarks: tuple[str, ...]

    @property
    def own(self) -> ArmScores:
        """Scores of the adapter, as `d2l ask` asks it."""
        return self.scores[0]

    def to_json(self) -> dict[str, Any]:
        """The values of `d2l probe --qa --json`."""
        about = {"document": self.document, "tokens": self.tokens}
        asked = [
            {
                "question": question.question,
                "wanted": question.wanted,
                "said": question.answers[self.own.arm].text,
                "right": question not in self.wrong,
                "answers": {arm: asdict(answer) for arm, answer in question.answers.items()},
            }
            for question in self.questions
        ]
        return {
            **about,
            "rows": [asdict(scores) for scores in self.scores],
            "questions": asked,
            "left_out": [asdict(row) for row in self.left_out],
        }

    def check_share(self, least: float) -> None:
        """Raise ProbeError if the recall is less than a share from 0 to 1."""
        recall = self.own.recall
        if recall is None or recall.share < least:
            raise ProbeError(
                f"{self.document}: {recall or 'no question with an answer'} right, less than "
                f"{least:g}",
                hint="the wrong answers stand above; --at-least sets the share",
            )


def probe_questions(
    adapter: Path, file: Path, *, document: str | None, asking: AskOptions, watch: Progress = silent
) -> QuestionsReport:
    """Ask an adapter a file of questions; raises D2LError.

    The document is read again from where it was compiled, or from `document`. If it is gone, no arm
    has it in its prompt, and all questions count.
    """
    questions, info = read_questions(file), read_info(adapter)
    text, remarks = _read_text(info, document)
    asked, left_out = _choose(questions, text, file)
    asker = AdaptedModel.load(adapter, asking)
    own = Arm.PARTS if asker.kept.chooses else Arm.ADAPTER
    arms = [own, *([] if text is None else [Arm.PROMPT]), Arm.BASE]
    answers: list[dict[str, MarkedAnswer]] = [{} for _ in asked]
    turns = [(arm, *pair) for arm in arms for pair in zip(asked, answers, strict=True)]
    told = _ask_with_document(asker, asked, text or "")
    for arm, question, own_answers in watch(turns, "asking"):
        answer = next(told) if arm is Arm.PROMPT else (_ask(asker, arm, question.text), 0)
        own_answers[arm] = _mark(question, *answer)
    rows = tuple(
        AnsweredQuestion(q.text, q.references, some) for q, some in zip(asked, answers, strict=True)
    )
    wrong = tuple(
        row
        for row in rows  # without an answer in the document, a refusal is right
        if not (row.answers[own].contained if row.wanted else row.answers[own].silent)
    )
    names = [] if info.provenance is None else [entry.name for entry in info.provenance.inputs]
    return QuestionsReport(
        document=", ".join(names) or str(info.folder),
        tokens=None if text is None else len(asker.encode(text)),
        scores=tuple(ArmScores.list_arms(rows, arms)),
        questions=rows,
        wrong=wrong,
        left_out=tuple(left_out),
        remarks=remarks,
    )


def _ask(asker: AdaptedModel, arm: Arm, question: str) -> str:
    """Ask the adapter in a few words, or the base alone; raises AdapterError."""
    if arm is Arm.BASE:
        return asker.ask_alone(question)
    options = replace(asker.options, short=True)
    return asker.answer([{"role": "user", "content": question}], options=options)


def _ask_with_document(
    asker: AdaptedModel, questions: Sequence[Question], text: str
) -> Iterator[tuple[str, int]]:
    """Ask the base with the document in its prompt, which it reads once: answers in a few words,
    and the tokens of the document that did not fit."""
    engine, most = asker.engine, asker.options.max_new_tokens
    prompts = [asker.prompt_about(text, q.text + FEW_WORDS, n_answer=most) for q in questions]
    # What all share ends with the shortest prompt.
    columns = zip(*(ids[:-1] for ids, _ in prompts), strict=False)
    shared = [same[0] for same in takewhile(lambda column: len(set(column)) == 1, columns)]
    read = engine.read(shared, "none")
    for ids, n_cut in prompts:
        tokens = engine.generate(engine.copy(read), ids[len(shared) :], Decoding(most))
        said = [token.id for token in tokens if not token.is_end]
        yield str(asker.base_tokenizer.decode(said, skip_special_tokens=True)).strip(), n_cut


def _mark(question: Question, answer: str, n_cut: int) -> MarkedAnswer:
    """Mark an answer against all references."""
    said, references = write_plainly(answer), [write_plainly(r) for r in question.references]
    return MarkedAnswer(
        text=str(answer),
        contained=float(contains_answer(said, references)),
        em=float(match_exactly(said, references)),
        f1=token_f1(said, references),
        silent=is_silence(said),
        n_cut=n_cut,
    )


def _read_text(info: AdapterInfo, given: str | None) -> tuple[str | None, tuple[str, ...]]:
    """The document's text, None if it is gone, and remarks."""
    try:
        originals = read_originals(info, given)
    except D2LError as error:
        if given is not None:
            raise
        remark = (
            f"{error.message}: there is no document to put into the prompt, and all questions "
            "count, also those that it does not answer (name it with --document FILE)"
        )
        return None, (remark,)
    return originals.text, originals.remarks


def _choose(
    questions: Sequence[Question], text: str | None, file: Path
) -> tuple[list[Question], list[LeftOut]]:
    """Choose the questions about this document; also lists the others.

    An answer must stand in the document; questions without an answer are asked, too.
    """
    if text is None:
        return list(questions), []
    words, asked = " ".join(text.split()), list[Question]()
    left_out = list[LeftOut]()
    for question in questions:
        document, wanted = question.document, question.references
        if document is not None and " ".join(document.split()) not in words:
            left_out.append(LeftOut(question.text, wanted, "it is about another document"))
        elif wanted and not contains_answer(text, wanted):
            left_out.append(LeftOut(question.text, wanted, "its answer is not in the document"))
        else:
            asked.append(question)
    if not asked:
        raise ProbeError(
            f"{file}: none of its {len(questions):,} questions has its answer in the document",
            hint="an answer must stand in it word for word; rows with a doc must be about it",
        )
    return asked, left_out
