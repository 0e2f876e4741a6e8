"""Exporting a run: a checkpoint folder that compiles, and a card that says how it was made."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d2l.hypernets.formats.native import read_weights
from d2l_lab.training import loop as pipeline
from d2l_lab.training.recipe_files import read_recipe
from examples.training.tests.toy import Lab, write_place, write_recipe
from tests.command import Command

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with a run of three steps; not to be changed."""
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("D2L_CACHE_DIR", str(place / "cache"))
        write_place(place)
        (place / "notes.txt").write_text("The pump stands in the harbor.", "utf-8")
        recipe = read_recipe(write_recipe(place / "seats.toml"))
        pipeline.train(recipe, place / "runs" / "seats")
    return place


@pytest.fixture(autouse=True)
def place(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(trained)
    monkeypatch.setenv("D2L_CACHE_DIR", str(trained / "cache"))
    return trained


def test_an_exported_run_is_a_checkpoint_with_a_card(
    place: Path, tmp_path: Path, command: Command, lab: Lab
) -> None:
    target = tmp_path / "my-network"
    done = lab("export", "runs/seats", "-o", target, "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {"checkpoint": str(target)}
    compiled = command("compile", "notes.txt", "-o", tmp_path / "n.lora", "--checkpoint", target)
    assert compiled.code == 0, compiled.err
    weights = target / "model.safetensors"
    assert weights.read_bytes() == (place / "runs" / "seats" / weights.name).read_bytes()
    card = (target / "README.md").read_text("utf-8")
    assert "A seats network for tiny-org/llama-tiny" in card
    assert "after 3 steps" in card
    assert '"path": "toy.jsonl"' in card


def test_the_compact_form_is_smaller_and_within_half_a_step(
    place: Path, tmp_path: Path, lab: Lab
) -> None:
    target = tmp_path / "small"
    done = lab("export", "runs/seats", "-o", target, "--compact")
    assert (done.code, done.out, done.err) == (0, f"{target}\n", "")
    exact = load_file(place / "runs" / "seats" / "model.safetensors")
    for name, tensor in read_weights(target / "model.safetensors").items():
        step = exact[name].abs().max() / 127
        assert (tensor - exact[name]).abs().max() <= step / 2 + 1e-6
    matrix = load_file(target / "model.safetensors")["input_projection.weight"]
    assert matrix.dtype == torch.int8
    written = (target / "model.safetensors").read_bytes()
    again = lab("export", "runs/seats", "-o", target, "--compact", "--force")
    assert again.code == 0
    assert (target / "model.safetensors").read_bytes() == written


def test_what_is_no_run_is_refused(tmp_path: Path, lab: Lab) -> None:
    young = tmp_path / "young"
    young.mkdir()
    (young / "log.jsonl").touch()
    target = tmp_path / "out"
    for source, options, message, hint in (
        (
            "seats",
            ("--compact",),
            "seats: is not the folder of a run",
            "name what d2l-lab train wrote with --out",
        ),
        (young, (), f"{young}: the run has saved no state yet", "let it go on until it has"),
    ):
        done = lab("export", source, "-o", target, *options)
        assert (done.code, done.out) == (1, "")
        assert done.err == f"error: {message}\nhint: {hint}\n"
        assert not target.exists()


def test_only_checkpoints_are_replaced_and_only_when_asked(tmp_path: Path, lab: Lab) -> None:
    target = tmp_path / "out"
    export = ("export", "runs/seats", "-o", target)
    assert lab(*export).code == 0
    again = lab(*export)
    assert (again.code, again.err.splitlines()[0]) == (1, f"error: {target} exists already")
    assert lab(*export, "--force").code == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "diary.txt").write_text("mine")
    refused = lab("export", "runs/seats", "-o", other, "--force")
    assert refused.code == 1
    assert "was not written by d2l" in refused.err
    assert [path.name for path in other.iterdir()] == ["diary.txt"]
