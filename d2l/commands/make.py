"""The `t2l` command line: task descriptions → adapters. Options in, one result or many out."""

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
from d2l.commands.eval import evaluate
from d2l.commands.options import (
    AsJson,
    Base,
    Debug,
    Device,
    DryRun,
    Force,
    Offline,
    Scaling,
    TextCheckpointName,
    WrittenDtype,
    accepting,
    make_app,
    version_option,
)
from d2l.commands.train import train
from d2l.hypernets.registry import DEFAULT_TEXT

if TYPE_CHECKING:
    from d2l.adapters.provenance import Description, Provenance
    from d2l.batch.results import Result
    from d2l.batch.rows import Row as BatchRow
    from d2l.compiler.make import MakePlan
    from d2l.datasets.descriptions import Row

t2l_app = make_app()


@t2l_app.callback()
def set_up(
    version: Annotated[bool, version_option("t2l")] = False,
    debug: Debug = False,
) -> None:
    """Make LoRA adapters from task descriptions, in one pass through a pretrained hypernetwork."""


@t2l_app.command(
    epilog='Example: t2l make "summarize legal contracts" -o legal.lora',
    cls=accepting({"--batch": "--table"}),
)
def make(
    description: Annotated[
        str | None, typer.Argument(help="What the task is, in a sentence or two; - for stdin.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Adapter folder to write.")
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(help="Make many: a file with a name, a tab and a description on every line."),
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option(help="With --table: folder for the adapters, by their names.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="With --table: JSON lines of results; rows that are done are passed over."
        ),
    ] = None,
    checkpoint: TextCheckpointName = DEFAULT_TEXT,
    scaling: Annotated[
        Scaling,
        typer.Option(help="standard: alpha / rank; config: what the checkpoint's files say."),
    ] = "standard",
    base: Base = None,
    embedder: Annotated[
        str | None, typer.Option(help="Where the embedder lies: folder or hub name.")
    ] = None,
    device: Device = "auto",
    dtype: WrittenDtype = "bf16",
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Refuse descriptions unlike those of training."),
    ] = False,
    dry_run: DryRun = False,
    force: Force = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Make an adapter from a task description, or many from a table."""
    if (description is None) == (table is None):
        raise typer.BadParameter("give a description, or a table with --table")
    if out is None and table is None and out_dir is None:
        raise typer.BadParameter("-o is missing: name the folder for the adapter")
    if (out is None) != (table is not None) or (out_dir is None) != (table is None):
        raise typer.BadParameter("-o goes with a description, --out-dir with --table")
    if results is not None and table is None:
        raise typer.BadParameter("--results goes with --table")
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
    compiler = d2l.TaskCompiler.from_pretrained(
        checkpoint, base=base, embedder=embedder, device=device, local_files_only=offline
    )
    plan = compiler.plan(scaling=scaling, strict=strict, dtype=dtype)
    for message in plan.warnings:
        console.warn(message)
    if out is not None:
        plan = plan.describing(text)
    if dry_run:
        _show_plan(plan, n_adapters=len(rows) or 1, as_json=as_json)
        return
    compiler.load(plan)
    if out is not None:
        start = time.perf_counter()
        compiler(plan).save_pretrained(out, force=force)
        _show(_read(plan, out, time.perf_counter() - start), as_json=as_json)
    elif out_dir is not None:
        many = _Many(compiler, plan, out_dir, force=force, as_json=as_json)
        n_bad = many.make(rows, results)
        if n_bad:
            console.note(f"{n_bad} of {len(rows)} rows were not made")
            raise typer.Exit(1)


t2l_app.command("eval", epilog="Example: t2l eval legal.lora tasks.jsonl")(evaluate)
t2l_app.command(epilog="Example: t2l train examples/recipes/seats-cpu.toml --out runs/one")(train)


@dataclass(frozen=True)
class _Made:
    """An adapter that was written: its plan, what its d2l.json says, and seconds past start-up."""

    plan: "MakePlan"
    adapter: Path
    provenance: "Provenance"
    size_bytes: int
    seconds: float

    @property
    def description(self) -> "Description":
        """What it was made from."""
        assert self.provenance.description is not None
        return self.provenance.description

    def warn(self, where: str = "") -> None:
        """Show the warnings of this description; those of the plan were shown before."""
        for message in self.provenance.warnings[len(self.plan.warnings) :]:
            console.warn(f"{where}{message}")


def _read(plan: "MakePlan", adapter: Path, seconds: float) -> _Made:
    info = read_info(adapter)
    assert info.provenance is not None
    return _Made(plan, adapter, info.provenance, info.size_bytes, seconds)


@dataclass(frozen=True)
class _Many:
    """Makes the adapters of a table, a folder each, and goes on where a row cannot be used."""

    compiler: "d2l.TaskCompiler"
    plan: "MakePlan"
    folder: Path
    force: bool
    as_json: bool

    def make(self, rows: "Sequence[Row]", results: Path | None) -> int:
        """Make all, as a batch that notes its results where that is wanted, and print a line for
        each; how many could not be made."""
        from d2l.batch.results import Record
        from d2l.batch.run import run_batch
        from d2l.batch.tasks import TaskWorker

        wanted = [_make_row(row) for row in rows]
        with contextlib.ExitStack() as stack:
            record = stack.enter_context(Record(results)) if results is not None else None
            worker = TaskWorker(
                self.compiler,
                self.plan,
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

    def _show(self, row: "Row", result: "Result") -> bool:
        """Print what became of a row; whether its adapter is there."""
        if result.error is not None:
            message = result.error["message"]
            if row.error is None:  # which names its line itself
                message = f"line {row.line}: {message}"
            console.note(f"error: {message}")
            if self.as_json:
                console.result_json({"line": row.line, "error": message})
            return False
        made = _read(self.plan, Path(result.out), result.seconds)
        made.warn(f"line {row.line}: ")
        values = {"line": row.line, "name": row.name, **_values(made)}
        console.emit(values, result.out, as_json=self.as_json)
        return True


def _make_row(row: "Row") -> "BatchRow":
    """A table's row as one of a batch."""
    from d2l.batch.rows import Row as BatchRow
    from d2l.datasets.descriptions import describe_error

    error = None if row.error is None else describe_error(row.error)
    return BatchRow(row.name or f"line {row.line}", row.name, description=row.text, error=error)


