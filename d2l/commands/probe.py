"""The command `d2l probe`: how many questions about its document an adapter answers."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2l.commands import console
from d2l.commands.options import INPUT, AdapterPath, Base, Device, Offline, in_panel

if TYPE_CHECKING:
    from d2l.evaluation.probe import QuestionsReport

#: Tokens of the longest answer.
_MOST_TOKENS = 24


def probe(
    adapter: AdapterPath,
    qa: Annotated[
        Path,
        in_panel(INPUT, help="Questions about its document: JSON lines of question, answers."),
    ],
    document: Annotated[
        str | None, in_panel(INPUT, help="The adapter's document, if it has moved.")
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="SHARE", help="Fail below this share of right answers."),
    ] = None,
    base: Base = None,
    device: Device = "auto",
    offline: Offline = False,
) -> None:
    """Measure how much of its document an adapter recalls.

    Compares it with the document in the prompt, and with the base alone.
    """
    from d2l.answer.options import AskOptions
    from d2l.evaluation.probe import probe_questions

    asking = AskOptions(base, device, _MOST_TOKENS, offline=offline)
    report = probe_questions(adapter, qa, document=document, asking=asking, watch=console.watch)
    for remark in report.remarks:
        console.note(remark)
    console.emit(report.to_json(), partial(_show_questions, report))
    if at_least is not None:
        report.check_share(at_least)


def _show_questions(report: "QuestionsReport") -> None:
    """Print how many answers are right, each wrong one, the questions left out, and the scores."""
    from d2l.evaluation.answers import NAMES

    if report.own.recall is not None:
        console.result(f"{report.own.recall.count:,} of {report.own.n:,} right")
    for question in report.wrong:
        wanted = " / ".join(question.wanted) or "(no answer)"
        _show_answer(f"? {question.question}", wanted, question.answers[report.own.arm].text)
    for row in report.left_out:
        console.result(f"left out: {row.question} ({row.reason}: {' / '.join(row.wanted)})")
    tokens = "" if report.tokens is None else f", {report.tokens:,} tokens"
    console.result(f"\n{report.document}{tokens}")
    names = ("arm", "right", "exact match", "F1", "false answers", "false silences")
    asks_silence = report.own.false_answers is not None
    rows = [
        (
            NAMES[scores.arm],
            str(scores.recall or "–"),
            *(scores.show(score) for score in ("em", "f1")),
            *(str(share or "–") for share in (scores.false_answers, scores.false_silences)),
        )
        for scores in report.scores
    ]
    n_columns = len(names) if asks_silence else len(names) - 2
    console.show_table(names[:n_columns], [row[:n_columns] for row in rows])
    n_cut = max(scores.n_cut for scores in report.scores)
    if n_cut:
        console.result(f"\nthe document was cut to fit into the prompt of {n_cut:,} questions")


def _show_answer(asked: str, wanted: str, said: str) -> None:
    """Print a wrong answer, a line each: texts of documents and models have line ends."""
    for name, text in (("  ", asked), ("         wanted  ", wanted), ("         said    ", said)):
        console.result(name + " ".join(text.split()))
