"""The command `d2l probe`: how much of its document comes back from an adapter.

An adapter alone is tested with its document's own sentences, with `--qa` by a file of questions.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from d2l.commands import console
from d2l.commands.options import INPUT, AdapterPath, Base, Device, Offline, in_panel

if TYPE_CHECKING:
    from d2l.evaluation.probe.asked import QuestionsReport
    from d2l.evaluation.probe.selftest import SelfReport
    from d2l.evaluation.probe.written import PageAnswer

#: Tokens of the longest answer.
_MOST_TOKENS = 24
#: Worst passages, and wrong answers to a writer, that are shown; `--json` has all.
_SHOWN = 3


def probe(
    adapter: AdapterPath,
    qa: Annotated[
        Path | None,
        in_panel(INPUT, help="Questions about its document: JSON lines of question, answers."),
    ] = None,
    document: Annotated[
        str | None, in_panel(INPUT, help="The adapter's document, if it has moved.")
    ] = None,
    at_least: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Fail below this share of right answers to --qa."
        ),
    ] = None,
    base: Base = None,
    device: Device = "auto",
    offline: Offline = False,
) -> None:
    """Measure how much of its document an adapter recalls.

    Compares it with the document in the prompt, and with the base alone.
    """
    from d2l.evaluation.probe.asked import QuestionsReport, probe_questions
    from d2l.evaluation.probe.selftest import SelfReport, probe_itself
    from d2l.inference.options import AskOptions

    if qa is None and at_least is not None:
        raise typer.BadParameter("--at-least cannot be given without --qa")
    asking = AskOptions(base, device, _MOST_TOKENS, offline=offline)
    report: SelfReport | QuestionsReport
    if qa is not None:
        report = probe_questions(adapter, qa, document=document, asking=asking, watch=console.watch)
    else:
        report = probe_itself(adapter, document=document, asking=asking, watch=console.watch)
    for remark in report.remarks:
        console.note(remark)
    if isinstance(report, SelfReport):
        console.emit(report.to_json(), partial(show_selftest, report))
        return
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
    names = ("arm", "right", "exact match", "F1", "NLL", "false answers", "false silences")
    asks_silence = report.own.false_answers is not None
    rows = [
        (
            NAMES[scores.arm],
            str(scores.recall or "–"),
            *(scores.show(score) for score in ("em", "f1", "nll")),
            *(str(share or "–") for share in (scores.false_answers, scores.false_silences)),
        )
        for scores in report.scores
    ]
    n_columns = len(names) if asks_silence else len(names) - 2
    console.show_table(names[:n_columns], [row[:n_columns] for row in rows])
    n_cut = max(scores.n_cut for scores in report.scores)
    if n_cut:
        console.result(f"\nthe document was cut to fit into the prompt of {n_cut:,} questions")


def show_selftest(report: "SelfReport") -> None:
    """Print totals, a row for each page (or chunk) with its gain, the worst passages, questions of
    a writer, and harm."""
    from d2l.evaluation.metrics import show_mean

    test, total = report.selftest, report.selftest.total
    console.result(f"adapter    {report.adapter} on {report.base}")
    console.result(f"self-test  second halves of {total.n} of {test.n_sentences} sentences")
    assert total.gain is not None  # there is a sentence
    gain = show_mean(total.gain, total.stderr)
    console.result(f"gain       {gain} nats a token over the base alone")
    console.result(
        f"nll        {total.adapter_nll:.2f} with the adapter, {total.base_nll:.2f} without\n"
    )
    console.show_table(
        ("document", "place", "gain", "sentences"),
        [
            (
                row.place.document,
                row.place.name,
                "–" if row.gain.gain is None else f"{row.gain.gain:+.2f}",
                f"{row.gain.n}",
            )
            for row in test.places
        ],
    )
    console.result("\nworst passages")
    for recited in test.worst[:_SHOWN]:
        passage = recited.passage
        place = "" if passage.page is None else f", p. {passage.page}"
        line = f"{recited.gain:+.2f}  {passage.document}{place}: {passage.given} …"
        _show_answer(line, passage.wanted, recited.said or "")
    if report.answered:
        console.result(
            f"\nquestions  {_count_right(report.answered)} (of {report.n_written:,} that were "
            f"written, {report.n_answerable:,} are answerable from their passage)"
        )
        _show_answered(report.answered)
    console.result(f"\nharm       {report.harm}")


def _show_answered(answered: "Sequence[PageAnswer]") -> None:
    """Print how many of a writer's questions were answered, place by place, and wrong answers."""
    for place in dict.fromkeys(answer.place for answer in answered):
        own = [answer for answer in answered if answer.place == place]
        console.result(f"  {place}: {_count_right(own).removesuffix(' right')}")
    for answer in [answer for answer in answered if not answer.contained][:_SHOWN]:
        asked = answer.asked
        _show_answer(f"? {asked.question}", asked.answer, answer.said)


def _count_right(answered: "Sequence[PageAnswer]") -> str:
    return f"{sum(answer.contained for answer in answered)} of {len(answered)} right"


def _show_answer(asked: str, wanted: str, said: str) -> None:
    """Print a wrong answer, a line each: texts of documents and models have line ends."""
    for name, text in (("  ", asked), ("         wanted  ", wanted), ("         said    ", said)):
        console.result(name + " ".join(text.split()))
