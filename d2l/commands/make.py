"""The command `t2l make`: a task description in, an adapter out."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import d2l
from d2l.adapters.info import read_info
from d2l.commands import console
from d2l.commands.compile_report import show_preflight, warn
from d2l.commands.options import INPUT, OUTPUT, DryRun, Force, Strict, expert, in_panel, taking
from d2l.datasets.descriptions import CHANGES_MEANINGS, check_description, is_rewriting, read_stream

if TYPE_CHECKING:
    from d2l.compiler.plan import TaskPlan
    from d2l.datasets.examples import ExampleFile
    from d2l.files.hub import Need
    from d2l.hypernets.options import TaskCompileOptions


@taking("d2l.hypernets.options:TaskCompileOptions")
def make(
    options: "TaskCompileOptions",
    description: Annotated[
        str, typer.Argument(help="What the task is, in a sentence or two; - for stdin.")
    ],
    out: Annotated[Path | None, in_panel(OUTPUT, "-o", "--out", help="Folder to write.")] = None,
    examples: Annotated[
        Path | None, in_panel(INPUT, help="Solved examples to read, too: JSON lines, CSV or TSV.")
    ] = None,
    input_column: Annotated[
        str | None, expert(INPUT, help="Column of inputs; default: by its name.")
    ] = None,
    output_column: Annotated[
        str | None, expert(INPUT, help="Column of outputs; default: by its name.")
    ] = None,
    strict: Strict = False,
    dry_run: DryRun = False,
    force: Force = False,
) -> None:
    """Make an adapter from a task description.

    With --examples also from solved examples, of which it reads a few. `d2l batch` makes many.
    """
    if examples is None and (input_column or output_column):
        raise typer.BadParameter("--input-column and --output-column go with --examples")
    from d2l.adapters.adapter_paths import refuse_adapter

    if out is not None and not dry_run:
        refuse_adapter(out, force=force)
    elif not dry_run:
        raise typer.BadParameter("-o is missing: name the adapter's folder")
    text = (
        read_stream(console.open_stdin()) if description == "-" else check_description(description)
    )
    given = None
    if examples is not None:
        from d2l.datasets.examples import Columns, read_examples

        given = read_examples(examples, Columns(input_column, output_column))
    network = show_preflight(options, dry_run=dry_run).network
    need: Need = "plan" if dry_run else "weights"
    compiler = d2l.TaskCompiler(options, need=need, network=network)
    plan = compiler.plan(text, examples=given)
    warn(plan.warnings, strict=strict)
    values, rows = _describe(plan, given)
    if dry_run or out is None:
        console.emit(values, "\n".join(rows))
        return
    compiler.load(plan, watch=console.watch)
    start = time.perf_counter()
    compiler(plan).save_pretrained(out, force=force)
    seconds, size = time.perf_counter() - start, read_info(out).size_bytes
    values = {"adapter": str(out), "description": plan.description.text, **values}
    values |= {"size_bytes": size, "seconds": round(seconds, 3)}
    if plan.examples is None and plan.network.reads_examples:
        rows.insert(-2, _GAIN)
    rows = [
        str(out),
        *rows,
        f"size        {size / 1e6:.2f} MB",
        f"time        {console.describe_times(seconds, start - console.STARTED)}",
    ]
    if is_rewriting(plan.description.text):
        rows.append(f"meaning     {CHANGES_MEANINGS}")
    console.emit(values, "\n".join(rows))


#: What examples bring: examples/tasks/README.md has the figures.
_GAIN = (
    "examples    none: three (--examples FILE) raised the scores of 59 new tasks from .21 to .30"
)


def _describe(plan: "TaskPlan", given: "ExampleFile | None") -> tuple[dict[str, Any], list[str]]:
    """Describe a plan, as `--json` prints it and in lines, with the columns of examples."""
    network, task, record = plan.network, plan.task, plan.examples
    scale = 1.0 if plan.scale is None else plan.scale[0]  # of b @ a
    values = {
        "checkpoint": network.files.name,
        "base": network.config.base,
        "embedder": network.embedder_name,
        "scaling": task.scaling,
        "scale": scale,
        "dtype": task.dtype,
        "rank": plan.rank,
        "examples": None if record is None else record.to_json(),
        "warnings": list(plan.warnings),
    }
    rows = [
        f"checkpoint  {network.files.name} ({network.config.kind})",
        f"base        {network.config.base}",
        f"embedder    {network.embedder_name}",
    ]
    if record is not None and given is not None:
        numbers, columns = ", ".join(map(str, record.rows)), " → ".join(given.columns)
        rows.append(f"examples    rows {numbers} of {record.n:,} ({columns})")
    rows += [f"rank        {plan.rank}", f"scaling     {task.scaling} ({scale:g})"]
    return values, rows
