"""The command lines of `d2l` and `t2l`: parse options, call a pipeline, choose the exit code.

Exit 0 done, 1 something the user can fix, 2 wrong usage, 130 interrupted. Pipelines are imported
inside the commands, so that help starts without torch.
"""

import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from d2l.commands import console
from d2l.commands.change_commands import diff, edit, merge
from d2l.commands.check import check
from d2l.commands.export import export, export_beside, refuse_beside
from d2l.commands.make import t2l_app
from d2l.commands.options import (
    AdapterPath,
    AsJson,
    Base,
    CheckpointName,
    Debug,
    Device,
    Force,
    Format,
    Merge,
    Offline,
    Out,
    Targets,
    WrittenDtype,
    make_app,
    version_option,
)
from d2l.commands.probe import probe
from d2l.commands.train import train
from d2l.errors import D2LError

_INTERRUPTED = 128 + signal.SIGINT

app = make_app()
checkpoints_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="List, show and convert checkpoints."
)
app.add_typer(checkpoints_app, name="checkpoints")


def main() -> None:
    """Run the `d2l` command line."""
    _run(app, "d2l")


def t2l() -> None:
    """Run the `t2l` command line."""
    _run(t2l_app, "t2l")


def _run(commands: typer.Typer, name: str) -> None:
    """Run a command line; the only place where errors become exit codes."""
    signal.signal(signal.SIGTERM, _stop)  # so that nothing half-written stays behind
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        commands(prog_name=name)
    except D2LError as error:
        if "--debug" in sys.argv:
            raise
        console.show_error(error)
        sys.exit(1)
    except KeyboardInterrupt:  # Typer turns most of these into exit code 130, but not all
        _leave(_INTERRUPTED)
    except SystemExit as stopped:
        if stopped.code != _INTERRUPTED:
            raise
        _leave(_INTERRUPTED)


def _leave(code: int) -> None:
    """End now, everything being tidied up. At its regular end Python would kill itself with SIGINT
    if the interruption had passed through an exec(): callers that are no shell would see -2."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _stop(number: int, _frame: object) -> None:
    raise SystemExit(128 + number)


@app.callback()
def set_up(
    version: Annotated[bool, version_option("d2l")] = False,
    debug: Debug = False,
) -> None:
    """Compile documents into LoRA adapters, in one pass through a pretrained hypernetwork."""


@app.command(
    "compile",
    epilog="Example: d2l compile manual.pdf -o manual.lora",
)
def compile_command(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, or - for stdin.")],
    out: Out,
    checkpoint: CheckpointName = "smollm2-135m",
    base: Base = None,
    device: Device = "auto",
    merge: Annotated[Merge, typer.Option(help="How chunks become one adapter.")] = "concat",
    max_rank: Annotated[int | None, typer.Option(min=1, help="Bound the adapter's rank.")] = None,
    scale: Annotated[float, typer.Option(help="Strength of the document's part.")] = 1.0,
    bias_scale: Annotated[float, typer.Option(help="Strength of the learned bias.")] = 1.0,
    chunk_tokens: Annotated[
        int | None, typer.Option(min=1, help="Chunk limit; default: the checkpoint's own.")
    ] = None,
    tokens_per_seat: Annotated[
        int | None,
        typer.Option(
            min=1, help="Seat networks: fewer recall more, and disturb other answers more."
        ),
    ] = None,
    dtype: WrittenDtype = "bf16",
    to: Targets = None,
    format: Annotated[Format | None, typer.Option(help="Read inputs as this format.")] = None,
    encoding: Annotated[str | None, typer.Option(help="Read text in this encoding.")] = None,
    password: Annotated[str | None, typer.Option(help="Password of encrypted PDFs.")] = None,
    max_bytes: Annotated[int | None, typer.Option(min=1, help="Largest input file.")] = None,
    max_chars: Annotated[int | None, typer.Option(min=1, help="Most text in a file.")] = None,
    parse_seconds: Annotated[
        float | None, typer.Option(min=0.1, help="Time limit of a parser.")
    ] = None,
    parse_memory: Annotated[
        int | None, typer.Option(min=1, help="Memory limit of a parser, in MB.")
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Go on without inputs that cannot be read.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan; load no weights.")
    ] = False,
    force: Force = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Compile documents into one adapter."""
    from d2l.adapters.peft_folder import refuse_adapter
    from d2l.commands import reports
    from d2l.compiler import compile as pipeline
    from d2l.documents.intake import ReadOptions, make_limits, read_inputs
    from d2l.hypernets.protocol import MergeOptions

    reading = ReadOptions(
        format=format,
        encoding=encoding,
        password=password,
        skip_bad=skip_bad,
        limits=make_limits(
            max_bytes=max_bytes,
            max_chars=max_chars,
            seconds=parse_seconds,
            memory_mb=parse_memory,
        ),
    )
    options = pipeline.CompileOptions(
        checkpoint=checkpoint,
        base=base,
        device=device,
        merge=MergeOptions(merge, scale, bias_scale),
        max_rank=max_rank,
        chunk_tokens=chunk_tokens,
        tokens_per_seat=tokens_per_seat,
        dtype=dtype,
        offline=offline,
        force=force,
    )
    if not dry_run:
        refuse_adapter(out, force=force)
        refuse_beside(out, to, force=force)
    with console.Steps("reading") as progress:
        intake = read_inputs(inputs, reading, progress)
    plan = pipeline.prepare(intake.documents, options)
    for message in (*reports.remarks(intake), *plan.warnings):
        console.warn(message)
    if dry_run:
        report = reports.report_plan(plan, options, intake)
    else:
        done = pipeline.run(plan, out, options=options, watch=console.watch, skipped=intake.skipped)
        report = reports.report_run(done, intake)
        exports = export_beside(out, to, base=base, offline=offline, force=force)
        report = reports.add_exports(report, exports)
    if as_json:
        console.result_json(report.values)
    else:
        console.result(report.text)


