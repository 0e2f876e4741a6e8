"""The command `d2l probe`: three ways to measure what comes back of a document.

An adapter alone is tested with its document's own sentences. With `--qa` (or `--unanswerable`) a
file of questions is asked about it. With `--set` documents are compiled and asked about.
"""

import enum
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import (
    INPUT,
    NETWORK,
    OUTPUT,
    Base,
    Device,
    Offline,
    adapter_argument,
    expert,
    in_panel,
)
from d2l.hypernets.registry import DEFAULT, DEFAULT_VARIABLE, default_checkpoint

if TYPE_CHECKING:
    from d2l.evaluation.recall.report import Probe
    from d2l.evaluation.selftest.selftest import SelfReport, SelfTest

LENGTHS = (64, 240, 480, 960)
#: Worst passages that are shown; `--json` has all.
_SHOWN = 3


class WholeArm(enum.StrEnum):
    """The arms of `--whole`, in the order in which they are asked."""

    BASE = "base"
    RAG = "rag"
    ADAPTER = "adapter"
    ROUTED = "routed"
    RIGHT = "right"
    PROMPT = "prompt"


def probe(
    adapter: Annotated[Path | None, adapter_argument()] = None,
    qa: Annotated[
        Path | None,
        in_panel(INPUT, help="Questions about its document: JSON lines of question, answers."),
    ] = None,
    document: Annotated[
        str | None, in_panel(INPUT, help="The adapter's document, if it has moved.")
    ] = None,
    sets: Annotated[
        list[Path] | None,
        in_panel(INPUT, "--set", help="Compile and ask: JSON lines of doc, question, answers."),
    ] = None,
    length: Annotated[
        list[int] | None,
        expert(INPUT, min=1, help="Tokens of documents of a set; default: 64, 240, 480, 960."),
    ] = None,
    unanswerable: Annotated[
        str | None,
        in_panel(
            INPUT,
            help="Questions that it does not answer: JSON lines of question, maybe doc; or "
            "neighbors: those of other passages of the same title.",
        ),
    ] = None,
    checkpoint: Annotated[
        str | None,
        in_panel(
            NETWORK, help=f"Network that compiles sets; default: {DEFAULT_VARIABLE}, or {DEFAULT}."
        ),
    ] = None,
    whole: Annotated[
        bool,
        expert("Options", "--whole", help="Ask about whole documents of --set, which doc names."),
    ] = False,
    arm: Annotated[
        list[WholeArm] | None, expert("Options", help="Arms of --whole; repeatable; default: all.")
    ] = None,
    plot: Annotated[
        Path | None, expert(OUTPUT, help="Draw --whole by length: .svg, .png or .pdf.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="Most questions for each row; default: 200, of the self-test 32."),
    ] = None,
    no_harm: Annotated[
        bool, expert("Options", "--no-harm", help="Leave the general prompts out.")
    ] = False,
    published: Annotated[
        bool, expert("Options", "--published", help="Ask in the public evaluation's prompt.")
    ] = False,
    at_least: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SHARE", help="Fail below this share of right answers to --qa."
        ),
    ] = None,
    html: Annotated[
        Path | None, in_panel(OUTPUT, help="Write the self-test as one HTML file, too.")
    ] = None,
    base: Base = None,
    device: Device = "auto",
    offline: Offline = False,
) -> None:
    """Measure how much of its document an adapter recalls.

    Compares it with the document in the prompt, and with the base alone.
    """
    given = {
        "ADAPTER": adapter,
        "--qa": qa,
        "--document": document,
        "--set": sets,
        "--unanswerable": unanswerable,
        "--length": length,
        "--checkpoint": checkpoint,
        "--html": html,
        "--at-least": at_least is not None,
        "--whole": whole,
        "--arm": arm,
        "--plot": plot,
        "--published": published,
    }
    _refuse_misplaced({name for name, value in given.items() if value}, unanswerable)
    from d2l.evaluation.recall.arms import ProbeOptions
    from d2l.inference.adapted_model import AskOptions
    from d2l.inference.parts.choose import PartOptions

    parts, most = PartOptions(whole=(whole or published) and not sets), 256 if published else 24
    asking = AskOptions(base, device, most, offline=offline, parts=parts, published=published)
    options = ProbeOptions(
        limit or 200,
        harm=not no_harm,
        unanswerable=unanswerable,
        arms=tuple(dict.fromkeys(one.value for one in arm or WholeArm)),
    )
    if sets:
        from d2l.evaluation.recall.network import probe_sets
        from d2l.evaluation.recall.report import draw_recall
        from d2l.evaluation.recall.whole import probe_whole
        from d2l.files.plots import check_picture, load_figure
        from d2l.hypernets.options import CompileOptions

        if plot is not None:  # refused before the work, not after it
            check_picture(plot)
            load_figure()

        compiling = CompileOptions(
            checkpoint=checkpoint or default_checkpoint(),
            base=base,
            device=device,
            offline=offline,
        )
        with console.ProgressBar("probing") as progress:
            found = (probe_whole if whole else probe_sets)(
                sets,
                tuple(dict.fromkeys(length or (() if whole else LENGTHS))),
                compiling=compiling,
                asking=asking,
                options=options,
                progress=progress,
            )
        _show_recall(found)
        if plot is not None:
            draw_recall(found.rows, plot)
        return
    assert adapter is not None
    if qa is not None or unanswerable is not None:
        from d2l.evaluation.recall.adapter import probe_adapter

        found = probe_adapter(
            adapter, qa, document=document, asking=asking, options=options, watch=console.watch
        )
        _show_recall(found)
        if at_least is not None:
            found.check_share(at_least)
        return
    from d2l.evaluation.selftest.html_report import refuse_report, write_report
    from d2l.evaluation.selftest.selftest import LIMIT, probe_itself

    if html is not None:
        refuse_report(html)  # before the work, not after it
    reports = probe_itself(
        adapter,
        asking,
        document=document,
        limit=limit or LIMIT,
        harm=not no_harm,
        watch=console.watch,
    )
    for report in reports:
        if report.harm is None:
            for remark in report.remarks:
                console.note(remark)
        if not console.wants_json():
            show_selftest(report)
            console.flush()  # harm takes minutes more
    if html is not None:
        write_report(report, html)
    if console.wants_json():
        console.result_json(report.to_json())


