"""`d2l bench`: benchmarks of a network in the arms of `d2l probe`, with seconds and memory."""

import functools
import inspect
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands.options import INPUT, LIMITS, OUTPUT, expert, in_panel, set_parameters, taking
from d2l.commands.probe import WholeArm

if TYPE_CHECKING:
    from d2l.hypernets.options import CompileOptions

    #: Options of a benchmark and what shows its progress, to its rows.
    Run = Callable[..., list[dict[str, Any]]]

Length = Annotated[
    list[int] | None,
    expert(INPUT, min=1, help="Join texts to so many tokens; default: as they are."),
]
Limit = Annotated[int, in_panel(LIMITS, min=1, help="Most questions for each size.")]
Seed = Annotated[int, expert(INPUT, help="Seed of what is drawn.")]
_SHARED = ("checkpoint", "base", "device", "offline", "chunk_tokens", "encoder")
#: Columns of the table: a key of the report's rows, its name for people, and its form. Those that
#: no row has are left out.
_COLUMNS = (
    ("document", "document", ""),
    ("variant", "variant", ""),
    ("entries", "names", ",d"),
    ("bin", "tokens", ""),
    ("arm", "arm", ""),
    ("n", "n", ",d"),
    ("contained", "right", ".2f"),
    ("f1", "F1", ".2f"),
    ("relative", "of prompt", ".2f"),
    ("kl", "KL", ".2f"),
    ("unchanged", "unchanged", ".1%"),
    ("held_per_megabyte", "held/MB", ".2f"),
    ("tokens_per_megabyte", "tokens/MB", ".1f"),
    ("compile_seconds", "compile, s", ".2f"),
    ("seconds", "ask, s", ".2f"),
    ("compile_peak_bytes", "peak, GB", ".1f"),
    ("compile_extra_bytes", "on top, GB", ".1f"),
    ("peak_bytes", "asked, GB", ".1f"),
)


@taking("d2l.hypernets.options:CompileOptions", *_SHARED)
def _measure(
    name: str,
    run: "Run",
    options: "CompileOptions",
    arm: Annotated[
        list[WholeArm] | None, typer.Option(help="Ask this arm; default: all but right.")
    ] = None,
    published: Annotated[
        bool, expert("Options", "--published", help="Ask in the public evaluation's prompt.")
    ] = False,
    max_tokens: Annotated[
        int | None,
        in_panel(LIMITS, min=1, help="Longest answer; default: 64, or 256 without seats."),
    ] = None,
    rows: Annotated[
        Path | None, in_panel(OUTPUT, help="Keep each document's row here; another run goes on.")
    ] = None,
    out: Annotated[
        Path | None, in_panel(OUTPUT, "-o", "--out", help="Write the report as JSON.")
    ] = None,
    plot: Annotated[Path | None, in_panel(OUTPUT, help="Draw it: .svg, .png or .pdf.")] = None,
) -> None:
    """Run a benchmark, and print the report."""
    from d2l.evaluation.bench.report import draw_bench, make_report, refuse_report, write_report
    from d2l.evaluation.bench.run import BenchOptions
    from d2l.files.plots import check_picture, load_figure
    from d2l.inference.adapted_model import AskOptions
    from d2l.inference.parts.choose import PartOptions

    if out is not None:  # refused before the work, not after it
        refuse_report(out)
    if plot is not None:
        check_picture(plot)
        load_figure()
    asking = AskOptions(
        options.base,
        options.device,
        max_tokens or 0,
        offline=options.offline,
        parts=PartOptions(whole=published),  # the published networks have one adapter for all
        published=published,
    )
    usual = [name for name in WholeArm if name is not WholeArm.RIGHT]
    arms = tuple(dict.fromkeys(name.value for name in arm or usual))
    with console.ProgressBar("measuring") as progress:
        measured = run(BenchOptions(name, options, asking, arms, rows), progress=progress)
    report = make_report(name, measured)
    console.emit(report, lambda: _show(report, measured))
    if out is not None:
        write_report(report, out)
    if plot is not None:
        draw_bench(report, plot)


def _benchmark(function: Callable[..., "Run"], without: Sequence[str] = ()) -> Callable[..., None]:
    """Make a command of a function that gives what is run: it takes `_measure`'s options, too."""
    own = inspect.signature(function).parameters
    shared = dict(inspect.signature(_measure).parameters)
    for name in ("name", "run", *without):
        del shared[name]

    @functools.wraps(function)
    def command(**values: Any) -> None:
        run = function(**{name: values[name] for name in own})
        _measure(name=function.__name__, run=run, **{name: values[name] for name in shared})

    set_parameters(command, list((shared | own).values()))
    return command


