"""The command lines of `d2l` and `t2l`: their commands, and the exit code.

Exit codes: 0 done, 1 an error that the user can fix, 2 wrong usage, 130 interrupted. A command's
module is imported when the command is called, so that help starts at once.
"""

import contextlib
import os
import signal
import sys
from typing import Annotated, Any, NoReturn

import typer

from d2l import interrupts
from d2l.commands import console, streams
from d2l.commands.lazy import (
    USAGE_ERROR,
    CommandRow,
    Groups,
    make_app,
    show_usage_error,
    split_short,
)
from d2l.errors import D2LError
from d2l.memory import memory_errors
from d2l.version import __version__

_INTERRUPTED = 128 + signal.SIGINT


def _version_option(name: str) -> Any:
    def show(wanted: bool) -> None:
        if wanted:
            console.result(f"{name} {__version__}")
            raise typer.Exit

    return typer.Option("-V", "--version", callback=show, is_eager=True, help="Print the version.")


_Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

COMMANDS: Groups = {
    "Make adapters": [
        CommandRow(
            "compile",
            "Compile documents into one adapter.",
            "compile:compile_command",
            "d2l compile manual.pdf",
        ),
        CommandRow(
            "batch",
            "Make an adapter of each of many documents or descriptions.",
            "batch:batch",
            "d2l batch docs/ --out-dir adapters/",
        ),
        CommandRow(
            "merge",
            "Merge adapters of one base into one.",
            "merge:merge",
            "d2l merge a.lora b.lora -o both.lora --weight 1 --weight 0.5",
        ),
        CommandRow(
            "edit",
            "Drop, keep or rescale pages of an adapter.",
            "edit:edit",
            "d2l edit manual.lora --drop 'manual.pdf:p. 12-14' -o new.lora",
        ),
    ],
    "Use and manage adapters": [
        CommandRow(
            "ask",
            "Ask an adapter questions.",
            "ask:ask",
            'd2l ask manual "How often is the filter rinsed?"',
        ),
        CommandRow(
            "serve",
            "Serve adapters over HTTP, as OpenAI's interface does.",
            "serve:serve",
            "d2l serve adapters/ --port 8080",
        ),
        CommandRow(
            "check",
            "Check which runtimes load an adapter.",
            "check:check",
            "d2l check manual.lora --runtime vllm --max-lora-rank 64",
        ),
        CommandRow(
            "export",
            "Export an adapter for another runtime.",
            "export:export",
            "d2l export manual.lora --to gguf",
        ),
        CommandRow(
            "ls", "List the adapters in a folder.", "adapters:list_adapters", "d2l ls adapters/"
        ),
        CommandRow(
            "inspect",
            "Show an adapter's contents and origin.",
            "adapters:inspect",
            "d2l inspect manual.lora",
        ),
        CommandRow(
            "diff", "Show how two adapters differ.", "diff:diff", "d2l diff old.lora new.lora"
        ),
        CommandRow(
            "probe",
            "Measure how much of its document an adapter recalls.",
            "probe:probe",
            "d2l probe manual.lora --qa questions.jsonl",
        ),
        CommandRow(
            "push",
            "Upload an adapter to the Hugging Face hub.",
            "adapters:push",
            "d2l push manual ORG/manual --private",
        ),
        CommandRow("rm", "Remove adapters.", "adapters:remove", "d2l rm manual old.lora"),
    ],
    "Networks and bases": [
        CommandRow(
            "bases",
            "List and download base models.",
            below=(
                CommandRow(
                    "ls",
                    "List the known bases: where they lie, size and memory.",
                    "bases:list_bases",
                    "d2l bases ls",
                ),
                CommandRow(
                    "fetch",
                    "Download and check a base's file, and print its path.",
                    "bases:fetch_base",
                    "d2l bases fetch qwen2.5-coder-1.5b",
                ),
            ),
        ),
        CommandRow(
            "checkpoints",
            "List, write and begin networks.",
            below=(
                CommandRow(
                    "ls",
                    "List the networks that have a short name, or show one.",
                    "checkpoints:list_checkpoints",
                    "d2l checkpoints ls smollm2-135m",
                ),
                CommandRow(
                    "check",
                    "Check access, disk and GPU memory for a network.",
                    "checkpoints:check_checkpoint",
                    "d2l checkpoints check sakana/gemma-2-2b --device cuda",
                ),
                CommandRow(
                    "export",
                    "Write a run or a released checkpoint as a folder.",
                    "checkpoints:export_checkpoint",
                    "d2l checkpoints export runs/one -o my-network --compact",
                ),
            ),
        ),
        CommandRow(
            "cache",
            "List the cache and make it smaller.",
            below=(
                CommandRow(
                    "ls",
                    "List the cache: its folder, its entries and their size.",
                    "cache:list_cache",
                    "d2l cache ls",
                ),
                CommandRow(
                    "prune",
                    "Remove entries that were not used for the longest time.",
                    "cache:prune",
                    "d2l cache prune --max-size 5GB",
                ),
            ),
        ),
        CommandRow(
            "bench",
            "Measure a network on documents with questions.",
            below=(
                CommandRow(
                    "sets",
                    "Compile documents of several lengths, and ask about them.",
                    "bench:sets",
                    "d2l bench sets dev.jsonl.gz --length 240 -o sets.json",
                ),
                CommandRow(
                    "needles",
                    "Find a number in noise, by length, at ten depths.",
                    "bench:needles",
                    "d2l bench needles --length 4096 --rows needles.jsonl",
                ),
                CommandRow(
                    "check",
                    "Try a network on this machine: ten questions on a page.",
                    "bench:check",
                    "d2l bench check sakana/gemma-2-2b -o check.json",
                ),
                CommandRow(
                    "manuals",
                    "Ask about whole documents, which lie beside the questions.",
                    "bench:manuals",
                    "d2l bench manuals manuals/questions.jsonl",
                ),
            ),
        ),
        CommandRow(
            "doctor",
            "Show versions, devices, bases, caches and what is missing.",
            "doctor:doctor",
            "d2l doctor",
        ),
        CommandRow(
            "train",
            "Train a network by a recipe.",
            "train:train",
            "d2l train examples/recipes/seats-cpu.toml --out runs/one",
        ),
    ],
}
app = make_app(COMMANDS)