def _refuse_misplaced(given: AbstractSet[str], unanswerable: str | None) -> None:
    """Refuse options that have no meaning in the way of probing that the others ask for."""
    if "--set" in given:
        _refuse(given, ("ADAPTER", "--qa", "--document"), "with --set")
    elif "ADAPTER" not in given:
        raise typer.BadParameter("name an adapter, or sets of questions with --set")
    else:
        _refuse(given, ("--length", "--checkpoint"), "without --set")
    if not given & {"--qa", "--set"}:
        _refuse(given, ("--published",), "without --qa or --set")
    if {"--whole", "--set"} <= given:
        _refuse(given, ("--unanswerable", "--published"), "with --whole")
    else:
        _refuse(given, ("--arm", "--plot"), "without --set --whole")
    if given & {"--qa", "--set", "--unanswerable"}:
        _refuse(given, ("--html",), "with --qa, --set or --unanswerable")
    if "--qa" not in given:
        _refuse(given, ("--at-least",), "without --qa")
    if unanswerable == "neighbors" and not given & {"--qa", "--set"}:
        raise typer.BadParameter("--unanswerable neighbors needs --qa or --set to take them from")


def _refuse(given: AbstractSet[str], names: Sequence[str], where: str) -> None:
    misplaced = [name for name in names if name in given]
    if misplaced:
        raise typer.BadParameter(f"{', '.join(misplaced)} cannot be given {where}")


def _show_recall(found: "Probe") -> None:
    """Print how much came back, set by set, length by length and arm by arm."""
    from d2l.evaluation.harm import describe_harm
    from d2l.evaluation.recall.report import describe_questions

    for remark in found.remarks:
        console.note(remark)
    if console.wants_json():
        console.result_json(found.to_json())
        return
    if lines := describe_questions(found.questions):
        console.result("\n".join([*lines, ""]))
    if found.rows:
        _show_scores(found.rows)
    if found.rows and found.silence:
        console.result("")
    if found.silence:
        _show_silence(found.silence)
    if found.routing:
        console.result("")
        _show_routing(found)
    notes = []
    if n_cut := sum(row.get("cut", 0) for row in found.rows):
        notes.append(f"the document was cut to fit into the prompt of {n_cut:,} questions")
    harm = found.harm or {}
    rows = harm.get("by_seats", [harm] if harm else [])
    notes += [f"harm: {describe_harm(row)}" for row in rows]
    if notes:
        console.result("\n".join(["", *notes]))


