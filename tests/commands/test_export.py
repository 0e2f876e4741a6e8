"""`d2l export`, and `d2l compile --to`, as their users meet them."""

import json
from pathlib import Path
from typing import get_args

import pytest

from d2l.commands import options as cli_options
from d2l.runtimes.export import EXPORTERS
from d2l.runtimes.parts import TARGETS
from tests import tiny
from tests.command import Command

NOTES = "The filter is rinsed every 14 days. The pump stands in the harbor."
COMPILE = ("compile", "notes.txt", "-o", "notes.lora", "--checkpoint", "seats", "--offline")


@pytest.fixture(autouse=True)
def place(working_folder: Path) -> Path:
    """A working folder with a document, a base and a checkpoint that finds it."""
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(working_folder / "seats")
    (working_folder / "notes.txt").write_text(NOTES, "utf-8")
    return working_folder


def test_choices_are_those_of_the_dictionary() -> None:
    assert list(get_args(cli_options.Target)) == [*EXPORTERS, *TARGETS]


def test_an_export_says_what_it_wrote_and_how_to_load_it(command: Command) -> None:
    assert command(*COMPILE).code == 0
    words = ("export", "notes.lora", "--offline")
    done = command(*words, "--to", "gguf", "-o", "notes.gguf")
    size = Path("notes.gguf").stat().st_size
    load = (
        "llama-server -m llama-tiny.gguf --lora notes.gguf --jinja "
        "--chat-template-file notes.lora/chat_template.jinja"
    )
    assert done.out == f"notes.gguf\nsize        {size / 1e6:.2f} MB\nload        {load}\n"
    assert (done.code, done.err) == (0, "")
    values = json.loads(command(*words, "--to", "mlx", "-o", "notes-mlx", "--json").out)
    assert values == {
        "export": "notes-mlx",
        "to": "mlx",
        "size_bytes": sum(path.stat().st_size for path in Path("notes-mlx").iterdir()),
        "load": "mlx_lm.server --model tiny-org/llama-tiny --adapter-path notes-mlx "
        '--chat-template "$(cat notes-mlx/chat_template.jinja)"',
        "warnings": [],
    }


def test_what_stands_in_the_way_is_one_line_and_what_to_do(command: Command) -> None:
    assert command(*COMPILE).code == 0
    done = command("export", "notes.lora", "--to", "mlx", "-o", "notes.txt")
    assert (done.code, done.out, done.err) == (
        1,
        "",
        "error: notes.txt exists and was not written by d2l\n"
        "hint: choose another -o: d2l replaces only its own files\n",
    )
    done = command("export", "none.lora", "--to", "mlx", "-o", "out")
    assert (done.code, done.err.splitlines()[0]) == (
        1,
        "error: none.lora: no such adapter in this folder",
    )
    done = command("export", "notes.lora", "--to", "onnx", "-o", "out")
    assert (done.code, done.out) == (2, "")


def test_compile_exports_beside_the_adapter(place: Path, command: Command) -> None:
    done = command(*COMPILE, "--to", "gguf", "--to", "mlx", "--json")
    rows = json.loads(done.out)["exports"]
    assert [(row["export"], row["to"]) for row in rows] == [
        ("notes.gguf", "gguf"),
        ("notes-mlx", "mlx"),
    ]
    assert (place / "notes.lora" / "adapter_config.json").is_file()
    alone = command("export", "notes.lora", "--to", "gguf", "-o", "again.gguf", "--offline")
    assert alone.code == 0
    assert (place / "again.gguf").read_bytes() == (place / "notes.gguf").read_bytes()


def test_compile_refuses_an_export_before_the_work(place: Path, command: Command) -> None:
    (place / "notes-mlx").mkdir()
    done = command(*COMPILE, "--to", "mlx")
    assert (done.code, done.err.splitlines()[0]) == (
        1,
        "error: notes-mlx exists and was not written by d2l",
    )
    done = command(*COMPILE, "--to", "gguf", "--to", "onnx")
    assert done.err == (
        "error: cannot export to 'onnx'\nhint: choose from gguf, ollama, mlx, uniform, merged\n"
    )
    assert not (place / "notes.lora").exists()
