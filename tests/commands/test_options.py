from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.main import get_command

from d2l.commands.lazy import build_command, split_short
from d2l.commands.main import app, t2l_app
from d2l.errors import OptionError
from d2l.hypernets.options import CompileOptions
from tests.command import Command

#: What takes the empty text for a text, or says itself what is wrong with it.
FREE = {"password", "system", "description", "question"}


def list_commands(command: object) -> list[object]:
    inner = getattr(command, "commands", None)
    return [c for i in inner.values() for c in list_commands(i)] if inner else [command]


@pytest.mark.parametrize("name", ["d2l", "t2l"])
def test_no_command_takes_an_empty_name(name: str) -> None:
    seen = 0
    for command in list_commands(get_command({"d2l": app, "t2l": t2l_app}[name])):
        for parameter in command.params:
            if parameter.name in FREE or parameter.name == "help":
                continue
            for value in ("", ["", "a"], ("a", "")):
                with pytest.raises(typer.BadParameter, match="the name is empty"):
                    parameter.process_value(None, value)
            seen += 1
    assert seen > 15


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile", "a.txt", "", "-o", "x.lora"],
        ["compile", "a.txt", "--out="],
        ["inspect", ""],
    ],
)
def test_an_empty_name_is_wrong_usage(
    arguments: list[str], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("The filter is rinsed every 14 days.")
    done = command(*arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[0].endswith(": the name is empty")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_the_home_folder_is_found_where_the_shell_leaves_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    got: list[object] = []

    def show(
        paths: list[Path], out: Annotated[Path, typer.Option("-o", "--out")], text: str = "none"
    ) -> None:
        got.extend([*paths, out, text])

    def run(*arguments: str) -> list[object]:
        got.clear()
        build_command(show, "show", "show a")(args=split_short(arguments), standalone_mode=False)
        return list(got)

    assert run("~/a", "b", "-o=~/x") == [tmp_path / "a", Path("b"), tmp_path / "x", "none"]
    assert run("~nobody-here/a", "--out=~/x", "--text", "~/t") == [
        Path("~nobody-here/a"),
        tmp_path / "x",
        "~/t",
    ]
    assert run("-o", "=x", "--", "-o=y") == [Path("-o=y"), Path("=x"), "none"]


def test_a_text_in_place_of_a_number_is_named() -> None:
    with pytest.raises(OptionError, match=r"^max_rank is 'many', expected int$"):
        CompileOptions(max_rank="many")  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"^scale is None, expected float$"):
        CompileOptions(scale=None)  # type: ignore[arg-type]
    assert CompileOptions(scale=1, max_rank=None).scale == 1


@pytest.mark.parametrize(
    ("wrong", "meant"), [("rank", "max_rank"), ("maxrank", "max_rank"), ("checkpnt", "checkpoint")]
)
def test_a_keyword_that_is_none_names_the_one_that_is_meant(wrong: str, meant: str) -> None:
    with pytest.raises(OptionError, match=rf"'{wrong}'; did you mean {meant}\? keywords are"):
        CompileOptions().changed(**{wrong: 8})
