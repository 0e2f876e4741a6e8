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
from d2l.commands.lazy import USAGE_ERROR, Groups, Row, make_app, show_usage_error, split_short
from d2l.errors import D2LError
from d2l.memory import memory_errors
from d2l.version import __version__

_INTERRUPTED = 128 + signal.SIGINT
#: Variables that say how idle threads of OpenMP wait: of all of its libraries, GNU's and Intel's.
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def version_option(name: str) -> Any:
    """Make the option that prints the version under a program's name."""

    def show(wanted: bool) -> None:
        if wanted:
            console.result(f"{name} {__version__}")
            raise typer.Exit

    return typer.Option("-V", "--version", callback=show, is_eager=True, help="Print the version.")


Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]

COMMANDS: Groups = {
    "Make adapters": [
        Row("compile", "Compile documents into one adapter.", "manual.pdf",
            "compile:compile_command"),
        Row("batch", "Make an adapter of each of many documents or descriptions.",
            "docs/ --out-dir adapters/"),
        Row("merge", "Merge adapters of one base into one.",
            "a.lora b.lora -o both.lora --weight 1 --weight 0.5"),
        Row("edit", "Drop or keep pages of an adapter.",
            "manual.lora --drop 'manual.pdf:p. 12-14' -o new.lora"),
    ],
    "Use and manage adapters": [
        Row("ask", "Ask an adapter questions.", 'manual "How often is the filter rinsed?"'),
        Row("serve", "Serve adapters over HTTP, as OpenAI's interface does.",
            "adapters/ --port 8080"),
        Row("mcp", "Answer agents and editors over the Model Context Protocol.", "manual.lora"),
        Row("check", "Check which runtimes load an adapter.",
            "manual.lora --runtime vllm --max-lora-rank 64"),
        Row("export", "Export an adapter for another runtime.", "manual.lora --to gguf"),
        Row("ls", "List the adapters in a folder.", "adapters/", "adapters:list_adapters"),
        Row("inspect", "Show an adapter's contents and origin.", "manual.lora", "adapters:inspect"),
        Row("probe", "Measure how much of its document an adapter recalls.",
            "manual.lora --qa questions.jsonl"),
        Row("push", "Upload an adapter to the Hugging Face hub.", "manual ORG/manual --private",
            "adapters:push"),
        Row("rm", "Remove adapters.", "manual old.lora", "adapters:remove"),
    ],
    "Networks and bases": [
        Row("bases", "List and download base models.", below=(
            Row("ls", "List the known bases: where they lie, size and memory.", "",
                "bases:list_bases"),
            Row("fetch", "Download and check a base's file, and print its path.",
                "qwen2.5-coder-1.5b", "bases:fetch_base"),
        )),
        Row("checkpoints", "List and check networks.", below=(
            Row("ls", "List the networks that have a short name, or show one.", "smollm2-135m",
                "checkpoints:list_checkpoints"),
            Row("check", "Check access, disk and GPU memory for a network.",
                "sakana/gemma-2-2b --device cuda", "checkpoints:check_checkpoint"),
        )),
        Row("cache", "List the cache and make it smaller.", below=(
            Row("ls", "List the cache: its folder, its entries and their size.", "",
                "cache:list_cache"),
            Row("prune", "Remove entries that were not used for the longest time.",
                "--max-size 5GB", "cache:prune"),
        )),
        Row("doctor", "Show versions, devices, bases, caches and what is missing.", ""),
    ],
}  # fmt: skip
app = make_app(COMMANDS)

TASK_COMMANDS: Groups = {
    "Commands": [
        Row("make", "Make an adapter from a task description.",
            '"summarize legal contracts" -o legal.lora'),
    ],
}  # fmt: skip
t2l_app = make_app(TASK_COMMANDS)


def main() -> None:
    """Run the `d2l` command line."""
    run(app, "d2l")


def t2l() -> None:
    """Run the `t2l` command line."""
    run(t2l_app, "t2l")


def run(commands: typer.Typer, name: str) -> None:
    """Run a command line under its name, with Ctrl-C tidied up."""
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
    if not any(name in os.environ for name in WAITING):
        # Idle threads sleep: spinning ones take the cores of other programs. OpenMP reads it when
        # torch is imported, and child processes inherit it.
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
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
    console.end_spinner()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, AttributeError):  # full, or closed
            stream.flush()
    os._exit(code)


@app.callback()
def set_up(version: Annotated[bool, version_option("d2l")] = False, debug: Debug = False) -> None:
    """Compile documents into LoRA adapters with a pretrained hypernetwork."""


@t2l_app.callback()
def set_up_t2l(
    version: Annotated[bool, version_option("t2l")] = False, debug: Debug = False
) -> None:
    """Make LoRA adapters from task descriptions with a pretrained hypernetwork."""
