"""The `t2l` command line: task descriptions → adapters. Options in, one result or many out."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from d2l.commands import console
from d2l.commands import train as train_command
from d2l.commands.eval import evaluate
from d2l.commands.options import (
    AsJson,
    Base,
    CheckpointName,
    Debug,
    Device,
    DryRun,
    Force,
    Offline,
    Scaling,
    WrittenDtype,
    accepting,
    make_app,
    version_option,
)

if TYPE_CHECKING:
    from d2l.compiler.make import MakePlan, Maker, MakeResult, Outcome

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
    checkpoint: CheckpointName = "smollm2-135m-t2l",
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
    if (out is None) != (table is not None) or (out_dir is None) != (table is None):
        raise typer.BadParameter("-o goes with a description, --out-dir with --table")
    from d2l.adapters.peft_folder import refuse_adapter
    from d2l.compiler import make as pipeline
    from d2l.datasets.descriptions import check_description, read_stream, read_table

    options = pipeline.MakeOptions(
        checkpoint=checkpoint,
        base=base,
        embedder=embedder,
        device=device,
        scaling=scaling,
        dtype=dtype,
        offline=offline,
        force=force,
        strict=strict,
    )
    rows = read_table(table) if table is not None else []
    text = ""
    if description is not None and out is not None:
        if not dry_run:
            refuse_adapter(out, force=force)
        text = (
            read_stream(sys.stdin.buffer) if description == "-" else check_description(description)
        )
    plan = pipeline.prepare(options)
    for message in plan.warnings:
        console.warn(message)
    if dry_run:
        _show_plan(plan, n_adapters=len(rows) or 1, as_json=as_json)
        return
    maker = pipeline.load(plan)
    if out is not None:
        _show(maker.make(text, out), as_json=as_json)
    elif out_dir is not None:
        n_bad = _make_many(maker, rows, out_dir, as_json=as_json)
        if n_bad:
            console.note(f"{n_bad} of {len(rows)} rows were not made")
            raise typer.Exit(1)


t2l_app.command("eval", epilog="Example: t2l eval legal.lora tasks.jsonl")(evaluate)
t2l_app.command(
    epilog="Example: t2l train examples/recipes/tasks-cpu.toml --out runs/one",
    cls=accepting(train_command.RENAMED),
)(train_command.train)


def _make_many(maker: "Maker", rows: list[Any], folder: Path, *, as_json: bool) -> int:
    """Make every row behind one progress bar, a result line each; gives the number of bad rows."""
    from d2l.compiler.make import make_all

    n_bad = 0
    for row in console.watch(rows, "making"):
        for outcome in make_all(maker, [row], folder):
            n_bad += outcome.error is not None
            _show_outcome(outcome, as_json=as_json)
    return n_bad


def _show_outcome(outcome: "Outcome", *, as_json: bool) -> None:
    from d2l.datasets.descriptions import describe_error

    if outcome.result is not None:
        _warn_more(outcome.result, f"line {outcome.row.line}: ")
    if outcome.result is not None and as_json:
        values = _values(outcome.result)
        console.result_json({"line": outcome.row.line, "name": outcome.row.name, **values})
    elif outcome.result is not None:
        console.result(str(outcome.result.adapter))
    elif outcome.error is not None:
        message = describe_error(outcome.error)
        console.note(f"error: {message}")
        if as_json:
            console.result_json({"line": outcome.row.line, "error": message})


def _warn_more(result: "MakeResult", where: str = "") -> None:
    """Warnings of one description; those of the plan were shown before."""
    for message in result.warnings[len(result.plan.warnings) :]:
        console.warn(f"{where}{message}")


def _show(result: "MakeResult", *, as_json: bool) -> None:
    _warn_more(result)
    if as_json:
        console.result_json(_values(result))
        return
    network, sizes = _describe_plan(result.plan)
    rows = [
        str(result.adapter),
        *network,
        f"familiarity {_name_familiarity(result)}",
        *sizes,
        f"size        {result.size_bytes / 1e6:.2f} MB",
        f"time        {result.seconds:.1f} s past start-up",
    ]
    console.result("\n".join(rows))


def _describe_plan(plan: "MakePlan") -> tuple[list[str], list[str]]:
    """What makes the adapters, and what they will be, a fact a line."""
    network = [
        f"checkpoint  {plan.checkpoint.name} ({plan.config.kind})",
        f"base        {plan.config.base}",
        f"embedder    {plan.embedder_name}",
    ]
    sizes = [
        f"rank        {plan.config.rank}",
        f"scaling     {plan.options.scaling} ({plan.scale:g})",
    ]
    return network, sizes


def _show_plan(plan: "MakePlan", *, n_adapters: int, as_json: bool) -> None:
    """Print what would be made; no weights are loaded for it."""
    if as_json:
        values = _plan_values(plan) | {"n_adapters": n_adapters, "warnings": list(plan.warnings)}
        console.result_json(values)
        return
    network, sizes = _describe_plan(plan)
    console.result("\n".join([*network, *sizes, f"adapters    {n_adapters}"]))


def _plan_values(plan: "MakePlan") -> dict[str, Any]:
    return {
        "checkpoint": plan.checkpoint.name,
        "base": plan.config.base,
        "embedder": plan.embedder_name,
        "rank": plan.config.rank,
        "scaling": plan.options.scaling,
        "scale": plan.scale,
        "dtype": plan.options.dtype,
    }


def _name_familiarity(result: "MakeResult") -> str:
    return "unknown" if result.familiarity is None else f"{result.familiarity:.2f}"


def _values(result: "MakeResult") -> dict[str, Any]:
    plan = result.plan
    return {
        "adapter": str(result.adapter),
        "description": result.description,
        "checkpoint": plan.checkpoint.name,
        "base": plan.config.base,
        "embedder": plan.embedder_name,
        "familiarity": None if result.familiarity is None else round(result.familiarity, 4),
        "rank": plan.config.rank,
        "scaling": plan.options.scaling,
        "scale": plan.scale,
        "dtype": plan.options.dtype,
        "size_bytes": result.size_bytes,
        "seconds": round(result.seconds, 3),
        "warnings": list(result.warnings),
    }