TASK_COMMANDS: Groups = {
    "Commands": [
        CommandRow(
            "make",
            "Make an adapter from a task description.",
            "make:make",
            't2l make "summarize legal contracts" -o legal.lora',
        ),
        CommandRow(
            "eval",
            "Measure an adapter on examples of its task.",
            "eval:evaluate",
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
        try:
            _run_and_exit(commands, name)
        finally:
            console.end_spinner()


def _run_and_exit(commands: typer.Typer, name: str) -> None:
    """Run a command line; the only place where errors become exit codes."""
    console.set_level(console.Level.USUAL)
    console.set_json(wanted=False)
    console.set_stopping(None)
    streams.prepare()
    console.listen()
    console.begin_spinner()
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        with memory_errors():
            _call(commands, name)
    except D2LError as error:
        _leave_if_interrupted()  # an import that was interrupted looks like one that failed
        if "--debug" in sys.argv:
            raise
        console.show_error(error)
        sys.exit(1)
    except KeyboardInterrupt:  # Typer turns most of these into exit code 130, but not all
        _stop(signal.SIGINT)
    except SystemExit as stopped:
        _leave_if_interrupted()
        if stopped.code != _INTERRUPTED:
            raise
        leave(_INTERRUPTED)
    except Exception:  # which may be what became of an interruption
        _leave_if_interrupted()
        raise


def _call(commands: typer.Typer, name: str) -> None:
    """Run the command that the arguments name, and write its output."""
    words = split_short(sys.argv[1:])
    try:
        code = typer.main.get_command(commands)(args=words, prog_name=name, standalone_mode=False)
        if not code:
            streams.flush()
    except USAGE_ERROR as error:
        code = error.exit_code
        show_usage_error(error, name)
    except OSError as error:
        streams.explain_loss(error)  # help is printed by Typer itself
        raise
    sys.exit(code or 0)


def _leave_if_interrupted() -> None:
    """End now if a signal asked for it, whatever exception its handler became."""
    number = interrupts.last_signal()
    if number is not None:
        _stop(number)


def _stop(number: int) -> NoReturn:
    """Name the files that an interrupted command leaves outside the cache, and end."""
    from d2l.files.cache import cache_dir

    cache = cache_dir().absolute()
    with contextlib.suppress(OSError, AttributeError):  # nobody reads it
        console.show_stop(
            [
                str(path)
                for path in interrupts.list_written()
                if cache not in path.absolute().parents
            ]
        )
    leave(128 + number)


def leave(code: int) -> NoReturn:
    """End now, after everything is tidied up. At its regular end Python would kill itself with
    SIGINT if the interruption had passed through an exec(): callers that are no shell would see
    -2."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):  # full, or closed
            stream.flush()
    os._exit(code)


@app.callback()
def set_up(version: Annotated[bool, _version_option("d2l")] = False, debug: _Debug = False) -> None:
    """Compile documents into LoRA adapters with a pretrained hypernetwork."""


@t2l_app.callback()
def set_up_t2l(
    version: Annotated[bool, _version_option("t2l")] = False, debug: _Debug = False
) -> None:
    """Make LoRA adapters from task descriptions with a pretrained hypernetwork."""
