"""The command `d2l probe`: what it was asked to do, which pipeline does it, what is printed.

Three ways: an adapter alone is tested with its document's own sentences, with `--qa` a file of
questions is asked about it, and with `--set` documents are compiled and asked about.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import AsJson, Base, Device, Dtype, Offline, Wording, split_list

if TYPE_CHECKING:
    from d2l.evaluation.recall.report import Probe
    from d2l.evaluation.selftest.selftest import SelfOptions
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
    length: Annotated[
        list[str] | None,
        typer.Option(help="Documents of a set, in tokens; repeatable; default: 64,240,480,960."),
    ] = None,
    checkpoint: Annotated[
        str | None, typer.Option(help="Network that compiles sets; default: the built-in one.")
    ] = None,
    tokens_per_seat: Annotated[
        int | None, typer.Option(min=1, help="As `d2l compile` takes it, for sets.")
    ] = None,
    dtype: Annotated[Dtype | None, typer.Option(help="Precision of a set's adapters.")] = None,
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
        Path | None, typer.Option(help="Write the self-test as one HTML file, too.")
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
    only_sets = {
        "--length": length,
        "--checkpoint": checkpoint,
        "--tokens-per-seat": tokens_per_seat,
        "--dtype": dtype,
    }
    if sets:
        _refuse({"ADAPTER": adapter, "--qa": qa, "--document": document}, "with --set")
    elif adapter is None:
        raise typer.BadParameter("name an adapter, or sets of questions with --set")
    else:
        _refuse(only_sets, "without --set")
    if sets or qa is not None:
        _refuse({"--html": html}, "with --qa or --set")
    else:
        only_questions = {
            "--wording": wording,
            "--fail-under": fail_under,
            "--adapter-only": adapter_only,
        }
        _refuse(only_questions, "without --qa or --set")
    if adapter_only:
        _refuse({"--wording": wording}, "with --adapter-only")

    from d2l.evaluation.recall.arms import DEFAULT_WORDING, ProbeOptions
    from d2l.inference.adapted_model import AskOptions

    asking = AskOptions(base=base, device=device, max_tokens=max_tokens, offline=offline)
    options = ProbeOptions(
        limit,
        max_tokens,
        batch,
        wording or DEFAULT_WORDING,
        harm=not no_harm,
        compare=not adapter_only,
    )
    if sets:
        from d2l.compiler.compile import CompileOptions
        from d2l.evaluation.recall.network import probe_sets
        from d2l.hypernets.registry import DEFAULT

        compiling = CompileOptions(
            checkpoint=checkpoint or DEFAULT,
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
        _show(found, least, as_json=as_json)
        return
    assert adapter is not None
    if qa is not None:
        from d2l.evaluation.recall.adapter import probe_adapter

        found = probe_adapter(
            adapter, qa, document=document, asking=asking, options=options, watch=console.watch
        )
        _show(found, least, as_json=as_json)
        return
    from d2l.evaluation.selftest.selftest import SelfOptions

    testing = SelfOptions(document, limit, batch, not no_harm)
    _test_itself(adapter, asking, testing, html=html, as_json=as_json)


def _refuse(given: Mapping[str, Any], where: str) -> None:
    """Say which options have no meaning here: wrong usage."""
    names = [name for name, value in given.items() if value]
    if names:
        raise typer.BadParameter(f"{', '.join(names)} cannot be given {where}")


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
    from d2l.commands.heatmap import show_selftest
    from d2l.evaluation.selftest.html_report import refuse_report, write_report
    from d2l.evaluation.selftest.selftest import probe_itself

    if html is not None:
        refuse_report(html)  # before the work, not after it
    report = probe_itself(adapter, asking, options, console.watch)
    for remark in report.remarks:
        console.note(remark)
    if html is not None:
        write_report(report, html)
    if as_json:
        console.result_json(report.to_json())
    else:
        show_selftest(report)


def _show(found: "Probe", least: Mapping[str, float], *, as_json: bool) -> None:
    """Print the outcome, then refuse what is under the bounds."""
    from d2l.evaluation.recall.report import require_scores

    for remark in found.remarks:
        console.note(remark)
    if as_json:
        console.result_json(found.to_json())
    else:
        show_recall(found.rows, found.harm)
    require_scores(found.rows, least)


def show_recall(rows: Sequence[Mapping[str, Any]], harm: Mapping[str, Any] | None) -> None:
    """Print how much came back, set by set, length by length and arm by arm."""
    scores = ("contained", "exact match", "F1", "NLL", "without end")
    console.show_table(
        ("set", "length", "tokens", "arm", "n", *scores),
        [
            (
                row["set"],
                "?" if row["length"] is None else f"{row['length']:,}",
                "?" if row["tokens"] is None else f"{row['tokens']:,.0f}",
                _name_arm(row),
                f"{row['n']:,}",
                *(_with_error(row, key) for key in ("contained", "em", "f1")),
                *(_with_error(row, key, digits=2) for key in ("nll", "nll_without_end")),
            )
            for row in rows
        ],
    )
    notes = []
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


def _name_arm(row: Mapping[str, Any]) -> str:
    """The arm for people; the prompt's with the name of its wording."""
    names = {"adapter": "adapter", "base": "base alone"}
    return names.get(row["arm"]) or f"prompt ({row['wording']})"


def _with_error(row: Mapping[str, Any], key: str, digits: int = 3) -> str:
    """A mean and its standard error, where there is one."""
    error = row["stderr"][key]
    return f"{row[key]:.{digits}f}" + ("" if error is None else f" ± {error:.{digits}f}")
