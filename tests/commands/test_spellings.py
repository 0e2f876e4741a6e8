"""One word, one meaning: today's spellings, and those of earlier versions with a notice."""

import json
from pathlib import Path

import pytest

from tests import tiny
from tests.command import Command
from tests.recipes import write_data, write_recipe


@pytest.fixture
def place(working_folder: Path) -> Path:
    """A working folder with a base, a network and data to train it with."""
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(working_folder / "seats", repeats=3)
    write_data(working_folder / "data")
    return working_folder


@pytest.mark.usefixtures("place")
def test_what_stands_behind_two_dashes_is_no_option(command: Command) -> None:
    done = command("train", "--", "--check")
    assert done.err.startswith("error: --check: No such file or directory\n")


def test_training_takes_base_and_device_and_plans(place: Path, command: Command) -> None:
    recipe = write_recipe(place / "a.toml")
    Path("tiny-org").rename("elsewhere")
    (place / "elsewhere/llama-tiny/model.safetensors").unlink()
    assert command("train", recipe, "--dry-run", "--offline").code == 1
    done = command("train", recipe, "--dry-run", "--base", "elsewhere/llama-tiny", "--offline")
    assert (done.code, done.err) == (0, "")
    old = command("train", recipe, "--check", "--base", "elsewhere/llama-tiny")
    assert (old.code, old.out) == (0, done.out)
    assert old.err == "--check is now --dry-run; the next version will not know --check\n"
    keyed = write_recipe(place / "b.toml", base="elsewhere/llama-tiny", offline=True)
    assert command("train", keyed, "--dry-run").out == done.out
    done = command("train", recipe, "--device", "gpu")
    assert (done.code, "gpu" in done.err) == (1, True)
    assert command("train", recipe, "--dry-run", "--curves").code == 2


def test_another_base_is_refused_or_warned_of(place: Path, command: Command) -> None:
    recipe = write_recipe(place / "a.toml")
    tiny.write_base(place / "stranger", "llama")
    done = command("train", recipe, "--dry-run", "--base", "stranger")
    assert done.code == 0
    assert done.err.startswith("warning: the checkpoint was trained for tiny-org/llama-tiny, and")
    config = json.loads(Path("stranger/config.json").read_text())
    Path("stranger/config.json").write_text(json.dumps(config | {"num_hidden_layers": 1}))
    done = command("train", recipe, "--dry-run", "--base", "stranger")
    assert (done.code, "has 1 layers" in done.err) == (1, True)


def test_a_flat_recipe_and_a_table_of_another_kind_are_told_of(
    place: Path, command: Command
) -> None:
    recipe = write_recipe(place / "a.toml")
    text = recipe.read_text()
    recipe.write_text(text.replace("[optimizer]\n", "").replace("[seats]\n", ""))
    done = command("train", recipe, "--dry-run")
    assert (done.code, done.err.count("\n")) == (0, 1)
    assert done.err.startswith(f"warning: {recipe}: the flat form of recipes will not be read")
    recipe.write_text(text.replace("[seats]", "[text_to_lora]\nheld_out = 1\n[seats]"))
    assert "[seats] beside [text_to_lora]" in command("train", recipe, "--dry-run").err
    other = write_recipe(place / "b.toml", "text_to_lora", held_out=1)
    done = command("train", other, "--dry-run")
    line = other.read_text().split("\n").index("[text_to_lora]") + 1
    assert done.err == (
        f"error: {other}, line {line}: [text_to_lora] is for text_to_lora networks, and seats is a "
        "seats network\nhint: leave [text_to_lora] out\n"
    )


def test_making_is_planned_without_weights(working_folder: Path, command: Command) -> None:
    tiny.write_base(working_folder / "tiny-org" / "mistral-tiny", "mistral")
    tiny.write_text_to_lora(working_folder / "net", "mistral", None)
    (working_folder / "tiny-org/mistral-tiny/model.safetensors").unlink()
    words = ("make", "Say it again.", "-o", "a.lora", "--checkpoint", "net", "--dry-run")
    done = command.t2l(*words)
    assert done.code == 0, done.err
    assert [line.split()[0] for line in done.out.splitlines()] == [
        *("checkpoint", "base", "embedder", "rank", "scaling", "adapters")
    ]
    assert json.loads(command.t2l(*words, "--json").out)["n_adapters"] == 1
    Path("t.tsv").write_text("one\tSay one.\ntwo\tSay two.\n")
    many = ("--out-dir", "made", "--checkpoint", "net", "--dry-run", "--json")
    old = command.t2l("make", "--batch", "t.tsv", *many)
    assert json.loads(old.out)["n_adapters"] == 2
    assert old.err == "--batch is now --table; the next version will not know --batch\n"
    assert not Path("made").exists()
    assert not Path("a.lora").exists()
