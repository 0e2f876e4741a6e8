"""Adapter + questions → recall report: the adapter, the document in the prompt, the base alone.

One model in memory; PEFT loads the adapter from disk.
"""

from collections.abc import Sequence
from pathlib import Path

from d2l.adapters.info import read_info
from d2l.bases.models import batched
from d2l.compiler.originals import read_originals
from d2l.datasets.questions import Question, read_questions, read_unanswerable
from d2l.datasets.silence import SILENCE
from d2l.errors import D2LError, ProbeError
from d2l.evaluation.harm import FEW_PROMPTS, answer_general, count_seats, measure_harm
from d2l.evaluation.metrics import Row, contains_answer, pick_evenly
from d2l.evaluation.recall.arms import Arms, Gathered, ProbeOptions
from d2l.evaluation.recall.report import (
    ARMS,
    Cell,
    Probe,
    add_answers,
    leave_out,
    make_rows,
    make_silence_rows,
)
from d2l.evaluation.recall.unanswerable import NEIGHBORS, ask_neighbors, choose_given
from d2l.inference.adapted_model import AdaptedModel, AskOptions
from d2l.progress import Progress, silent


def probe_adapter(
    adapter: Path,
    questions: Path | None,
    *,
    document: str | None,
    asking: AskOptions,
    options: ProbeOptions,
    watch: Progress = silent,
) -> Probe:
    """Ask a file of questions about one adapter; raises D2LError.

    Its document is read again from where it was, unless `document` names another place. Where the
    document is gone, no arm has it in its prompt, and all questions count. Without `questions` only
    `options.unanswerable` is asked.
    """
    info = read_info(adapter)
    remarks: list[str] = []
    text = None
    try:
        originals = read_originals(info, document)
        text, remarks = originals.text, list(originals.remarks)
    except D2LError as error:
        if document is not None:
            raise
        remarks.append(
            f"{error.message}: there is no document to put into the prompt, and all questions "
            "count, also those that it does not answer (name it with --document FILE)"
        )
    rows = [] if questions is None else read_questions(questions)
    unanswered = _find_unanswerable(rows, text, options, remarks)
    records: list[Row] = []
    if text is not None and questions is not None:
        rows = _choose(rows, text, questions, records)
    asker = AdaptedModel.load(adapter, asking)
    arms = Arms(options.batch)
    answered, silence = Gathered(), Gathered()
    for given, gathered in ((rows, answered), (unanswered, silence)):
        chosen = pick_evenly(given, options.limit)
        for some in watch(batched(chosen, options.batch), "asking"):
            arms.ask_all(asker, some, text, gathered)
        records += _list_answers(chosen, gathered)
    names = [] if info.provenance is None else [entry.name for entry in info.provenance.inputs]
    n_tokens = None if text is None else len(asker.encode(text))
    name = ", ".join(names) or str(info.folder)
    cell = Cell(name, n_tokens, max(len(names), 1), n_tokens, count_seats(asker))
    harm = None
    if options.harm:
        general = answer_general(asker, limit=FEW_PROMPTS, batch=options.batch, watch=watch)
        harm = measure_harm(asker, general, batch=options.batch, watch=watch)
    return Probe(
        tuple(make_rows(cell, answered)),
        harm,
        tuple(remarks),
        tuple(make_silence_rows(cell, answered, silence)),
        questions=tuple(records),
    )


def _list_answers(questions: Sequence[Question], gathered: Gathered) -> list[Row]:
    """A row for every question, with the answers of all arms."""
    rows = []
    for n, question in enumerate(questions):
        wanted = [] if question.references == (SILENCE,) else list(question.references)
        rows.append({"question": question.text, "wanted": wanted, "left_out": None})
        for arm in ARMS:
            if marks := getattr(gathered, arm):
                add_answers(rows[-1], arm, marks[n])
    return rows


def _find_unanswerable(
    questions: Sequence[Question], text: str | None, options: ProbeOptions, remarks: list[str]
) -> list[Question]:
    """Questions that the document does not answer; adds remarks, raises ProbeError."""
    given = options.unanswerable
    if given is None:
        return []
    rows = list(questions) if given == NEIGHBORS else read_unanswerable(Path(given))
    if text is None:
        if given == NEIGHBORS:
            raise ProbeError(
                "neighbors cannot be found without the document",
                hint="name it with --document FILE",
            )
        return [row._replace(references=(SILENCE,)) for row in rows]
    if given == NEIGHBORS:
        words = " ".join(text.split())
        documents = {row.document for row in questions if row.document is not None}
        sources = {document for document in documents if " ".join(document.split()) in words}
        chosen = ask_neighbors(questions, text, sources)
    else:
        chosen = choose_given(rows, text, set())
        if n_left := len(rows) - len(chosen):
            remarks.append(
                f"left out as unanswerable: {n_left:,} of {len(rows):,}, answered in the document "
                "or about others"
            )
    if not chosen:
        raise ProbeError(
            f"--unanswerable {given}: none of {len(rows):,} questions goes with this document "
            "without an answer in it",
            hint="rows with a doc must be about it; neighbors need rows of the same title",
        )
    return chosen


def _choose(
    questions: Sequence[Question], text: str, file: Path, records: list[Row]
) -> list[Question]:
    """Questions about this document whose answer stands in it; adds rows of the others."""
    words, answered = " ".join(text.split()), []
    for question in questions:
        document = question.document
        if document is not None and " ".join(document.split()) not in words:
            records.append(leave_out(question, "it is about another document"))
        elif not contains_answer(text, question.references):
            records.append(leave_out(question, "its answer is not in the document"))
        else:
            answered.append(question)
    if not answered:
        raise ProbeError(
            f"{file}: none of its {len(questions):,} questions has its answer in the document",
            hint="an answer must stand in it word for word; rows with a doc must be about it",
        )
    return answered
