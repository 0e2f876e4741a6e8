"""`d2l merge` and `d2l edit` as their users meet them."""

import json
from pathlib import Path

import pytest

from tests import tiny
from tests.change.test_merge import dense, worst
from tests.command import Command, make_once
from tests.processes import run_python

FIXED = ("--checkpoint", "seats", "--offline")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("merge") / "made"


@pytest.fixture
def place(made: Path, working_folder: Path, command: Command) -> Path:
    """A working folder with two adapters of a note each."""

    def make() -> None:
        tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
        tiny.write_seats(working_folder / "seats", repeats=3)
        for name, text in (("a", "The pump stands in the harbor."), ("b", "The valve is copper.")):
            (working_folder / f"{name}.txt").write_text(text)
            assert command("compile", f"{name}.txt", "-o", f"{name}.lora", *FIXED).code == 0

    make_once(made, working_folder, make)
    return working_folder


def test_merging_and_dropping_go_round(place: Path, command: Command) -> None:
    done = command("merge", "a.lora", "b.lora", "-o", "both.lora", *FIXED)
    rank = json.loads((place / "both.lora" / "adapter_config.json").read_text())["r"]
    size = sum(path.stat().st_size for path in (place / "both.lora").iterdir())
    assert (done.code, done.err) == (0, "")
    assert done.out == f"both.lora\nrank        {rank}\nsize        {size / 1e6:.2f} MB\n"
    edited = command("edit", "both.lora", "--drop", "b.txt", "-o", "back.lora", *FIXED)
    assert (edited.code, edited.err) == (0, "")
    assert edited.out.splitlines()[:3] == [
        "back.lora",
        "kept        a.txt: #0 (1 of 2 chunks)",
        "left out    b.txt: #1 (1 of 2 chunks)",
    ]
    first, back = (dense(place / f"{name}.lora") for name in ("a", "back"))
    assert worst(back, first) < 0.02  # memories of bf16 adapters are kept in bf16


def test_dry_runs_tell_what_would_be_and_write_nothing(place: Path, command: Command) -> None:
    both = ("merge", "a.lora", "b.lora", "-o", "both.lora")
    planned = command(*both, "--weight", "1", "--weight", "0.5", "--dry-run")
    ranks = [json.loads((place / f"{n}.lora/adapter_config.json").read_text())["r"] for n in "ab"]
    assert (planned.code, planned.err) == (0, "")
    assert planned.out.splitlines() == [
        f"adapter     a.lora (rank {ranks[0]}, seats, strength 1)",
        f"adapter     b.lora (rank {ranks[1]}, seats, strength 0.5)",
        "method      concat",
        f"rank        16 ({sum(ranks)} seats)",  # k_proj has 16 outputs
    ]
    assert not (place / "both.lora").exists()
    assert command(*both, *FIXED).code == 0
    drop = ("edit", "both.lora", "--drop", "b.txt", "-o", "back.lora", "--dry-run")
    assert command(*drop).out.splitlines() == [
        "kept        a.txt: #0 (1 of 2 chunks)",
        "left out    b.txt: #1 (1 of 2 chunks)",
        f"seats       {ranks[0]}",
    ]
    assert json.loads(command(*drop, "--json").out) == {
        "seats": ranks[0], "n_chunks": 1, "n_left_out": 1, "kept": ["a.txt: #0"],
        "left_out": ["b.txt: #1"], "warnings": [],
    }  # fmt: skip
    words = ("export", "both.lora", "--to", "gguf", "-o", "both.gguf", "--offline", "--dry-run")
    exported = command(*words)
    assert (exported.code, exported.err) == (0, "")
    assert exported.out.splitlines()[2] == "writes      both.gguf (a GGUF adapter, for llama.cpp)"
    assert json.loads(command(*words, "--json").out)["rank"] == 16 < sum(ranks)
    left = {path.name for path in place.iterdir()}
    assert not left & {"back.lora", "both.gguf"}
    refused = command("edit", "a.lora", "--drop", "c.txt", "-o", "x", "--dry-run")
    assert (refused.code, refused.out) == (1, "")


def test_fewer_seats_are_said_by_the_plan_without_torch_and_by_the_merge(
    place: Path, command: Command
) -> None:
    many = ("merge", *["a.lora", "b.lora"] * 4, "-o", "both.lora", *FIXED)
    program = (
        "import sys\nfrom d2l.commands.main import app\n"
        f"app({[*many, '--dry-run', '--json']!r}, standalone_mode=False)\n"
        "print('torch' in sys.modules)"
    )
    run = run_python("-c", program)
    assert run.returncode == 0, run.stderr
    values, heavy = run.stdout.splitlines()
    plan = json.loads(values)
    assert heavy == "False"
    assert plan["rank"] == 16 < sum(plan["seats"]) < sum(plan["seats_before"])
    planned = command(*many, "--dry-run")
    had, kept = plan["seats_before"][0], plan["seats"][0]
    assert f", {kept} of {had} seats, strength 1)" in planned.out.splitlines()[0]
    assert planned.err.startswith(f"warning: the adapters have {sum(plan['seats_before'])} seats")
    assert not (place / "both.lora").exists()
    done = command(*many, "--json")
    assert (done.code, done.err) == (0, planned.err)  # said once
    made = json.loads(done.out)
    assert (made["rank"], made["warnings"]) == (plan["rank"], plan["warnings"])


def test_values_come_as_json(place: Path, command: Command) -> None:
    words = ("--weight", "1", "--weight", "0.5", "--json", *FIXED)
    values = json.loads(command("merge", "a.lora", "b.lora", "-o", "both.lora", *words).out)
    assert (values["adapter"], values["max_merge_error"]) == ("both.lora", 0.0)
    words = ("--keep", "b.txt", "--json", *FIXED)
    values = json.loads(command("edit", "both.lora", "-o", "weak.lora", *words).out)
    assert (values["n_chunks"], values["left_out"]) == (1, ["a.txt: #0"])
    record = json.loads((place / "weak.lora" / "d2l.json").read_text())
    assert [chunk["scale"] for chunk in record["chunks"]] == [0.5]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (
            ("merge", "a.lora", "none.lora", "-o", "x"),
            1,
            "error: none.lora: no such adapter in this folder",
        ),
        (("merge", "a.lora", "b.lora", "-o", "a.lora"), 1, "error: a.lora exists already"),
        (("merge", "a.lora", "b.lora", "-o", "x", "--weight", "1;2"), 2, None),
        (("edit", "a.lora", "-o", "x"), 1, "error: nothing to edit"),
        (("edit", "a.lora", "--drop", "a.txt"), 2, None),
    ],
)
def test_what_is_wrong_is_one_line(
    words: tuple[str, ...], code: int, message: str | None, place: Path, command: Command
) -> None:
    done = command(*words)
    assert (done.code, done.out) == (code, "")
    assert message is None or done.err.splitlines()[0] == message
    assert not (place / "x").exists()
