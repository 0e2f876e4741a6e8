"""Help, version and completion of both command lines."""

import os
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest
from typer.main import get_command

from d2l import __version__
from d2l.adapters.merge_methods import METHODS
from d2l.adapters.peft_folder import DTYPES
from d2l.commands import main as cli
from d2l.commands import options as cli_options
from d2l.documents.read import READERS
from d2l.hypernets.options import CHOICES
from d2l.hypernets.registry import DEFAULT
from d2l.hypernets.seats.network import JOINS
from tests.command import Command
from tests.processes import make_environment


def test_choices_and_defaults_in_help_are_those_of_the_dictionaries() -> None:
    assert list(CHOICES["merge"]) == list(METHODS)
    assert set(CHOICES["merge"]) == set(JOINS)
    assert list(CHOICES["dtype"]) == list(get_args(cli_options.Dtype)) == list(DTYPES)
    assert set(get_args(cli_options.Format)) == set(READERS)
    command = get_command(cli.app).commands["compile"]  # type: ignore[attr-defined]
    defaults = {parameter.name: parameter.default for parameter in command.params}
    assert defaults["checkpoint"] == DEFAULT


def list_commands(group: object, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all commands below a Typer group."""
    found = []
    for name, command in group.commands.items():  # type: ignore[attr-defined]
        below = hasattr(command, "commands")
        found += list_commands(command, (*path, name)) if below else [(*path, name)]
    return found


def test_help_of_every_command_ends_with_an_example(command: Command) -> None:
    commands = list_commands(get_command(cli.app))
    assert len(commands) >= 6
    for path in commands:
        done = command(*path, "--help")
        last = done.out.strip().splitlines()[-1]
        assert (done.code, done.err) == (0, "")
        assert f"{last.strip()} ".startswith(f"Example: d2l {' '.join(path)} ")


def test_version_is_the_packages(command: Command) -> None:
    done = command("--version")
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
