"""`d2l merge`, `d2l edit` and `d2l diff` as their users meet them."""

import json
from pathlib import Path

import pytest

from tests import tiny
from tests.command import Command

FIXED = ("--checkpoint", "seats", "--offline")


@pytest.fixture
def place(working_folder: Path, command: Command) -> Path:
    """A working folder with two adapters of a note each."""
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(working_folder / "seats", repeats=3)
    for name, text in (("a", "The pump stands in the harbor."), ("b", "The valve is copper.")):
        (working_folder / f"{name}.txt").write_text(text)
        assert command("compile", f"{name}.txt", "-o", f"{name}.lora", *FIXED).code == 0
    return working_folder


def test_merging_dropping_and_comparing_go_round(place: Path, command: Command) -> None:
    done = command("merge", "a.lora", "b.lora", "-o", "both.lora", *FIXED)
    rank = json.loads((place / "both.lora" / "adapter_config.json").read_text())["r"]
    size = sum(path.stat().st_size for path in (place / "both.lora").iterdir())
    assert (done.code, done.err) == (0, "")
    assert done.out == f"both.lora\nrank        {rank}\nsize        {size / 1e6:.2f} MB\n"
    edited = command("edit", "both.lora", "--drop", "b.txt", "-o", "back.lora", *FIXED)
    assert (edited.code, edited.err) == (0, "")
    assert edited.out.splitlines()[:3] == [
        "back.lora",
        "left out    b.txt: #1",
        "chunks      1",
    ]
    values = json.loads(command("diff", "a.lora", "back.lora", "--json").out)
    assert values["all"]["relative"] < 0.02  # memories of bf16 adapters are kept in bf16
    assert (values["inputs"], values["chunks"]) == ({}, {})
    shown = command("diff", "a.lora", "both.lora")
    assert (shown.code, shown.err) == (0, "")
    assert "input added: b.txt" in shown.out
    assert shown.out.splitlines()[-1].split()[0] == "all"
    assert command("diff", "a.lora", "a.lora").out == "nothing differs\n"


def test_values_come_as_json(place: Path, command: Command) -> None:
    words = ("--weight", "1", "--weight", "0.5", "--dtype", "fp32", "--json", *FIXED)
    values = json.loads(command("merge", "a.lora", "b.lora", "-o", "both.lora", *words).out)
    assert (values["adapter"], values["max_merge_error"]) == ("both.lora", 0.0)
    words = ("--rescale", "a.txt=0.5", "--json", *FIXED)
    values = json.loads(command("edit", "both.lora", "-o", "weak.lora", *words).out)
    assert (values["n_chunks"], values["left_out"]) == (2, [])
    record = json.loads((place / "weak.lora" / "d2l.json").read_text())
    assert [chunk["scale"] for chunk in record["chunks"]] == [0.5, 0.5]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ("merge", "a.lora", "none.lora", "-o", "x"),
            1,
            "error: none.lora: no such adapter folder",
        ),
        (("merge", "a.lora", "b.lora", "-o", "a.lora"), 1, "error: a.lora exists already"),
        (("merge", "a.lora", "b.lora", "-o", "x", "--weight", "1;2"), 2, None),
        (("edit", "a.lora", "-o", "x"), 1, "error: nothing to edit"),
        (("edit", "a.lora", "-o", "x", "--rescale", "a.txt"), 2, None),
        (("edit", "a.lora", "-o", "x", "--rescale", "a.txt=much"), 2, None),
        (("diff", "a.lora"), 2, None),
    ],
)
def test_what_is_wrong_is_one_line(
    words: tuple[str, ...], code: int, message: str | None, place: Path, command: Command
) -> None:
    done = command(*words)
    assert (done.code, done.out) == (code, "")
    assert message is None or done.err.splitlines()[0] == message
    assert not (place / "x").exists()
