"""Adapter + questions → recall report: the adapter, the document in the prompt, the base alone.

One model in memory; the adapter is the one on disk, loaded by PEFT. Prints nothing.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from d2l.adapters.info import AdapterInfo, read_info
from d2l.bases.batches import batched
from d2l.datasets.questions import Question, read_questions, read_unanswerable
from d2l.datasets.silence import SILENCE
from d2l.errors import D2LError, ProbeError
from d2l.evaluation.harm import answer_general, measure_harm
from d2l.evaluation.metrics import contains_answer
from d2l.evaluation.originals import Originals, read_originals
from d2l.evaluation.recall.arms import Arms, Gathered, ProbeOptions
from d2l.evaluation.recall.report import Cell, Probe, Row, make_rows, make_silence_rows
from d2l.evaluation.recall.unanswerable import NEIGHBORS, ask_neighbors, choose_given
from d2l.evaluation.sampling import pick_evenly
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

    Its document is read again from where it was, unless one is given. Without it there is none to
    put into the prompt, and whether an answer stands in what was compiled cannot be told. Without
    `questions` only those are asked that the document does not answer (`options.unanswerable`).
    """
    info = read_info(adapter)
    originals, remarks = _find_originals(info, document)
    text = None if originals is None else "\n\n".join(one.text for one in originals.documents)
    rows = [] if questions is None else read_questions(questions)
    unanswered, more = _find_unanswerable(rows, text, options)
    remarks += more
    if text is not None and questions is not None:
        rows, more = _choose(rows, text, questions)
        remarks += more
    asker = AdaptedModel.load(adapter, asking)
    arms = Arms(options)
    gathered, silence = (
        _gather(arms, asker, pick_evenly(chosen, options.limit), text, watch)
        for chosen in (rows, unanswered)
    )
    cell = _describe(asker, text)
    harm = _measure(asker, options.batch, watch) if options.harm else None
    return Probe(
        tuple(make_rows(cell, gathered)) if rows else (),
        harm,
        tuple(remarks),
        tuple(make_silence_rows(cell, gathered, silence)) if unanswered else (),
    )


def _gather(
    arms: Arms,
    asker: AdaptedModel,
    questions: Sequence[Question],
    text: str | None,
    watch: Progress,
) -> Gathered:
    """Ask all arms; `text` is the adapter's document, where it is at hand."""
    gathered = Gathered()
    for asked in watch(batched(questions, arms.options.batch), "asking"):
        arms.ask_with_document(asker, asked, text, gathered)
        if arms.options.compare:
            gathered.base.add(arms.ask_alone(asker, asked))
    return gathered


def _find_unanswerable(
    questions: Sequence[Question], text: str | None, options: ProbeOptions
) -> tuple[list[Question], list[str]]:
    """What is asked though the document does not answer it, and remarks; raises ProbeError."""
    given = options.unanswerable
    if given is None:
        return [], []
    if given != NEIGHBORS:
        rows = read_unanswerable(Path(given))
        if text is None:
            return [replace(row, references=(SILENCE,)) for row in rows], []
        found = choose_given(rows, text, set())
    elif text is None:
        raise ProbeError(
            "neighbors cannot be found without the document", hint="name it with --document FILE"
        )
    else:
        words = " ".join(text.split())
        documents = {row.document for row in questions if row.document is not None}
        sources = {one for one in documents if " ".join(one.split()) in words}
        rows, found = list(questions), ask_neighbors(questions, text, sources)
    if not found:
        raise ProbeError(
            f"--unanswerable {given}: none of {len(rows):,} questions goes with this document "
            "without an answer in it",
            hint="rows with a doc must be about it; neighbors need rows of the same title",
        )
    n_left = len(rows) - len(found)
    left = f"left out as unanswerable: {n_left:,} of {len(rows):,}, answered in the document or"
    return found, [f"{left} about others"] if n_left and given != NEIGHBORS else []


def count_seats(asker: AdaptedModel) -> int | None:
    """Seats of the adapter that an asker holds; None for networks without seats."""
    return len(asker.opening) - 1 if asker.opening else None


def _find_originals(info: AdapterInfo, document: str | None) -> tuple[Originals | None, list[str]]:
    """The adapter's documents, and remarks; none where they are not at hand, and no other given."""
    try:
        originals = read_originals(info, document)
    except D2LError as error:
        if document is not None:
            raise
        return None, [
            f"{error.message}: there is no document to put into the prompt, and all questions "
            "count, also those that it does not answer (name it with --document FILE)"
        ]
    return originals, list(originals.remarks)


def _choose(
    questions: Sequence[Question], text: str, file: Path
) -> tuple[list[Question], list[str]]:
    """Questions about this document whose answer stands in it, and how many are left out."""
    words = " ".join(text.split())
    about = [q for q in questions if q.document is None or " ".join(q.document.split()) in words]
    answered = [question for question in about if contains_answer(text, question.references)]
    if not answered:
        raise ProbeError(
            f"{file}: none of its {len(questions):,} questions has its answer in the document",
            hint="an answer must stand in it word for word; rows with a doc must be about it",
        )
    remarks = []
    if n_other := len(questions) - len(about):
        remarks.append(f"left out: {n_other:,} of {len(questions):,}, about other documents")
    if n_without := len(about) - len(answered):
        remarks.append(
            f"left out: {n_without:,} of {len(questions):,}, whose answer is not in the document"
        )
    return answered, remarks


def _describe(asker: AdaptedModel, text: str | None) -> Cell:
    """The one cell of an adapter: its document's name and length in tokens."""
    n_tokens = None if text is None else len(asker.encode(text))
    made = asker.info.provenance
    names = [] if made is None else [entry.name for entry in made.inputs]
    return Cell(
        set=", ".join(names) or str(asker.info.folder),
        length=n_tokens,
        documents=max(len(names), 1),
        tokens=n_tokens,
        seats=count_seats(asker),
    )


def _measure(asker: AdaptedModel, batch: int, watch: Progress) -> Row:
    general = answer_general(asker, batch=batch, watch=watch)
    return measure_harm(asker, general, batch=batch, watch=watch).to_json()