def _show(made: _Made, *, as_json: bool) -> None:
    made.warn()
    network, sizes = _describe_plan(made.plan)
    rows = [
        str(made.adapter),
        *network,
        f"familiarity {_name_familiarity(made)}",
        *sizes,
        f"size        {made.size_bytes / 1e6:.2f} MB",
        f"time        {made.seconds:.1f} s past start-up",
    ]
    console.emit(_values(made), "\n".join(rows), as_json=as_json)


def _describe_plan(plan: "MakePlan") -> tuple[list[str], list[str]]:
    """What makes the adapters, and what they will be, a fact a line."""
    network = [
        f"checkpoint  {plan.checkpoint.name} ({plan.config.kind})",
        f"base        {plan.config.base}",
        f"embedder    {plan.embedder_name}",
    ]
    # Of many descriptions, each may have seats of its own number.
    rank = "as the description needs" if plan.rank is None else f"{plan.rank}"
    sizes = [
        f"rank        {rank}",
        f"scaling     {plan.options.scaling} ({plan.scale:g})",
    ]
    return network, sizes


def _show_plan(plan: "MakePlan", *, n_adapters: int, as_json: bool) -> None:
    """Print what would be made; no weights are loaded for it."""
    values = _plan_values(plan) | {"n_adapters": n_adapters, "warnings": list(plan.warnings)}
    network, sizes = _describe_plan(plan)
    text = "\n".join([*network, *sizes, f"adapters    {n_adapters}"])
    console.emit(values, text, as_json=as_json)


def _plan_values(plan: "MakePlan") -> dict[str, Any]:
    return {
        "checkpoint": plan.checkpoint.name,
        "base": plan.config.base,
        "embedder": plan.embedder_name,
        "rank": plan.rank,
        "scaling": plan.options.scaling,
        "scale": plan.scale,
        "dtype": plan.options.dtype,
    }


def _name_familiarity(made: _Made) -> str:
    familiarity = made.description.familiarity
    return "unknown" if familiarity is None else f"{familiarity:.2f}"


def _values(made: _Made) -> dict[str, Any]:
    plan = made.plan
    return {
        "adapter": str(made.adapter),
        "description": made.description.text,
        "checkpoint": plan.checkpoint.name,
        "base": plan.config.base,
        "embedder": plan.embedder_name,
        "familiarity": made.description.familiarity,
        "rank": made.provenance.rank,
        "scaling": plan.options.scaling,
        "scale": plan.scale,
        "dtype": plan.options.dtype,
        "size_bytes": made.size_bytes,
        "seconds": round(made.seconds, 3),
        "warnings": list(made.provenance.warnings),
    }
