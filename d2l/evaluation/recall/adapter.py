"""Adapter + questions → recall report: the adapter, the document in the prompt, the base alone.

One model in memory; the adapter is the one on disk, loaded by PEFT. Prints nothing.
"""

from collections.abc import Sequence
from pathlib import Path

from d2l.adapters.info import AdapterInfo, read_info
from d2l.bases.batches import batched
from d2l.datasets.questions import Question, read_questions
from d2l.errors import D2LError, ProbeError
from d2l.evaluation.harm import answer_general, measure_harm
from d2l.evaluation.metrics import contains_answer
from d2l.evaluation.originals import Originals, read_originals
from d2l.evaluation.recall.arms import Arms, Gathered, ProbeOptions
from d2l.evaluation.recall.report import Cell, Probe, Row, make_rows
from d2l.evaluation.sampling import pick_evenly
from d2l.inference.adapted_model import Asker, AskOptions, load_asker
from d2l.progress import Progress, silent


def probe_adapter(
    adapter: Path,
    questions: Path,
    *,
    document: str | None,
    asking: AskOptions,
    options: ProbeOptions,
    watch: Progress = silent,
) -> Probe:
    """Ask a file of questions about one adapter; raises D2LError.

    Its document is read again from where it was, unless one is given. Without it there is none to
    put into the prompt, and whether an answer stands in what was compiled cannot be told.
    """
    rows, info = read_questions(questions), read_info(adapter)
    originals, remarks = _find_originals(info, document)
    text = None if originals is None else "\n\n".join(one.text for one in originals.documents)
    if text is not None:
        rows, more = _choose(rows, text, questions)
        remarks += more
    asker = load_asker(adapter, asking)
    arms, gathered = Arms(options), Gathered()
    for asked in watch(batched(pick_evenly(rows, options.limit), options.batch), "asking"):
        arms.ask_with_document(asker, asked, text, gathered)
        if options.compare:
            gathered.base.add(arms.ask_alone(asker, asked))
    cell = _describe(asker, text)
    harm = _measure(asker, options.batch, watch) if options.harm else None
    return Probe(tuple(make_rows(cell, gathered)), harm, tuple(remarks))


def count_seats(asker: Asker) -> int | None:
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


def _describe(asker: Asker, text: str | None) -> Cell:
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


def _measure(asker: Asker, batch: int, watch: Progress) -> Row:
    general = answer_general(asker, batch=batch, watch=watch)
    return measure_harm(asker, general, batch=batch, watch=watch).to_json()
