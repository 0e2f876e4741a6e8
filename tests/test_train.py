"""Training on a toy task: it learns, goes on after any interruption, and leaves a checkpoint."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d2l import train as pipeline
from d2l.errors import CheckpointError, RecipeError
from d2l.recipes import Length, Recipe, Source, read_recipe
from d2l.train import learning_rate, progress
from tests import tiny
from tests.command import Command
from tests.recipes import write_data, write_recipe

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the tiny network, its base and the toy data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("D2L_CACHE", str(tmp_path / "cache"))
    tiny.write_base(tmp_path / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(tmp_path / "seats")
    write_data(tmp_path / "data")
    return tmp_path


def read_log(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text("utf-8").splitlines()]


def curve(run: Path) -> list[tuple[float, float]]:
    return [(row["step"], row["loss"]) for row in read_log(run)]


def test_a_toy_task_is_learned(place: Path) -> None:
    """Four answers are all there is. Seen: 5 at first, 1.5 at the end."""
    recipe = read_recipe(write_recipe(place / "a.toml", steps=300))
    pipeline.train(recipe, place / "run")
    losses = [row["answers"] for row in read_log(place / "run")]
    assert sum(losses[:10]) / 10 > 4
    assert sum(losses[-10:]) / 10 < 1.9
    frozen = replace(recipe, learning_rate=1e-12, steps=20)
    pipeline.train(frozen, place / "frozen")
    assert sum(row["answers"] for row in read_log(place / "frozen")[-10:]) / 10 > 4


def test_the_folder_of_a_run_is_a_checkpoint(place: Path, command: Command) -> None:
    recipe = write_recipe(place / "a.toml")
    done = command("train", recipe, "--out", "run", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {"checkpoint": "run"}
    (place / "notes.txt").write_text("The pump stands in the harbor.")
    compiled = command("compile", "notes.txt", "-o", "n.lora", "--checkpoint", "run", "--json")
    assert compiled.code == 0, compiled.err
    started, trained = (
        load_file(name / "model.safetensors") for name in (Path("seats"), Path("run"))
    )
    assert started.keys() == trained.keys()
    assert any(not torch.equal(started[name], trained[name]) for name in started)


def test_a_killed_run_goes_on_as_if_nothing_had_been(place: Path) -> None:
    """Killed with SIGKILL, so nothing can tidy up; the state is saved after every step."""
    recipe = write_recipe(place / "a.toml", steps=12, save_minutes=1e-9)
    pipeline.train(read_recipe(recipe), place / "whole")
    command = [sys.executable, "-m", "d2l", "train", str(recipe), "--out", "cut"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, cwd=place, env=environment) as child:
        log = place / "cut" / "log.jsonl"
        deadline = time.monotonic() + 60
        while not log.is_file() or len(log.read_text("utf-8").splitlines()) < 4:
            assert time.monotonic() < deadline
            assert child.poll() is None, "the run ended before it could be killed"
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
    assert len(read_log_safely(log)) < 12
    with log.open("a", encoding="utf-8") as torn:
        torn.write('{"step": 9')  # what a kill in the middle of a row leaves
    pipeline.train(read_recipe(recipe), place / "cut")
    assert curve(place / "cut") == curve(place / "whole")
    whole, cut = (load_file(place / name / "model.safetensors") for name in ("whole", "cut"))
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


def read_log_safely(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8").splitlines(keepends=True) if line[-1] == "\n"]


def test_a_finished_run_is_left_as_it_is(place: Path) -> None:
    recipe = read_recipe(write_recipe(place / "a.toml"))
    pipeline.train(recipe, place / "run")
    before = curve(place / "run")
    pipeline.train(recipe, place / "run")
    assert curve(place / "run") == before


def test_general_prompts_are_answered_once_and_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2l.seats_trainee.read_prompts", lambda: ["Hello!", "What is a noun?"])
    recipe = read_recipe(write_recipe(place / "a.toml", general_share=0.5))
    pipeline.train(recipe, place / "run")
    made = (place / "run" / "general.safetensors").read_bytes()
    assert any("general" in row for row in read_log(place / "run"))
    pipeline.train(replace(recipe, steps=4), place / "run")
    assert (place / "run" / "general.safetensors").read_bytes() == made


def test_the_state_of_another_network_is_refused(place: Path) -> None:
    recipe = read_recipe(write_recipe(place / "a.toml"))
    (place / "run").mkdir()
    torch.save({"network": {}, "optimizer": {}, "step": 1, "seconds": 1.0}, place / "run/state.pt")
    with pytest.raises(CheckpointError) as refused:
        pipeline.train(recipe, place / "run")
    assert refused.value.message == f"{place}/run/state.pt: not the state of a run like this"
    assert refused.value.hint == "delete it to start anew, or name another --out"


def test_check_reads_the_data_and_no_weights(place: Path, command: Command) -> None:
    for folder in ("seats", "tiny-org/llama-tiny"):
        (place / folder / "model.safetensors").unlink()
    recipe = write_recipe(place / "a.toml")
    done = command("train", recipe, "--check", "--json")
    assert json.loads(done.out) == {
        "sources": [{"source": "toy.jsonl", "tokens": 24, "passages": 2, "questions": 4}]
    }
    (place / "data" / "toy.jsonl").write_text('{"doc": "text"}\n{"dok": "text"}\n')
    done = command("train", recipe, "--check")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: data/toy.jsonl, line 2: not a row of training data")
    assert not (place / "run").exists()


def test_networks_that_cannot_be_trained_are_refused(place: Path) -> None:
    recipe = read_recipe(write_recipe(place / "a.toml"))
    tiny.write_doc_to_lora(place / "public", "llama")
    with pytest.raises(RecipeError, match="public: is a doc_to_lora network"):
        pipeline.check(replace(recipe, checkpoint="public"))
    long = replace(recipe, lengths=(Length(999, 1, 1, 1, 1.0),))
    with pytest.raises(RecipeError, match="tokens of a length is 999"):
        pipeline.check(long)


def make_schedule(**changes: float) -> Recipe:
    values = {"steps": 100, "hours": 0.0, "learning_rate": 2.0, "warmup_steps": 10}
    source, length = Source("toy.jsonl", 1.0), Length(24, 1, 1, 1, 1.0)
    return Recipe("seats", "data", (source,), (length,), final_share=0.1, **(values | changes))


def test_learning_rate_warms_up_and_falls_along_a_cosine() -> None:
    recipe = make_schedule()
    rates = [learning_rate(recipe, step=step, seconds=0.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.2, rel=1e-3)  # a tenth of the warm-up
    assert rates[50] == pytest.approx(2.0 * 0.55)  # half-way between 1 and 0.1
    assert rates[100] == pytest.approx(0.2)
    assert max(rates) < 2.0
    assert rates[20:] == sorted(rates[20:], reverse=True)


def test_a_run_ends_after_steps_or_hours_whichever_comes_first() -> None:
    recipe = make_schedule(steps=100, hours=1.0)
    assert progress(recipe, step=50, seconds=0.0) == 0.5
    assert progress(recipe, step=50, seconds=3600.0) == 1.0
    assert progress(make_schedule(steps=0, hours=2.0), step=10**6, seconds=3600.0) == 0.5
