"""Adapter + a file of questions → report: answers of the adapter as `d2l ask` asks it, of the base
with the document in its prompt, and of the base alone."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
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
    for arm, question, own_answers in watch(turns, "asking"):
        own_answers[arm] = ask_arm(asker, arm, question, text or "")
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


def ask_arm(asker: AdaptedModel, arm: Arm, question: Question, text: str) -> MarkedAnswer:
    """Ask one question in a few words, and mark the greedy answer against all references.

    `text`: the document, of the arm that has it in the prompt. Raises AdapterError if the adapter
    cannot be asked.
    """
    n_cut = 0
    if arm is Arm.PROMPT:
        answer, n_cut = asker.ask_with_document(question.text + FEW_WORDS, text)
    elif arm is Arm.BASE:
        answer = asker.ask_alone(question.text)
    else:
        options = replace(asker.options, short=True)
        answer = asker.answer([{"role": "user", "content": question.text}], options=options)
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