def _show_scores(rows: Sequence[dict[str, Any]]) -> None:
    from d2l.evaluation.metrics import show_score
    from d2l.evaluation.recall.report import ARMS, describe_share

    head, *others = places = [(row["set"], _show_tokens(row)) for row in rows]
    same = all(place == head for place in others)
    if same:
        console.result(f"{head[0]}, {head[1]} tokens")
    console.show_table(
        (*(() if same else ("set", "tokens")), "arm", "right", "exact match", "F1", "NLL"),
        [
            (
                *(() if same else place),
                ARMS[row["arm"]],
                describe_share(row),
                *(show_score(row, key, ".2f") for key in ("em", "f1", "nll")),
            )
            for place, row in zip(places, rows, strict=True)
        ],
    )


def _show_silence(rows: Sequence[dict[str, Any]]) -> None:
    """Print answers without a source in the document, and answers that were kept back."""
    from d2l.evaluation.recall.report import ARMS, describe_count

    console.show_table(
        ("set", "tokens", "arm", "false answers", "false silences"),
        [
            (
                row["set"],
                _show_tokens(row),
                ARMS[row["arm"]],
                describe_count(row["false_answers"]),
                describe_count(row["false_silences"]),
            )
            for row in rows
        ],
    )


def _show_routing(found: "Probe") -> None:
    """Print how often the right part came first, and each arm's time to the first token."""
    from d2l.evaluation.recall.report import ARMS, describe_count

    console.show_table(
        ("set", "tokens", "right part first", "in the first three"),
        [
            (
                row["set"],
                _show_tokens(row),
                describe_count(row["first"]),
                describe_count(row["three"]),
            )
            for row in found.routing
        ],
    )
    console.result("")
    console.show_table(
        ("set", "tokens", "arm", "first token", "n"),
        [
            (
                row["set"],
                _show_tokens(row),
                ARMS[row["arm"]],
                f"{row['first_token']['seconds']:.2f} s",
                f"{row['first_token']['n']}",
            )
            for row in found.rows
            if "first_token" in row
        ],
    )


def _show_tokens(row: dict[str, Any]) -> str:
    """The length that was asked for, else the documents' own mean length."""
    n_tokens = row["length"] or row.get("tokens")
    return "?" if n_tokens is None else f"{n_tokens:,.0f}"


def show_selftest(report: "SelfReport") -> None:
    """Print totals, a row for each page (or chunk) with its gain, the worst passages, and questions
    of a writer; of a report with harm, harm alone."""
    from d2l.evaluation.harm import describe_harm
    from d2l.evaluation.metrics import list_answer, show_mean
    from d2l.evaluation.selftest.questions import describe_answered

    if report.harm is not None:
        console.result(f"\nharm       {describe_harm(report.harm)}")
        return
    test, total = report.selftest, report.selftest.total
    console.result(f"adapter    {report.adapter} on {report.base}")
    console.result(f"self-test  second halves of {total['n']} of {test.n_sentences} sentences")
    gain = show_mean(total["gain"], total["stderr"])
    console.result(f"gain       {gain} nats a token over the base alone")
    console.result(
        f"nll        {total['adapter_nll']:.2f} with the adapter, {total['base_nll']:.2f} without\n"
    )
    _show_places(test)
    console.result("\nworst passages")
    for recited in test.worst[:_SHOWN]:
        passage = recited.passage
        place = "" if passage.page is None else f", p. {passage.page}"
        line = f"{recited.gain:+.2f}  {passage.document}{place}: {passage.given} …"
        console.result("\n".join(list_answer(line, passage.wanted, recited.said or "")))
    if report.answered:
        lines = describe_answered(report.answered, report.n_written, report.n_answerable)
        console.result("\n".join(["", *lines]))


def _show_places(test: "SelfTest") -> None:
    rows = test.pages or test.chunks
    columns = ("document", "page" if test.pages else "chunk", "gain", "sentences")
    console.show_table(
        columns,
        [
            (
                row["document"],
                row["place"],
                f"{row['gain']:+.2f}" if row["n"] else "–",
                f"{row['n']}",
            )
            for row in rows
        ],
    )
