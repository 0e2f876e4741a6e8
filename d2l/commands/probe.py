"""The command `d2l probe`: what it was asked to do, which pipeline does it, what is printed.

Three ways: an adapter alone is tested with its document's own sentences, with `--qa` (or
`--unanswerable`) a file of questions is asked about it, and with `--set` documents are compiled and
asked about.
"""

import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import (
    AsJson,
    Base,
    Device,
    Dtype,
    Offline,
    RefineSteps,
    RefineTime,
    Wording,
    split_list,
)
from d2l.hypernets.registry import DEFAULT, DEFAULT_VARIABLE, default_checkpoint
from d2l.refining.options import choose_refining

if TYPE_CHECKING:
    from d2l.evaluation.recall.report import Probe
    from d2l.evaluation.selftest.selftest import SelfOptions, SelfReport
    from d2l.inference.adapted_model import AskOptions

LENGTHS = (64, 240, 480, 960)
#: Spellings of earlier versions.
RENAMED = {"--lengths": "--length"}
BOUNDED = ("contained", "em", "f1")


def probe(
    adapter: Annotated[Path | None, typer.Argument(help="Adapter folder.")] = None,
    qa: Annotated[
        Path | None,
        typer.Option(help="Questions about its document: JSON lines of question, answers."),
    ] = None,
    document: Annotated[
        str | None, typer.Option(help="The adapter's document, if it has moved.")
    ] = None,
    sets: Annotated[
        list[Path] | None,
        typer.Option("--set", help="Compile and ask: JSON lines of doc, question, answers."),
    ] = None,
    unanswerable: Annotated[
        str | None,
        typer.Option(
            help="Questions that it does not answer: JSON lines of question, maybe doc; or "
            "neighbors: those about other passages of the same title in --qa or --set."
        ),
    ] = None,
    length: Annotated[
        list[str] | None,
        typer.Option(help="Documents of a set, in tokens; repeatable; default: 64,240,480,960."),
    ] = None,
    checkpoint: Annotated[
        str | None,
        typer.Option(
            help=f"Network that compiles sets; default: {DEFAULT_VARIABLE}, or {DEFAULT}."
        ),
    ] = None,
    tokens_per_seat: Annotated[
        int | None, typer.Option(min=1, help="As `d2l compile` takes it, for sets.")
    ] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Precision of a set's adapters.")] = None,
    refine: RefineTime = None,
    refine_steps: RefineSteps = None,
    wording: Annotated[
        Wording | None,
        typer.Option(help="How the base is asked about the document; best: try all of them."),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Most questions for each row.")] = 200,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 24,
    batch: Annotated[int, typer.Option(min=1, help="Questions read at a time.")] = 8,
    fail_under: Annotated[
        list[str] | None,
        typer.Option(help="contained=0.3, em=… or f1=…: exit 1 if the adapter has less."),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write the report as one HTML file, too.")
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(help="Keep the questions of the self-test, as --qa reads them."),
    ] = None,
    no_harm: Annotated[
        bool, typer.Option("--no-harm", help="Leave the general prompts out.")
    ] = False,
    adapter_only: Annotated[
        bool, typer.Option("--adapter-only", help="Ask no base alone or with the document.")
    ] = False,
    base: Base = None,
    device: Device = "auto",
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Measure what comes back of a document: adapter, document in the prompt, base alone."""
    least = _parse_bounds(fail_under or ())
    numbers = _parse_lengths(length) if length is not None else LENGTHS
    given = {
        "ADAPTER": adapter,
        "--qa": qa,
        "--document": document,
        "--set": sets,
        "--unanswerable": unanswerable,
        "--length": length,
        "--checkpoint": checkpoint,
        "--tokens-per-seat": tokens_per_seat,
        "--dtype": dtype,
        "--refine": refine,
        "--refine-steps": refine_steps,
        "--wording": wording,
        "--fail-under": fail_under,
        "--adapter-only": adapter_only,
        "--save": save,
    }
    _refuse_misplaced({name for name, value in given.items() if value}, unanswerable)
    if html is not None:
        from d2l.evaluation.html_page import refuse_report

        refuse_report(html)  # before the work, not after it

    from d2l.evaluation.recall.arms import DEFAULT_WORDING, ProbeOptions
    from d2l.inference.adapted_model import AskOptions

    asking = AskOptions(base=base, device=device, max_tokens=max_tokens, offline=offline)
    options = ProbeOptions(
        limit,
        batch,
        wording or DEFAULT_WORDING,
        harm=not no_harm,
        compare=not adapter_only,
        unanswerable=unanswerable,
        refine=choose_refining(refine, refine_steps),
    )
    if sets:
        from d2l.compiler.options import CompileOptions
        from d2l.evaluation.recall.network import probe_sets

        compiling = CompileOptions(
            checkpoint=checkpoint or default_checkpoint(),
            base=base,
            device=device,
            tokens_per_seat=tokens_per_seat,
            dtype=dtype or "bf16",
            offline=offline,
        )
        with console.Steps("probing") as progress:
            found = probe_sets(
                sets,
                numbers,
                compiling=compiling,
                asking=asking,
                options=options,
                progress=progress,
            )
        subject = ", ".join(map(str, sets))
        _show(found, least, html=html, subject=subject, as_json=as_json)
        return
    assert adapter is not None
    if qa is not None or unanswerable is not None:
        from d2l.evaluation.recall.adapter import probe_adapter

        found = probe_adapter(
            adapter, qa, document=document, asking=asking, options=options, watch=console.watch
        )
        _show(found, least, html=html, subject=str(adapter), as_json=as_json)
        return
    from d2l.evaluation.selftest.selftest import SelfOptions

    testing = SelfOptions(document, limit, batch, not no_harm, save)
    _test_itself(adapter, asking, testing, html=html, as_json=as_json)


def _refuse_misplaced(given: AbstractSet[str], unanswerable: str | None) -> None:
    """Say which of the `given` options have no meaning in the way of probing that they ask for."""
    if "--set" in given:
        _refuse(given, ("ADAPTER", "--qa", "--document"), "with --set")
    elif "ADAPTER" not in given:
        raise typer.BadParameter("name an adapter, or sets of questions with --set")
    else:
        for_network = ("--length", "--checkpoint", "--tokens-per-seat", "--dtype")
        _refuse(given, (*for_network, "--refine", "--refine-steps"), "without --set")
    if not given & {"--qa", "--set"}:
        _refuse(given, ("--fail-under",), "without --qa or --set")
        if "--unanswerable" not in given:
            only_questions = ("--wording", "--adapter-only")
            _refuse(given, only_questions, "without --qa, --set or --unanswerable")
        if unanswerable == "neighbors":
            raise typer.BadParameter(
                "--unanswerable neighbors needs --qa or --set to take them from"
            )
    if given & {"--qa", "--set", "--unanswerable"}:
        _refuse(given, ("--save",), "with --qa, --set or --unanswerable")
    if "--adapter-only" in given:
        _refuse(given, ("--wording",), "with --adapter-only")


def _refuse(given: AbstractSet[str], names: Sequence[str], where: str) -> None:
    """Say which options have no meaning here: wrong usage."""
    misplaced = [name for name in names if name in given]
    if misplaced:
        raise typer.BadParameter(f"{', '.join(misplaced)} cannot be given {where}")


def _parse_lengths(texts: Sequence[str]) -> tuple[int, ...]:
    """Whole numbers of tokens, each once."""
    parts = split_list("--length", texts)
    for part in parts or [""]:
        if not re.fullmatch("[1-9][0-9]{0,8}", part):
            raise typer.BadParameter(f"{part!r}: expected a number of tokens, such as 240")
    return tuple(dict.fromkeys(map(int, parts)))


def _parse_bounds(texts: Sequence[str]) -> dict[str, float]:
    """Scores and what they must reach at least."""
    least = {}
    for text in texts:
        match = re.fullmatch(rf"({'|'.join(BOUNDED)})=([0-9]*\.?[0-9]+)", text)
        if match is None or float(match[2]) > 1:
            raise typer.BadParameter(
                f"{text!r}: expected one of {', '.join(BOUNDED)} and a share, such as contained=0.3"
            )
        least[match[1]] = float(match[2])
    return least


def _test_itself(
    adapter: Path,
    asking: "AskOptions",
    options: "SelfOptions",
    *,
    html: Path | None,
    as_json: bool,
) -> None:
    """Run the self-test and print it, and write it as HTML if that is wanted."""
    from d2l.commands.heatmap import show_harm, show_selftest
    from d2l.evaluation.selftest.html_report import write_report
    from d2l.evaluation.selftest.selftest import probe_itself

    def tell(report: "SelfReport") -> None:
        """What is known before harm is measured, which takes minutes."""
        for remark in report.remarks:
            console.note(remark)
        if not as_json:
            show_selftest(report)
            console.flush()

    report = probe_itself(adapter, asking, options, console.watch, tell)
    if html is not None:
        write_report(report, html)
    console.emit(report.to_json(), lambda: show_harm(report), as_json=as_json)


def _show(
    found: "Probe", least: Mapping[str, float], *, html: Path | None, subject: str, as_json: bool
) -> None:
    """Print the outcome, write it as HTML if that is wanted, then refuse what is under the
    bounds."""
    from d2l.evaluation.recall.report import require_scores

    for remark in found.remarks:
        console.note(remark)
    if html is not None:
        from d2l.evaluation.html_page import write_page
        from d2l.evaluation.recall.html_report import render_recall

        write_page(render_recall(found, subject), html)
    console.emit(
        found.to_json(),
        lambda: show_recall(found.rows, found.harm, found.silence),
        as_json=as_json,
    )
    require_scores(found.rows, least)


def show_recall(
    rows: Sequence[Mapping[str, Any]],
    harm: Mapping[str, Any] | None,
    silence: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Print how much came back, set by set, length by length and arm by arm."""
    from d2l.evaluation.recall.report import describe_gain

    if rows:
        _show_scores(rows)
    if rows and silence:
        console.result("")
    if silence:
        _show_silence(silence)
    notes = [describe_gain(dict(row)) for row in rows if "refined" in row]
    if n_cut := sum(row.get("cut", 0) for row in rows):
        notes.append(f"the document was cut to fit into the prompt of {n_cut:,} questions")
    for one in (harm or {}).get("by_seats", [harm] if harm else []):
        seats = "" if one["seats"] is None else f" at {one['seats']} seats"
        notes.append(
            f"harm{seats}: KL {_with_error(one, 'kl', digits=2)} nats a token, most likely token "
            f"unchanged {_with_error(one, 'unchanged')} ({one['n']} general prompts)"
        )
    if notes:
        console.result("\n".join(["", *notes]))


def _show_scores(rows: Sequence[Mapping[str, Any]]) -> None:
    from d2l.evaluation.recall.report import name_arm

    scores = ("contained", "exact match", "F1", "NLL", "without end")
    console.show_table(
        ("set", "length", "tokens", "arm", "n", *scores),
        [
            (
                row["set"],
                _name_length(row),
                "?" if row["tokens"] is None else f"{row['tokens']:,.0f}",
                name_arm(dict(row)),
                f"{row['n']:,}",
                *(_with_error(row, key) for key in ("contained", "em", "f1")),
                *(_with_error(row, key, digits=2) for key in ("nll", "nll_without_end")),
            )
            for row in rows
        ],
    )


def _show_silence(rows: Sequence[Mapping[str, Any]]) -> None:
    """Answers to what the document does not say, and silence on what it does."""
    from d2l.evaluation.recall.report import describe_count, name_arm

    console.show_table(
        ("set", "length", "arm", "false answers", "false silences"),
        [
            (
                row["set"],
                _name_length(row),
                name_arm(dict(row)),
                describe_count(row["false_answers"]),
                describe_count(row["false_silences"]),
            )
            for row in rows
        ],
    )


def _name_length(row: Mapping[str, Any]) -> str:
    return "?" if row["length"] is None else f"{row['length']:,}"


def _with_error(row: Mapping[str, Any], key: str, digits: int = 3) -> str:
    """A mean and its standard error, where there is one."""
    error = row["stderr"][key]
    return f"{row[key]:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")