@_benchmark
def niah(
    most: Annotated[
        int, in_panel(LIMITS, min=128, max=131_072, help="Tokens of the longest documents.")
    ] = 1_024,
    fewest: Annotated[int, expert(LIMITS, help="Tokens of the shortest documents.")] = 32,
    depths: Annotated[int, in_panel(LIMITS, min=1, max=10, help="Depths, of ten.")] = 10,
    count: Annotated[int, in_panel(LIMITS, min=1, help="Documents of a length and depth.")] = 1,
    seed: Seed = 1,
) -> "Run":
    """Find a number in noise, by length and depth."""
    from d2l.evaluation.bench.cases import draw_needles
    from d2l.evaluation.bench.run import run_cases

    sizes: dict[str, Any] = {"fewest": fewest, "most": most, "depths": depths, "count": count}
    return partial(run_cases, partial(draw_needles, **sizes, seed=seed))


@_benchmark
def squad(
    questions: Annotated[
        Path, typer.Argument(help="JSON lines of doc, question, answers, as probe --set takes.")
    ],
    length: Length = None,
    limit: Limit = 30,
) -> "Run":
    """Ask about texts by length; F1 relative to the prompt's."""
    from d2l.evaluation.bench.cases import draw_texts
    from d2l.evaluation.bench.run import run_cases

    drawn = partial(draw_texts, path=questions, lengths=length or (), limit=limit)
    return partial(run_cases, drawn)


@_benchmark
def phonebook(
    entries: Annotated[
        list[int] | None, in_panel(LIMITS, min=1, help="Names; default: 8, 16, 32, 64, 128.")
    ] = None,
    limit: Limit = 20,
    seed: Seed = 1,
) -> "Run":
    """Count the numbers that a megabyte of adapter holds."""
    from d2l.evaluation.bench.cases import draw_phonebooks
    from d2l.evaluation.bench.run import run_cases

    sizes = entries or (8, 16, 32, 64, 128)
    return partial(run_cases, partial(draw_phonebooks, entries=sizes, limit=limit, seed=seed))


@_benchmark
def harm(
    inputs: Annotated[list[str], typer.Argument(help="Documents: each gets an adapter.")],
    limit: Annotated[int, in_panel(LIMITS, min=1, help="General prompts, of 200.")] = 24,
) -> "Run":
    """Measure how adapters of documents move other answers."""
    from d2l.evaluation.bench.cases import take_documents
    from d2l.evaluation.bench.run import measure_harms, run_cases

    taken = partial(take_documents, inputs=inputs, limit=limit)
    return partial(run_cases, taken, measure=measure_harms())


@partial(_benchmark, without=("plot",))
def check(
    checkpoint: Annotated[str, typer.Argument(help="Network: its name, folder or file.")],
    questions: Annotated[
        Path | None, in_panel(INPUT, "--set", help="Ask these in precisions and chunk lengths.")
    ] = None,
    length: Length = None,
    limit: Limit = 30,
) -> "Run":
    """Try a network on this machine: ten questions on a page."""
    from d2l.evaluation.bench.check import check_network

    del checkpoint  # `_measure` opens it
    return partial(check_network, questions=questions, lengths=length or (), limit=limit)


def _show(report: dict[str, Any], measured: Sequence[dict[str, Any]]) -> None:
    """Print facts, a row for each size and arm, and what others report."""
    from d2l.evaluation.bench.report import sum_up
    from d2l.evaluation.recall.report import ARMS

    facts = [(key, report[key]) for key in ("network", "base", "device", "dtype")]
    versions = ", ".join(f"{name} {known}" for name, known in report["versions"].items() if known)
    console.show_rows([*facts, ("versions", versions)])
    console.result("")
    rows = [
        row | {"arm": ARMS[row["arm"]], "bin": _name_bin(row)}
        for row in sum_up(measured, leave_out="depth")
    ]
    columns = [column for column in _COLUMNS if any(row.get(column[0]) is not None for row in rows)]
    console.show_table(
        [name for _, name, _ in columns],
        [[_spell(row.get(key), key, form) for key, _, form in columns] for row in rows],
    )
    for other in report["others"]:
        told = f"{other['figure']} ({other['source']})"
        console.result(f"\nothers' figures, not measured here: {told}")


def _name_bin(row: dict[str, Any]) -> str:
    return f"{row['from']:,}–{row['to']:,}" if "from" in row else f"{row['tokens']:,.0f}"


def _spell(value: Any, key: str, form: str) -> str:
    if value is None:
        return "–"
    return f"{value / 1e9 if key.endswith('_bytes') else value:{form}}"
