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
from d2l.commands import console, streams
from d2l.commands.options import (
    Debug,
    Groups,
    Row,
    make_app,
    make_command,
    split_short,
    version_option,
)
from d2l.errors import D2LError

_INTERRUPTED = 128 + signal.SIGINT

COMMANDS: Groups = {
    "Make adapters": [
        Row(
            "compile",
            "compile:compile_command",
            "Compile documents into one adapter, or with --each into one each.",
            "d2l compile manual.pdf -o manual.lora",
        ),
        Row(
            "batch",
            "batch:batch",
            "Compile many documents, an adapter each; run again, it goes on.",
            "d2l batch docs/ --out-dir adapters/",
        ),
        Row(
            "merge",
            "merge:merge",
            "Merge adapters of one base into one.",
            "d2l merge a.lora b.lora -o both.lora --weight 1 --weight 0.5",
        ),
        Row(
            "edit",
            "edit:edit",
            "Drop, keep or rescale chunks of an adapter.",
            "d2l edit manual.lora --drop 'manual.pdf:p. 12-14' -o new.lora",
        ),
        Row(
            "refine",
            "refine:refine",
            "Correct an adapter on its own document.",
            "d2l refine manual.lora -o better.lora --refine 5m",
        ),
    ],
    "Use adapters": [
        Row(
            "ask",
            "ask:ask",
            "Ask an adapter questions.",
            'd2l ask manual.lora "How often is the filter rinsed?"',
        ),
        Row(
            "serve",
            "serve:serve",
            "Answer over HTTP, as OpenAI's interface does.",
            "d2l serve adapters/ --port 8080",
        ),
        Row(
            "check",
            "check:check",
            "Say which runtimes load an adapter, and how.",
            "d2l check manual.lora --runtime vllm --max-lora-rank 64",
        ),
        Row(
            "export",
            "export:export",
            "Write an adapter for another runtime.",
            "d2l export manual.lora --to gguf -o manual.gguf",
        ),
    ],
    "Look at adapters": [
        Row("ls", "ls:list_adapters", "List the adapters in a folder.", "d2l ls adapters/"),
        Row(
            "inspect",
            "inspect:inspect",
            "Show what is in an adapter, and where it came from.",
            "d2l inspect manual.lora",
        ),
        Row(
            "diff",
            "diff:diff",
            "Show how two adapters differ.",
            "d2l diff old.lora new.lora",
        ),
        Row(
            "probe",
            "probe:probe",
            "Measure what an adapter recalls, and what it disturbs.",
            "d2l probe manual.lora --qa questions.jsonl",
        ),
    ],
    "Networks and bases": [
        Row(
            "bases",
            "bases:app",
            "Base models: list them, get them.",
        ),
        Row(
            "checkpoints",
            "checkpoints:checkpoints_app",
            "Hypernetworks: list them, make and convert them.",
        ),
        Row("cache", "cache:app", "The cache: look at it, bound it, empty it."),
        Row(
            "calibrate",
            "calibrate:calibrate",
            "Fit a seat network to other files of its base.",
            "d2l calibrate --base ./my-base",
        ),
        Row(
            "train",
            "train:train",
            "Train a hypernetwork further, by a recipe.",
            "d2l train examples/recipes/seats-cpu.toml --out runs/one",
        ),
    ],
}
app = make_app(COMMANDS)

TASK_COMMANDS: Groups = {
    "Commands": [
        Row(
            "make",
            "make:make",
            "Make an adapter from a task description, or many from a table.",
            't2l make "summarize legal contracts" -o legal.lora',
        ),
        Row(
            "eval",
            "eval:evaluate",
            "Measure an adapter on examples of its task.",
            "t2l eval legal.lora tasks.jsonl",
        ),
    ]
}
t2l_app = make_app(TASK_COMMANDS)


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


@t2l_app.callback()
def set_up_t2l(
    version: Annotated[bool, version_option("t2l")] = False,
    debug: Debug = False,
) -> None:
    """Make LoRA adapters from task descriptions, in one pass through a pretrained hypernetwork."""
