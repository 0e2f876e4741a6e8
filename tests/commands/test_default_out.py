"""Where `d2l compile` and `d2l export` write without `-o`."""

import json
from pathlib import Path

import pytest

from tests import tiny
from tests.command import Command

OPTIONS = ("--checkpoint", "seats", "--offline")


@pytest.fixture(name="folder", autouse=True)
def working_place(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a document, a base and a checkpoint that finds it."""
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(working_folder / "seats")
    (working_folder / "docs").mkdir()
    (working_folder / "docs" / "notes.v1.txt").write_text("The pump stands in the harbor.")
    monkeypatch.delenv("D2L_ADAPTERS", raising=False)
    return working_folder


def test_an_adapter_is_called_like_its_input_and_lies_here_or_in_the_own_folder(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("compile", "docs/notes.v1.txt", *OPTIONS)
    assert command(*words).out.splitlines()[0] == "notes.v1.lora"
    again = command(*words)
    assert again.out.splitlines()[1].startswith("unchanged  ")
    assert command(*words, "--locked").code == 0
    changed = command(*words, "--max-rank", 8)
    assert changed.err.splitlines()[0] == "error: notes.v1.lora exists already"
    assert json.loads(command("ls", "--json").out)["folder"] == "."
    monkeypatch.setenv("D2L_ADAPTERS", str(folder / "home"))
    written = json.loads(command("compile", "docs/", *OPTIONS, "--json").out)
    assert written["adapter"] == str(folder / "home" / "docs.lora")
    listed = json.loads(command("ls", "--json").out)
    assert [row["name"] for row in listed["adapters"]] == ["docs.lora"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("-",), "standard input has no name"),
        (("docs/notes.v1.txt", "docs"), "name the adapter of several inputs"),
    ],
)
def test_where_the_input_gives_no_name_the_option_is_asked_for(
    words: tuple[str, ...], reason: str, folder: Path, command: Command
) -> None:
    before = sorted(folder.iterdir())
    done = command("compile", *words, *OPTIONS)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[0] == f"error: -o is missing: {reason}"
    if words[0] != "-":
        assert command("compile", *words, *OPTIONS, "--dry-run").code == 0
    assert command("compile", *words, *OPTIONS, "--dry-run", "--locked").code != 0
    assert sorted(folder.iterdir()) == before


def test_an_export_lies_beside_its_adapter(
    folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2L_ADAPTERS", "home")
    words = ("compile", "docs/notes.v1.txt", *OPTIONS)
    assert command(*words, "--to", "gguf").code == 0
    done = command("export", "notes.v1", "--to", "gguf", "--offline")
    assert done.err.splitlines()[0] == f"error: {Path('home/notes.v1.gguf')} exists already"
    done = command("export", "notes.v1", "--to", "mlx", "--offline", "--json")
    assert json.loads(done.out)["export"] == str(Path("home/notes.v1-mlx"))
    monkeypatch.chdir(folder / "home" / "notes.v1.lora")
    base = folder / "tiny-org" / "llama-tiny"
    done = command("export", ".", "--to", "uniform", "--base", base, "--json")
    assert json.loads(done.out)["export"].endswith("/home/notes.v1-uniform")
