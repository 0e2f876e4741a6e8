"""The command lines of `d2l` and `t2l`: which commands there are, and the exit code.

Exit 0 done, 1 something the user can fix, 2 wrong usage, 130 interrupted. Pipelines are imported
inside the commands, so that help starts without torch.
"""

import contextlib
import os
import signal
import sys
from typing import Annotated

import typer

from d2l import interrupts
from d2l.commands import bases, cache, console, streams
from d2l.commands import probe as probe_command
from d2l.commands.ask import ask
from d2l.commands.batch import batch
from d2l.commands.calibrate import calibrate
from d2l.commands.check import check
from d2l.commands.checkpoints import checkpoints_app
from d2l.commands.compile import compile_command
from d2l.commands.diff import diff
from d2l.commands.edit import edit
from d2l.commands.export import export
from d2l.commands.inspect import inspect
from d2l.commands.ls import list_adapters
from d2l.commands.make import t2l_app
from d2l.commands.merge import merge
from d2l.commands.options import (
    Debug,
    make_app,
    make_command,
    split_short,
    version_option,
)
from d2l.commands.refine import refine
from d2l.commands.serve import serve
from d2l.commands.train import train
from d2l.errors import D2LError

_INTERRUPTED = 128 + signal.SIGINT

app = make_app()
app.add_typer(checkpoints_app, name="checkpoints")
app.add_typer(bases.app, name="bases", help="Base models: which are here, and getting them.")
app.add_typer(cache.app, name="cache", help="What was made before and is kept: see and bound it.")


def main() -> None:
    """Run the `d2l` command line."""
    _run(app, "d2l")


def t2l() -> None:
    """Run the `t2l` command line."""
    _run(t2l_app, "t2l")


def _run(commands: typer.Typer, name: str) -> None:
    with interrupts.listening():  # so that nothing half-written stays behind
        _run_and_exit(commands, name)


def _run_and_exit(commands: typer.Typer, name: str) -> None:
    """Run a command line; the only place where errors become exit codes."""
    console.set_level(console.Level.USUAL)
    streams.prepare()
    console.listen()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        _call(commands, name)
    except D2LError as error:
        _leave_if_interrupted()  # an import that was interrupted looks like one that failed
        if "--debug" in sys.argv:
            raise
        console.show_error(error)
        sys.exit(1)
    except KeyboardInterrupt:  # Typer turns most of these into exit code 130, but not all
        _leave(_INTERRUPTED)
    except SystemExit as stopped:
        _leave_if_interrupted()
        if stopped.code != _INTERRUPTED:
            raise
        _leave(_INTERRUPTED)
    except Exception:  # which may be what became of an interruption
        _leave_if_interrupted()
        raise


def _call(commands: typer.Typer, name: str) -> None:
    """Run the command that the arguments name, and have its output written."""
    try:
        make_command(commands)(args=split_short(sys.argv[1:]), prog_name=name)
    except SystemExit as stopped:
        if stopped.code in (0, None):
            streams.flush()
        raise
    except OSError as error:
        streams.explain_loss(error)  # help is printed by Typer itself
        raise


def _leave_if_interrupted() -> None:
    """End now if a signal asked for it, whatever became of what its handler raised."""
    number = interrupts.noted()
    if number is not None:
        _leave(128 + number)


def _leave(code: int) -> None:
    """End now, everything being tidied up. At its regular end Python would kill itself with SIGINT
    if the interruption had passed through an exec(): callers that are no shell would see -2."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):  # full, or closed
            stream.flush()
    os._exit(code)


@app.callback()
def set_up(
    version: Annotated[bool, version_option("d2l")] = False,
    debug: Debug = False,
) -> None:
    """Compile documents into LoRA adapters, in one pass through a pretrained hypernetwork."""


app.command("compile", epilog="Example: d2l compile manual.pdf -o manual.lora")(compile_command)
app.command(epilog="Example: d2l batch docs/ --out-dir adapters/")(batch)
app.command(epilog='Example: d2l ask manual.lora "How often is the filter rinsed?"')(ask)
app.command("ls", epilog="Example: d2l ls adapters/")(list_adapters)
app.command(epilog="Example: d2l serve adapters/ --port 8080")(serve)
app.command(epilog="Example: d2l inspect manual.lora")(inspect)
app.command(epilog="Example: d2l check manual.lora --runtime vllm --max-lora-rank 64")(check)
app.command(epilog="Example: d2l export manual.lora --to gguf -o manual.gguf")(export)
app.command(epilog="Example: d2l merge a.lora b.lora -o both.lora --weight 1 --weight 0.5")(merge)
app.command(epilog="Example: d2l edit manual.lora --drop 'manual.pdf:p. 12-14' -o new.lora")(edit)
app.command(epilog="Example: d2l refine manual.lora -o better.lora --refine 5m")(refine)
app.command(epilog="Example: d2l diff old.lora new.lora")(diff)
app.command(epilog="Example: d2l probe manual.lora --qa questions.jsonl")(probe_command.probe)
app.command(epilog="Example: d2l calibrate --base ./my-base")(calibrate)
app.command(epilog="Example: d2l train examples/recipes/seats-cpu.toml --out runs/one")(train)
