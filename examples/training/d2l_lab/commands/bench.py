"""Commands of `d2l-lab bench`: documents are drawn, compiled and asked."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import LIMITS, OUTPUT, in_panel, taking

if TYPE_CHECKING:
    from d2l.hypernets.options import CompileOptions
    from d2l_lab.bench.report import BenchReport, SummaryRow

_OPTIONS = "d2l.hypernets.options:CompileOptions"
_ROW = ("set", "tokens", "arm")
_MANUAL_TOKENS = 256  # of the longest answer
LENGTHS, NEEDLE_LENGTHS = (64, 240, 480, 960), (128, 256, 512, 1_024)

Files = Annotated[
    list[Path], typer.Argument(help="Sets of questions: JSON lines of doc, question, answers.")
]
Limit = Annotated[int, in_panel(LIMITS, min=1, help="Most questions for each length or manual.")]
MaxTokens = Annotated[
    int | None, in_panel(LIMITS, min=1, help="Longest answer; default: 64; manuals, no seats: 256.")
]
Rows = Annotated[
    Path | None, in_panel(OUTPUT, help="Keep each document's row here; another run goes on.")
]
Report = Annotated[Path | None, in_panel(OUTPUT, "-o", "--out", help="Write the report as JSON.")]


@taking(_OPTIONS, command="batch")
def sets(
    options: "CompileOptions",
    files: Files,
    length: Annotated[
        list[int] | None,
        in_panel(LIMITS, min=1, help="Tokens of documents; default: 64, 240, 480, 960."),
    ] = None,
    limit: Limit = 200,
    max_tokens: MaxTokens = None,
    rows: Rows = None,
    out: Report = None,
) -> None:
    """Compile documents of several lengths, and ask about them."""
    from d2l_lab.bench.cases import draw_sets

    draw = partial(draw_sets, files=files, lengths=length or LENGTHS, limit=limit)
    _measure("sets", draw, options, max_tokens, rows, out)


@taking(_OPTIONS, command="batch")
def needles(
    options: "CompileOptions",
    length: Annotated[
        list[int] | None,
        in_panel(LIMITS, min=64, help="Tokens of documents; default: 128, 256, 512, 1024."),
    ] = None,
    count: Annotated[int, in_panel(LIMITS, min=1, help="Documents of a length and depth.")] = 1,
    max_tokens: MaxTokens = None,
    rows: Rows = None,
    out: Report = None,
) -> None:
    """Find a number in noise, by length, at ten depths."""
    from d2l_lab.bench.cases import draw_needles

    draw = partial(draw_needles, lengths=length or NEEDLE_LENGTHS, count=count)
    _measure("needles", draw, options, max_tokens, rows, out)


@taking(_OPTIONS, command="batch")
def check(
    checkpoint: Annotated[str, typer.Argument(help="Network: its name, folder or file.")],
    options: "CompileOptions",
    max_tokens: MaxTokens = None,
    out: Report = None,
) -> None:
    """Try a network on this machine: ten questions on a page.

    Says which of two lengths of chunks recalls more, if the network reads both.
    """
    del checkpoint  # one of the options
    from d2l_lab.bench.cases import draw_page

    _measure("check", draw_page, options, max_tokens, None, out)


@taking(_OPTIONS, command="batch")
def manuals(
    options: "CompileOptions",
    files: Files,
    limit: Limit = 200,
    max_tokens: MaxTokens = None,
    rows: Rows = None,
    out: Report = None,
) -> None:
    """Ask about whole documents, which lie beside the questions."""
    from d2l_lab.bench.cases import draw_manuals

    draw = partial(draw_manuals, files=files, limit=limit)
    _measure("manuals", draw, options, max_tokens, rows, out)


def _measure(
    name: str,
    draw: Callable[..., Any],
    options: "CompileOptions",
    max_tokens: int | None,
    kept: Path | None,
    out: Path | None,
) -> None:
    """Run a benchmark, and print its report."""
    from d2l.answer.options import AskOptions
    from d2l_lab.bench.report import make_report, refuse_report, write_report
    from d2l_lab.bench.run import BenchOptions, run_bench

    if out is not None:  # refused before the work, not after it
        refuse_report(out)
    usual = _MANUAL_TOKENS if name == "manuals" else 0
    asking = AskOptions(
        options.base,
        options.device,
        max_tokens or usual,
        offline=options.offline,
        dtype=options.base_dtype,
    )
    progress = console.ProgressBar("measuring")
    measured = run_bench(draw, BenchOptions(name, options, asking, kept), progress=progress)
    report = make_report(measured)
    console.emit(report.to_json(), lambda: _show(report))
    if out is not None:
        write_report(report, out)


def _show(report: "BenchReport") -> None:
    """Print the facts of the run, scores and costs by arm, and the choice of parts."""
    from d2l_lab.bench.cases import CHUNKS
    from d2l_lab.questions import SHORT

    run = report.run
    facts = [(key, getattr(run, key)) for key in ("network", "base", "device", "dtype")]
    versions = ", ".join(f"{name} {known}" for name, known in run.versions.items() if known)
    console.show_rows([*facts, ("versions", versions)])
    console.result("")
    console.show_table(
        (*_ROW, "kind", "right", "F1", "NLL", "false answers", "false silences", "wrong phrases"),
        [
            (
                *_name_row(row),
                row.kind,
                row.scores.show("contained")
                if row.kind != SHORT
                else str(row.scores.recall or "–"),
                *(row.scores.show(score) for score in ("f1", "nll")),
                str(row.scores.false_answers or "–"),
                str(row.scores.false_silences or "–"),
                str(row.scores.wrong),
            )
            for row in report.rows
        ],
    )
    console.result("")
    of_all_kinds = {_name_row(row): row for row in report.rows}
    console.show_table(
        (*_ROW, "documents", "compile, s", "ask, s", "first token, s", "peak, GB", "asked, GB"),
        [
            (
                *names,
                f"{row.documents:,}",
                f"{row.compile_seconds:.2f}",
                f"{row.seconds:.2f}",
                _spell_wait(row),
                *map(_spell_bytes, (row.compile_peak_bytes, row.peak_bytes)),
            )
            for names, row in of_all_kinds.items()
        ],
    )
    _show_chunks([row for row in report.rows if row.set == CHUNKS])
    if report.routing:
        console.result("")
        console.show_table(
            ("set", "right part first, by words", "in the first four", "right part answers"),
            [
                (row.set, str(row.first), str(row.four), str(row.answering))
                for row in report.routing
            ],
        )


def _show_chunks(rows: "Sequence[SummaryRow]") -> None:
    """Print which length of chunks recalls more, if two were tried."""
    if not rows:
        return
    shares = [row.scores.recall.share if row.scores.recall else 0.0 for row in rows]
    best = rows[shares.index(max(shares))]
    verdict = f"--chunk-tokens {best.length} recalls more of this text"
    console.result("")
    console.result(verdict if len(set(shares)) > 1 else "both lengths of chunks recall as much")


def _name_row(row: "SummaryRow") -> tuple[str, str, str]:
    """Spell the set, the length that was asked for, else the mean, and the arm."""
    from d2l_lab.bench.answers import NAMES

    length = row.tokens if row.length is None else row.length
    return row.set, f"{length:,.0f}", NAMES[row.scores.arm]


def _spell_wait(row: "SummaryRow") -> str:
    """Spell the mean and the median of the seconds to the first token."""
    if row.first_seconds is None or row.first_median is None:
        return "–"
    return f"{row.first_seconds:.2f} (median {row.first_median:.2f})"


def _spell_bytes(n: int | None) -> str:
    return "–" if n is None else f"{n / 1e9:.1f}"
