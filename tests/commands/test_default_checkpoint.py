"""Which network is meant where nobody names one: on the command line and from Python."""

import json
import time
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub import constants

import d2l
from d2l.api.compiler import Compiler
from d2l.bases.catalog import BY_NAME
from d2l.bases.smaller_base import SmallerBase
from d2l.hypernets.options import CompileOptions
from d2l.hypernets.registry import (
    ALIASES,
    DEFAULT,
    DEFAULT_VARIABLE,
    default_checkpoint,
)
from tests import tiny
from tests.command import Command

pytestmark = pytest.mark.usefixtures("one_thread")
NOTE = "The filter is rinsed every 14 days. The pump stands in the harbor."


@pytest.fixture
def place(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with two networks and their base; one of them is the default."""
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(working_folder / "seats")
    tiny.write_doc_to_lora(working_folder / "public", "llama")
    (working_folder / "note.txt").write_text(NOTE, "utf-8")
    monkeypatch.setenv(DEFAULT_VARIABLE, "seats")
    return working_folder


def read(path: str) -> Any:
    return json.loads(Path(path).read_text("utf-8"))


@pytest.mark.parametrize(("value", "expected"), [(None, DEFAULT), ("", DEFAULT), ("a/b", "a/b")])
def test_the_variable_names_the_default_unless_it_is_empty(
    value: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("D2L_CHECKPOINT", raising=False)
    if value is not None:
        monkeypatch.setenv("D2L_CHECKPOINT", value)
    assert default_checkpoint() == expected
    assert CompileOptions().checkpoint == expected


@pytest.mark.usefixtures("place")
def test_commands_take_it_and_adapters_name_the_network_itself(command: Command) -> None:
    assert command("compile", "note.txt", "-o", "many/note.lora").code == 0
    assert read("many/note.lora/d2l.json")["checkpoint"]["name"] == "seats"
    lock = read("many/note.lora/d2l.lock")
    assert (lock["network"]["name"], lock["options"]["checkpoint"]) == ("seats", "seats")
    batch = ("batch", "note.txt", "--out-dir", "many", "--dry-run", "--json")
    assert json.loads(command(*batch).out)["done"] == 1  # the same network, by its name
    assert json.loads(command(*batch, "--checkpoint", "public").out)["done"] == 0


@pytest.mark.usefixtures("place")
def test_python_takes_it_and_an_option_or_argument_goes_before_it(command: Command) -> None:
    assert command("compile", "note.txt", "-o", "a.lora", "--checkpoint", "public").code == 0
    assert read("a.lora/d2l.json")["checkpoint"]["name"] == "public"
    assert d2l.compile("note.txt", checkpoint="public").provenance.checkpoint.name == "public"
    assert Compiler.from_pretrained("public").network.files.name == "public"
    assert d2l.compile("note.txt").provenance.checkpoint.name == "seats"
    assert Compiler.from_pretrained().network.files.name == Compiler().network.files.name == "seats"


@pytest.mark.usefixtures("place")
def test_an_adapter_compiled_with_another_default_is_not_replaced_in_silence(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command("compile", "note.txt", "-o", "a.lora").code == 0
    monkeypatch.setenv(DEFAULT_VARIABLE, "public")
    assert command("compile", "note.txt", "-o", "a.lora").code == 1
    done = command("compile", "note.txt", "-o", "a.lora", "--locked")
    assert "option checkpoint seats → public" in done.err


@pytest.mark.usefixtures("place")
def test_a_wrong_name_is_told_with_the_variable(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DEFAULT_VARIABLE, "nope")
    done = command("compile", "note.txt", "-o", "a.lora")
    assert done.code == 1
    assert done.err.startswith("error: checkpoint 'nope' named in D2L_CHECKPOINT not found\n")


def test_without_its_base_the_default_says_how_to_get_it(
    working_folder: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DEFAULT_VARIABLE, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(working_folder / "hub"))
    (working_folder / "note.txt").write_text(NOTE, "utf-8")
    done = command("compile", "note.txt", "-o", "a.lora")
    base = BY_NAME[ALIASES[DEFAULT].base]
    assert (done.code, done.err) == (
        1,
        f"error: the base {base.name} is not on this machine\n"
        f"hint: get it: d2l bases fetch {base.alias}\n",
    )


def test_a_line_about_the_smaller_base_is_for_those_who_have_not_chosen(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[str, str]] = []

    def advise(smaller: SmallerBase) -> str:
        told.append((smaller.base, smaller.device))
        return "a smaller base is here"

    monkeypatch.setattr(SmallerBase, "advice", property(advise))
    options = ("--device", "cpu", "--offline")
    make = ("compile", "note.txt", "-o", "a.lora", "--force", *options)
    assert command(*make).err == ""  # the variable has chosen
    assert command(*make, "--checkpoint", "seats").code == 0
    monkeypatch.setattr("d2l.hypernets.options.DEFAULT", "seats")
    monkeypatch.delenv(DEFAULT_VARIABLE)
    assert command(*make).err == "a smaller base is here\n"
    ask = ("ask", "a.lora", "Where?", *options, "--max-tokens", "1")
    assert command(*ask).code == 0
    assert command(*ask, "--base", place / "tiny-org" / "llama-tiny").code == 0
    assert told == [("tiny-org/llama-tiny", "cpu")] * 2


def test_long_compiling_brings_a_hint_unless_the_line_was_printed(
    place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(**vars(time) | {"monotonic": count(0, 400).__next__})
    monkeypatch.setattr("d2l.commands.console.time", clock)
    (place / "note.txt").write_text(NOTE * 10, "utf-8")
    make = ("compile", "note.txt", "-o", "a.lora", "--force", "--chunk-tokens", "16")
    shown = command(*make, "--device", "cpu").err.splitlines()
    faster = "hint: a smaller network is faster, but knows fewer answers: --checkpoint "
    assert [line for line in shown if not line.startswith("compiling")] == [
        f"{faster}qwen2.5-coder-0.5b"
    ]
    monkeypatch.delenv(DEFAULT_VARIABLE)
    monkeypatch.setattr("d2l.hypernets.options.DEFAULT", "seats")
    monkeypatch.setattr(SmallerBase, "advice", "a smaller base is here")
    (place / "note.txt").write_text("A lamp is lit. " + NOTE * 10, "utf-8")
    shown = command(*make, "--device", "cpu").err.splitlines()
    assert shown[-1].startswith("compiling: ")
    assert [line for line in shown if not line.startswith("compiling")] == [
        "a smaller base is here"
    ]


def test_help_names_the_variable_and_the_default(command: Command) -> None:
    for name in ("compile", "batch"):
        told = " ".join(command(name, "--help").out.split())
        assert f"[env var: D2L_CHECKPOINT; default: ({DEFAULT})]" in told


def test_task_descriptions_have_a_default_of_their_own(command: Command) -> None:
    told = " ".join(command.t2l("make", "--help").out.split())
    assert f"[env var: T2L_CHECKPOINT; default: ({DEFAULT})]" in told
    assert "D2L_CHECKPOINT" not in told