@app.command(epilog='Example: d2l ask manual.lora "How often is the filter rinsed?"')
def ask(
    adapter: AdapterPath,
    question: Annotated[
        str | None, typer.Argument(help="Without one, questions are read from stdin, one a line.")
    ] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Show the base's answer beside it.")
    ] = False,
    document: Annotated[
        str | None, typer.Option(help="Compare with this document in the base's prompt, too.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    temperature: Annotated[float, typer.Option(min=0, help="0 is greedy.")] = 0.0,
    base: Base = None,
    device: Device = "auto",
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Answer questions with the base and an adapter."""
    from d2l.commands.conversation import ask_all, find_document, read_questions
    from d2l.inference.adapted_model import AskOptions, load_asker

    questions = read_questions(question, sys.stdin)
    compare = compare or document is not None
    text = find_document(adapter, document) if compare else None
    asker = load_asker(adapter, AskOptions(base, device, max_tokens, temperature, offline))
    ask_all(asker, questions, document=text, compare=compare, as_json=as_json)


@app.command(epilog="Example: d2l inspect manual.lora")
def inspect(adapter: AdapterPath, as_json: AsJson = False) -> None:
    """Show where an adapter came from, its rank and size, and its norms."""
    from d2l.commands import inspection, views

    view = inspection.inspect_adapter(adapter)
    if as_json:
        console.result_json(view.values)
    else:
        views.show_adapter(view)


app.command(epilog="Example: d2l check manual.lora --runtime vllm --max-lora-rank 64")(check)
app.command(epilog="Example: d2l export manual.lora --to gguf -o manual.gguf")(export)
app.command(epilog="Example: d2l merge a.lora b.lora -o both.lora --weights 1,0.5")(merge)
app.command(epilog="Example: d2l edit manual.lora --drop 'manual.pdf:p. 12-14' -o new.lora")(edit)
app.command(epilog="Example: d2l diff old.lora new.lora")(diff)
app.command(epilog="Example: d2l probe manual.lora --qa questions.jsonl")(probe)


app.command(epilog="Example: d2l train examples/recipes/seats-cpu.toml --out runs/one")(train)


@checkpoints_app.command("ls", epilog="Example: d2l checkpoints ls")
def list_checkpoints(as_json: AsJson = False) -> None:
    """List the checkpoints that have a short name."""
    from d2l.commands import inspection, views

    rows = inspection.list_checkpoints()
    if as_json:
        console.result_json({"checkpoints": rows})
    else:
        views.show_checkpoints(rows)


@checkpoints_app.command("show", epilog="Example: d2l checkpoints show smollm2-135m")
def show_checkpoint(
    name: Annotated[str, typer.Argument(help="Alias, folder, file or hub name.")],
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Show a checkpoint's configuration."""
    from d2l.commands import inspection, views

    values = inspection.describe_checkpoint(name, offline=offline)
    if as_json:
        console.result_json(values)
    else:
        views.show_checkpoint(values)


@checkpoints_app.command(
    "convert", epilog="Example: d2l checkpoints convert gemma_demo/ gemma-demo-native/"
)
def convert_checkpoint(
    source: Annotated[str, typer.Argument(help="A released checkpoint.")],
    target: Annotated[Path, typer.Argument(help="Folder to write.")],
    force: Force = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Convert a released checkpoint to a folder with config.json and model.safetensors."""
    from d2l.hypernets.checkpoints import convert
    from d2l.hypernets.registry import find_checkpoint

    written = convert(find_checkpoint(source, offline=offline).path, target, force=force)
    if as_json:
        console.result_json({"checkpoint": str(written)})
    else:
        console.result(str(written))


@checkpoints_app.command(
    "export", epilog="Example: d2l checkpoints export runs/one -o my-network --compact"
)
def export_checkpoint(
    run: Annotated[Path, typer.Argument(help="Folder of a run of d2l train.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Checkpoint folder to write.")],
    compact: Annotated[
        bool, typer.Option("--compact", help="Store matrices as 8-bit rows: a quarter of the size.")
    ] = False,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Write the network of a run as a checkpoint folder with a card."""
    from d2l.training.run_export import export_run

    written = export_run(run, out, compact=compact, force=force)
    if as_json:
        console.result_json({"checkpoint": str(written)})
    else:
        console.result(str(written))


@checkpoints_app.command(
    "widen",
    epilog="Example: d2l checkpoints widen net -o wide --seats 300 --data a.jsonl",
)
def widen_checkpoint(
    name: Annotated[str, typer.Argument(help="Alias, folder or hub name of a seat network.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Checkpoint folder to write.")],
    seats: Annotated[int, typer.Option(min=1, help="Most seats of an adapter.")],
    data: Annotated[Path, typer.Option(help="Texts to choose with: JSON lines of doc.")],
    seed: Annotated[int, typer.Option(help="Of all that is drawn by chance.")] = 0,
    base: Base = None,
    force: Force = False,
    offline: Offline = False,
    as_json: AsJson = False,
) -> None:
    """Give a seat network's opening more words, so that it can be trained with more seats."""
    from d2l.training.seats.opening_words import Trials
    from d2l.training.seats.widen import WidenOptions, widen

    with console.Steps("choosing words") as steps:
        options = WidenOptions(name, seats, data, base, offline)
        widen(options, out, force=force, trials=Trials(seed=seed, progress=steps))
    if as_json:
        console.result_json({"checkpoint": str(out)})
    else:
        console.result(str(out))
