"""The command `t2l make`: task descriptions in, one adapter or many out."""

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import d2l
from d2l.adapters.info import read_info
from d2l.commands import console
from d2l.commands.compile_report import show_preflight
from d2l.commands.options import INPUT, OUTPUT, DryRun, Force, expert, in_panel, taking

if TYPE_CHECKING:
    from d2l.adapters.provenance import Description, ExamplesRecord, Provenance
    from d2l.batch.results import Result
    from d2l.batch.rows import BatchRow
    from d2l.datasets.descriptions import DescriptionRow
    from d2l.datasets.examples import ExampleFile
    from d2l.hypernets.network import AnyNetwork
    from d2l.hypernets.options import CompileOptions

#: Options of `CompileOptions` that descriptions are compiled with.
OPTIONS = ("checkpoint", "base", "embedder", "device", "offline", "scaling", "dtype", "strict")


@taking("d2l.hypernets.options:TaskCompileOptions", *OPTIONS)
def make(
    options: "CompileOptions",
    description: Annotated[
        str | None, typer.Argument(help="What the task is, in a sentence or two; - for stdin.")
    ] = None,
    out: Annotated[
        Path | None, in_panel(OUTPUT, "-o", "--out", help="Adapter folder to write.")
    ] = None,
    table: Annotated[
        Path | None,
        in_panel(
            INPUT, help="Make many: a file with a name, a tab and a description on every line."
        ),
    ] = None,
    out_dir: Annotated[
        Path | None, in_panel(OUTPUT, help="With --table: folder for the adapters, by their names.")
    ] = None,
    results: Annotated[
        Path | None,
        in_panel(
            OUTPUT, help="With --table: JSON lines of results; rows that are done are passed over."
        ),
    ] = None,
    examples: Annotated[
        Path | None,
        in_panel(INPUT, help="Solved examples to read, too: JSON lines, CSV or TSV."),
    ] = None,
    input_column: Annotated[
        str | None, expert(INPUT, help="Column of inputs; default: by its name.")
    ] = None,
    output_column: Annotated[
        str | None, expert(INPUT, help="Column of outputs; default: by its name.")
    ] = None,
    keep_examples: Annotated[
        bool, expert(OUTPUT, "--keep-examples", help="Keep those that are read in d2l.json.")
    ] = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Make adapters from task descriptions.

    With --examples also from solved examples, of which it reads a few.
    """
    if (description is None) == (table is None):
        raise typer.BadParameter("give a description, or a table with --table")
    if out is None and table is None and out_dir is None:
        raise typer.BadParameter("-o is missing: name the folder for the adapter")
    if (out is None) != (table is not None) or (out_dir is None) != (table is None):
        raise typer.BadParameter("-o goes with a description, --out-dir with --table")
    if results is not None and table is None:
        raise typer.BadParameter("--results goes with --table")
    if examples is None and (input_column or output_column or keep_examples):
        raise typer.BadParameter(
            "--input-column, --output-column and --keep-examples go with --examples"
        )
    if examples is not None and table is not None:
        raise typer.BadParameter("with --table, a third column names files of examples")
    from d2l.adapters.find import refuse_adapter
    from d2l.datasets.descriptions import check_description, read_stream, read_table

    rows = read_table(table) if table is not None else []
    text = ""
    if description is not None and out is not None:
        if not dry_run:
            refuse_adapter(out, force=force)
        text = (
            read_stream(console.open_stdin())
            if description == "-"
            else check_description(description)
        )
    given = None
    if examples is not None:
        from d2l.datasets.examples import Columns, read_examples

        given = read_examples(examples, Columns(input_column, output_column))
    show_preflight(options, dry_run=dry_run)
    compiler = d2l.TaskCompiler(options, need="plan" if dry_run else "weights")
    if out is None:
        plan = compiler.plan(_ANY)
    else:
        plan = compiler.plan(text, examples=given, keep_examples=keep_examples)
    for message in plan.warnings:
        console.warn(message)
    if dry_run:
        rank = plan.rank if out is not None else plan.network.description_rank
        _show_plan(compiler, rank, n_adapters=len(rows) or 1, given=given, record=plan.examples)
        return
    compiler.load(plan)
    if out is not None:
        start = time.perf_counter()
        compiler(plan).save_pretrained(out, force=force)
        made = _read(out, time.perf_counter() - start, start - console.STARTED)
        made.warn(len(plan.warnings))
        _show(compiler, made, given)
    elif out_dir is not None:
        many = _Many(compiler, len(plan.warnings), out_dir, force=force)
        n_bad = many.make(rows, results)
        if n_bad:
            console.note(f"{n_bad} of {len(rows)} rows were not made")
            raise typer.Exit(1)


#: What examples bring: examples/tasks/README.md has the figures.
_GAIN = (
    "examples    none: three (--examples FILE) raised the scores of 59 new tasks from .21 to .30"
)
#: Planned to check network and options before any row of a table is read.
_ANY = "Answer the question."


@dataclass(frozen=True)
class _Made:
    """An adapter that was written: what its d2l.json says, seconds, and those until it began."""

    adapter: Path
    provenance: "Provenance"
    size_bytes: int
    seconds: float
    start: float | None = None

    @property
    def description(self) -> "Description":
        """The description that it was made from."""
        assert self.provenance.description is not None
        return self.provenance.description

    def warn(self, n_shown: int, where: str = "") -> None:
        """Show the warnings of this description; the first `n_shown` were shown before."""
        for message in self.provenance.warnings[n_shown:]:
            console.warn(f"{where}{message}")


def _read(adapter: Path, seconds: float, start: float | None = None) -> _Made:
    info = read_info(adapter)
    assert info.provenance is not None
    return _Made(adapter, info.provenance, info.size_bytes, seconds, start)


@dataclass(frozen=True)
class _Many:
    """Makes the adapters of a table, a folder each, and goes on where a row cannot be used.

    `n_shown` warnings are shared by all rows, and were shown before.
    """

    compiler: "d2l.TaskCompiler"
    n_shown: int
    folder: Path
    force: bool

    def make(self, rows: "Sequence[DescriptionRow]", results: Path | None) -> int:
        """Make all adapters, note their results in a file if one is named, and print a line for
        each; return how many could not be made."""
        from d2l.batch.results import ResultsFile
        from d2l.batch.run import run_batch
        from d2l.batch.tasks import TaskWorker

        wanted = [_make_row(row) for row in rows]
        with contextlib.ExitStack() as stack:
            record = stack.enter_context(ResultsFile(results)) if results is not None else None
            worker = TaskWorker(
                self.compiler,
                self.folder,
                force=self.force,
                resumes=record is not None,
                known={} if record is None else record.rows,
            )
            made = run_batch(worker.do_all(wanted), wanted, record)
            # Results first: only their end settles the record.
            pairs = zip(made, console.watch(rows, "making"), strict=True)
            n_bad = sum(not self._show(row, result) for result, row in pairs)
        return n_bad

    def _show(self, row: "DescriptionRow", result: "Result") -> bool:
        """Print the result of a row; whether its adapter is there."""
        if result.error is not None:
            message = result.error["message"]
            if row.error is None:  # which names its line itself
                message = f"line {row.line}: {message}"
            console.note(f"error: {message}")
            if console.wants_json():
                console.result_json({"line": row.line, "error": message})
            return False
        made = _read(Path(result.out), result.seconds)
        made.warn(self.n_shown, f"line {row.line}: ")
        values = {"line": row.line, "name": row.name, **_values(self.compiler, made)}
        console.emit(values, result.out)
        return True


def _make_row(row: "DescriptionRow") -> "BatchRow":
    """A table's row as one of a batch."""
    from d2l.batch.rows import BatchRow

    error = None if row.error is None else row.error.describe()
    name = row.name or f"line {row.line}"
    return BatchRow(name, row.name, description=row.text, examples=row.examples, error=error)


def _show(compiler: "d2l.TaskCompiler", made: _Made, given: "ExampleFile | None") -> None:
    network, familiarity = compiler.network, made.description.familiarity
    rows = [
        str(made.adapter),
        *_describe_network(network),
        *(_describe_examples(made.description.examples, given) or _offer_examples(network)),
        f"familiarity {'unknown' if familiarity is None else f'{familiarity:.2f}'}",
        f"rank        {made.provenance.rank}",
        _describe_scale(compiler),
        f"size        {made.size_bytes / 1e6:.2f} MB",
        f"time        {console.describe_times(made.seconds, made.start)}",
    ]
    console.emit(_values(compiler, made), "\n".join(rows))


def _describe_network(network: "AnyNetwork") -> list[str]:
    return [
        f"checkpoint  {network.files.name} ({network.config.kind})",
        f"base        {network.config.base}",
        f"embedder    {network.embedder_name}",
    ]


def _describe_examples(record: "ExamplesRecord | None", given: "ExampleFile | None") -> list[str]:
    """Which examples were read, and of which columns."""
    if record is None or given is None:
        return []
    rows = ", ".join(map(str, record.rows))
    columns = " → ".join(given.columns)
    return [f"examples    rows {rows} of {record.n:,} ({columns})"]


def _offer_examples(network: "AnyNetwork") -> list[str]:
    return [_GAIN] if network.reads_examples else []


def _describe_scale(compiler: "d2l.TaskCompiler") -> str:
    options = compiler.options
    return f"scaling     {options.scaling} ({compiler.network.find_scale(options):g})"


def _show_plan(
    compiler: "d2l.TaskCompiler",
    rank: int | None,
    *,
    n_adapters: int,
    given: "ExampleFile | None",
    record: "ExamplesRecord | None",
) -> None:
    """Print what would be made; no weights are loaded for it."""
    network = compiler.network
    values = _common(compiler) | {
        "rank": rank,
        "n_adapters": n_adapters,
        "examples": None if record is None else record.to_json(),
        "warnings": list(network.warnings),
    }
    lines = [
        *_describe_network(network),
        *_describe_examples(record, given),
        f"rank        {'as the description needs' if rank is None else rank}",
        _describe_scale(compiler),
        f"adapters    {n_adapters}",
    ]
    console.emit(values, "\n".join(lines))


def _common(compiler: "d2l.TaskCompiler") -> dict[str, Any]:
    network, options = compiler.network, compiler.options
    return {
        "checkpoint": network.files.name,
        "base": network.config.base,
        "embedder": network.embedder_name,
        "scaling": options.scaling,
        "scale": network.find_scale(options),
        "dtype": options.dtype,
    }


def _values(compiler: "d2l.TaskCompiler", made: _Made) -> dict[str, Any]:
    return {
        "adapter": str(made.adapter),
        "description": made.description.text,
        **_common(compiler),
        "familiarity": made.description.familiarity,
        "examples": None
        if made.description.examples is None
        else made.description.examples.to_json(),
        "rank": made.provenance.rank,
        "size_bytes": made.size_bytes,
        "seconds": round(made.seconds, 3),
        "warnings": list(made.provenance.warnings),
    }
