"""The command `t2l make`: a task description in, an adapter out."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import d2l
from d2l.adapters.info import read_info
from d2l.commands import console
from d2l.commands.compile_report import show_preflight
from d2l.commands.options import INPUT, OUTPUT, DryRun, Force, Strict, expert, in_panel, taking
from d2l.datasets.descriptions import CHANGES_MEANINGS, check_description, is_rewriting, read_stream

if TYPE_CHECKING:
    from d2l.adapters.provenance import ExamplesRecord
    from d2l.compiler.plan import TaskPlan
    from d2l.datasets.examples import ExampleFile
    from d2l.files.hub import Need
    from d2l.hypernets.network import AnyNetwork
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
    from d2l.documents.intake import refuse_warnings

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
    for message in plan.warnings:
        console.warn(message)
    if strict:
        refuse_warnings(plan.warnings)
    if dry_run or out is None:
        _show_plan(compiler, plan, given)
        return
    compiler.load(plan, watch=console.watch)
    start = time.perf_counter()
    adapter = compiler(plan)
    adapter.save_pretrained(out, force=force)
    _show(compiler, out, given, time.perf_counter() - start, start - console.STARTED)


#: What examples bring: examples/tasks/README.md has the figures.
_GAIN = (
    "examples    none: three (--examples FILE) raised the scores of 59 new tasks from .21 to .30"
)


def _show(
    compiler: "d2l.TaskCompiler",
    adapter: Path,
    given: "ExampleFile | None",
    seconds: float,
    before: float,
) -> None:
    """Print the adapter that was written; making took `seconds`, and began `before` seconds in."""
    info, network = read_info(adapter), compiler.network
    assert info.provenance is not None
    description = info.provenance.description
    assert description is not None
    record = description.examples
    values = {
        "adapter": str(adapter),
        "description": description.text,
        **_common(compiler),
        "examples": None if record is None else record.to_json(),
        "rank": info.provenance.rank,
        "size_bytes": info.size_bytes,
        "seconds": round(seconds, 3),
        "warnings": list(info.provenance.warnings),
    }
    rows = [
        str(adapter),
        *_describe_network(network),
        *(_describe_examples(record, given) or [_GAIN] * network.reads_examples),
        f"rank        {info.provenance.rank}",
        _describe_scale(compiler),
        f"size        {info.size_bytes / 1e6:.2f} MB",
        f"time        {console.describe_times(seconds, before)}",
    ]
    if is_rewriting(description.text):
        rows.append(f"meaning     {CHANGES_MEANINGS}")
    console.emit(values, "\n".join(rows))


def _describe_network(network: "AnyNetwork") -> list[str]:
    return [
        f"checkpoint  {network.files.name} ({network.config.kind})",
        f"base        {network.config.base}",
        f"embedder    {network.embedder_name}",
    ]


def _describe_examples(record: "ExamplesRecord | None", given: "ExampleFile | None") -> list[str]:
    """Describe the examples that were read, and their columns."""
    if record is None or given is None:
        return []
    rows = ", ".join(map(str, record.rows))
    columns = " → ".join(given.columns)
    return [f"examples    rows {rows} of {record.n:,} ({columns})"]


def _describe_scale(compiler: "d2l.TaskCompiler") -> str:
    return f"scaling     {compiler.options.scaling} ({_find_scale(compiler):g})"


def _find_scale(compiler: "d2l.TaskCompiler") -> float:
    """Factor of b @ a, 1 where the network has no choice."""
    scale = compiler.network.explain_scale(compiler.options.scaling)
    return 1.0 if scale is None else scale[0]


def _show_plan(compiler: "d2l.TaskCompiler", plan: "TaskPlan", given: "ExampleFile | None") -> None:
    """Print the plan; no weights are loaded for it."""
    values = _common(compiler) | {
        "rank": plan.rank,
        "examples": None if plan.examples is None else plan.examples.to_json(),
        "warnings": list(plan.warnings),
    }
    lines = [
        *_describe_network(compiler.network),
        *_describe_examples(plan.examples, given),
        f"rank        {plan.rank}",
        _describe_scale(compiler),
    ]
    console.emit(values, "\n".join(lines))


def _common(compiler: "d2l.TaskCompiler") -> dict[str, Any]:
    network, options = compiler.network, compiler.options
    return {
        "checkpoint": network.files.name,
        "base": network.config.base,
        "embedder": network.embedder_name,
        "scaling": options.scaling,
        "scale": _find_scale(compiler),
        "dtype": options.dtype,
    }
