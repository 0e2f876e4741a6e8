"""Help, version and completion of both command lines."""

import copy
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest

from d2l import __version__
from d2l.adapters.merge_methods import METHODS
from d2l.adapters.peft_folder import DTYPES
from d2l.commands import main as cli
from d2l.commands.lazy import Groups, Row
from d2l.documents.intake import Format
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.registry import DEFAULT
from d2l.hypernets.seats.network import JOINS
from d2l.readers.formats import FORMATS
from d2l.spelling import list_choices, list_spellings
from tests.command import Command
from tests.processes import make_environment, run_python


def test_choices_and_defaults_in_help_are_those_of_the_dictionaries() -> None:
    assert list(list_choices(CompileOptions)["merge"]) == list(METHODS)
    assert set(list_choices(CompileOptions)["merge"]) == set(JOINS)
    assert list(list_choices(CompileOptions)["dtype"]) == list(DTYPES)
    assert set(get_args(Format)) == set(FORMATS)
    assert list_spellings(CompileOptions)["checkpoint"].usual == DEFAULT


def list_rows(groups: Groups) -> Iterator[tuple[tuple[str, ...], Row]]:
    """The words that call every command of a command line, and its row."""
    for row in itertools.chain(*groups.values()):
        if row.below:
            for words, inner in list_rows({"": row.below}):
                yield (row.name, *words), inner
        else:
            yield (row.name,), row


#: Options without a fixed default, whose help says in words what holds without them.
COMPUTED = {
    ("d2l", "compile"): "base chunk_tokens tokens_per_seat parts format encoding",
    ("d2l", "batch"): "base results encoding",
    ("d2l", "merge"): "base checkpoint weight",
    ("d2l", "ask"): "base parts",
    ("d2l", "check"): "base runtime model max_lora_rank",
    ("d2l", "probe"): "base",
    ("d2l", "cache", "prune"): "max_size",
}
ROWS = {
    (program, *words): row
    for program, groups in (("d2l", cli.COMMANDS), ("t2l", cli.TASK_COMMANDS))
    for words, row in list_rows(groups)
}


@pytest.mark.parametrize("words", ROWS, ids=" ".join)
def test_help_of_a_command_fits_a_screen_and_ends_with_an_example(
    words: tuple[str, ...], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run_program = command.t2l if words[0] == "t2l" else command
    done = run_program(*words[1:], "--help")
    lines = done.out.splitlines()
    assert (done.code, done.err) == (0, "")
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert f"{lines[-1].strip()} ".startswith(f"Example: {' '.join(words)} ")


@pytest.mark.parametrize("words", ROWS, ids=" ".join)
def test_help_for_experts_is_whole_and_shows_every_default(
    words: tuple[str, ...], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run_program = command.t2l if words[0] == "t2l" else command
    shown = run_program(*words[1:], "--help-all").out
    assert "..." not in shown
    assert max(map(len, shown.splitlines())) <= 81  # names of all formats
    loaded = ROWS[words].load()
    context = loaded.context_class(loaded)
    for param in map(copy.copy, loaded.params):
        param.hidden = False
        help = param.get_help_record(context)[1]
        assert "".join(help.split()) in "".join(shown.split())
        if param.default not in (None, False):
            assert f"default: {param.default}" in help
        elif param.name in COMPUTED.get(words, "").split():
            assert "default: " in help


@pytest.mark.parametrize("words", ROWS, ids=" ".join)
def test_the_list_and_a_commands_own_help_say_the_same_in_one_line(words: tuple[str, ...]) -> None:
    row = ROWS[words]
    assert (row.find().__doc__ or "").splitlines()[0] == row.help
    assert len(row.help) <= 60


@pytest.mark.parametrize("words", [(), ("bases",), ("checkpoints",), ("cache",)])
def test_lists_of_commands_fit_a_screen(
    words: tuple[str, ...], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = command(*words, "--help").out.splitlines()
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 80
    assert not [line for line in lines if "..." in line]


@pytest.mark.parametrize("words", [("--help",), ("--version",)])
def test_help_of_the_program_imports_no_library_of_the_work(words: tuple[str, ...]) -> None:
    program = (
        "import atexit, sys\n"
        f"sys.argv = {['d2l', *words]!r}\n"
        "atexit.register(lambda: print(*sorted(sys.modules)))\n"
        "from d2l.commands.entry import d2l\n"
        "d2l()\n"
    )
    done = run_python("-c", program)
    assert done.returncode == 0, done.stderr
    modules = done.stdout.splitlines()[-1].split()
    heavy = {
        "torch",
        "transformers",
        "numpy",
        "pydantic",
        "lxml",
        "pypdfium2",
        "rich",
        "safetensors",
    }
    assert heavy.isdisjoint(modules)
    rooms = {name.split(".")[1] for name in modules if name.startswith("d2l.")}
    assert rooms == {
        *("commands", "errors", "files", "interrupts", "memory", "progress", "spelling", "version")
    }


def test_version_is_the_packages(command: Command) -> None:
    done = command("--version")
    assert command("-V") == done
    assert (done.code, done.out, done.err) == (0, f"d2l {__version__}\n", "")


def in_bash(line: str, home: Path, **variables: str) -> str:
    """What a line typed into bash prints, where the programs are on the path."""
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"{line}; exit $?"],  # not the last command: bash stays the parent
        env=make_environment(PATH=binaries, HOME=str(home), **variables),
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("program", "typed", "completed"),
    [("d2l", "ch", ["check", "checkpoints"]), ("t2l", "make --str", ["--strict"])],
)
def test_the_shell_completes_commands_and_options(
    tmp_path: Path, program: str, typed: str, completed: list[str]
) -> None:
    words = f"{program} {typed}"
    asked = {f"_{program.upper()}_COMPLETE": "complete_bash", "COMP_WORDS": words}
    answer = in_bash(program, tmp_path, **asked, COMP_CWORD=str(len(words.split()) - 1))
    assert answer.split() == completed
    shown = in_bash(f"{program} --show-completion", tmp_path)
    assert f"complete -o default -F _{program}_completion {program}" in shown
    in_bash(f"{program} --install-completion", tmp_path)
    installed = tmp_path / ".bash_completions" / f"{program}.sh"
    assert installed.read_text("utf-8").strip() == shown.strip()
    assert str(installed) in (tmp_path / ".bashrc").read_text("utf-8")


@pytest.mark.parametrize("program", ["d2l", "t2l"])
def test_without_arguments_the_help_is_shown(command: Command, program: str) -> None:
    run_program = command.t2l if program == "t2l" else command
    without, asked = run_program(), run_program("--help")
    assert (without.code, asked.code) == (2, 0)
    assert without.out + without.err == asked.out
