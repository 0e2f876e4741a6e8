"""Training on a toy task: it learns, goes on after any interruption, and leaves a checkpoint."""

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from d2l.errors import CheckpointError, RecipeError
from d2l_lab.training import loop as pipeline
from d2l_lab.training.learners.learner import Row
from d2l_lab.training.learners.recipes import DataSource, Length, Recipe
from d2l_lab.training.loop import learning_rate, progress
from d2l_lab.training.recipe_files import read_recipe
from d2l_lab.training.run_folder import RunFolder, TrainingRun
from examples.training.tests.toy import Lab, change, read_log, write_place, write_recipe
from tests.command import Command
from tests.processes import make_environment, run_python
from tests.refusals import refuse

#: Program of a process that runs d2l-lab.
RUN = "from d2l_lab.commands.main import main; main()"
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def place(working_folder: Path) -> Path:
    """A working folder with the tiny network, its base and the toy data."""
    return write_place(working_folder)


def curve(run: Path) -> list[tuple[float, float]]:
    return [(row["step"], row["loss"]) for row in read_log(run)]


@pytest.mark.slow
def test_a_toy_task_is_learned(place: Path) -> None:
    """Four answers are all there is. Seen: 5.5 at first, 1.4 at the end; with AdamW, 2.1."""
    changes = {"steps": 150, "name": "muon", "learning_rate": 0.03}
    recipe = read_recipe(write_recipe(place / "a.toml", **changes))
    pipeline.train(recipe, place / "run")
    losses = [row["answers"] for row in read_log(place / "run")]
    assert sum(losses[:10]) / 10 > 4
    assert sum(losses[-10:]) / 10 < 1.8
    frozen = change(recipe, learning_rate=1e-12, steps=10)
    pipeline.train(frozen, place / "frozen")
    assert sum(row["answers"] for row in read_log(place / "frozen")) / 10 > 4


def test_a_base_that_lies_elsewhere_is_named(place: Path, lab: Lab) -> None:
    (place / "tiny-org" / "llama-tiny").rename(place / "moved")
    recipe = write_recipe(place / "a.toml", steps=1)
    done = lab("train", recipe, "--offline")
    assert (done.code, place.joinpath("run").exists()) == (1, False)
    done = lab("train", recipe, "--offline", "--base", "moved", "--json")
    assert done.code == 0
    assert done.err.startswith("warning: the checkpoint was trained for tiny-org/llama-tiny, and")


def test_the_folder_of_a_run_is_a_checkpoint(place: Path, command: Command, lab: Lab) -> None:
    recipe = write_recipe(place / "a.toml")
    done = lab("train", recipe, "--out", "run", "--json")
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


def start_training(place: Path, recipe: Path, out: str) -> "subprocess.Popen[str]":
    """`d2l-lab train` as a process of its own, which can be killed."""
    return subprocess.Popen(
        [sys.executable, "-c", RUN, "train", str(recipe), "--out", out],
        cwd=place,
        env=make_environment(),
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_for(happens: Callable[[], bool], child: "subprocess.Popen[str]") -> None:
    deadline = time.monotonic() + 240
    while not happens():
        assert time.monotonic() < deadline
        assert child.poll() is None, "the run ended before it could be stopped"
        time.sleep(0.002)


def count_rows(log: Path) -> int:
    return log.read_text("utf-8").count("\n") if log.is_file() else 0


def assert_same_run(first: Path, second: Path) -> None:
    assert curve(first) == curve(second)
    before, after = (load_file(run / "model.safetensors") for run in (first, second))
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_a_killed_run_goes_on_as_if_nothing_had_been(place: Path) -> None:
    """Killed with SIGKILL at a moment of chance, so nothing can tidy up; a state every step."""
    recipe = write_recipe(place / "a.toml", steps=12, save_minutes=1e-9)
    pipeline.train(read_recipe(recipe), place / "whole")
    cut = place / "cut"
    with start_training(place, recipe, "cut") as child:
        wait_for(lambda: count_rows(cut / "log.jsonl") >= 4, child)
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert count_rows(cut / "log.jsonl") < 12
    with (cut / "log.jsonl").open("a", encoding="utf-8") as torn:
        torn.write('{"step": 9')  # what a kill in the middle of a row leaves
    pipeline.train(read_recipe(recipe), cut)
    assert_same_run(place / "whole", cut)
    assert {path.name for path in cut.iterdir()} == {path.name for path in Path("whole").iterdir()}


#: Forks a run for every file that one renames, which kills itself with SIGKILL just before.
_KILL_AT_EVERY_RENAME = """
import os, signal, sys
from pathlib import Path
from d2l.files import atomic
from d2l_lab.training.recipe_files import read_recipe
from d2l_lab.training.loop import train
recipe, calls = read_recipe(Path(sys.argv[1])), 0
def counted(rename):
    def count_down(path, target):
        global calls
        calls -= 1
        if calls == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)
    return count_down
Path.replace, atomic.move_if_free = counted(Path.replace), counted(atomic.move_if_free)
for kill_at in range(1, 99):
    child = os.fork()
    if not child:
        calls = kill_at
        train(recipe, Path(f"cut{kill_at}"))
        os._exit(0)
    if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
        break
"""


@pytest.mark.slow
def test_a_run_killed_in_the_middle_of_any_saving_goes_on(place: Path) -> None:
    recipe = write_recipe(place / "a.toml", steps=2, save_minutes=1e-9)
    pipeline.train(read_recipe(recipe), place / "first")  # what the cache keeps is renamed, too
    done = run_python("-c", _KILL_AT_EVERY_RENAME, recipe, folder=place)
    assert done.returncode == 0, done.stderr
    *cut, whole = sorted(place.glob("cut*"), key=lambda run: int(run.name[3:]))
    assert len(cut) == 14  # the log, the recipe, and four files of each of three savings
    left = [{path.stem for path in run.glob(".*/*")} for run in cut]
    assert set().union(*left) == {"log", "recipes", "state", "config", "statistics", "model"}
    for run in cut:
        pipeline.train(read_recipe(recipe), run)
        assert_same_run(whole, run)
        assert {path.name for path in run.iterdir()} == {path.name for path in whole.iterdir()}


@pytest.mark.slow
def test_an_interrupted_run_saves_its_state_and_says_how_to_go_on(place: Path) -> None:
    recipe = write_recipe(place / "a.toml", steps=400)
    with start_training(place, recipe, "cut") as child:
        wait_for(lambda: count_rows(place / "cut" / "log.jsonl") >= 2, child)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate()
    assert (child.returncode, out) == (130, "")
    assert err.splitlines() == [
        "stopping after this step; a second time ends at once, at the state saved last",
        "stopped, the state is saved: the same command goes on (cut)",
    ]
    n_rows = len(read_log(place / "cut"))
    state = torch.load(place / "cut" / "state.pt", weights_only=True)
    assert 2 <= state["step"] == n_rows < 400


def test_a_run_that_is_stopped_and_goes_on_has_the_curve_of_one_that_was_not(place: Path) -> None:
    recipe = read_recipe(write_recipe(place / "a.toml", steps=6, name="muon"))
    pipeline.train(recipe, place / "whole")
    answers = iter([False, True, True])
    for _ in range(3):
        pipeline.train(recipe, place / "cut", stopping=lambda: next(answers, False))
    assert_same_run(place / "whole", place / "cut")


def test_statistics_are_measured_once_a_run_and_belong_to_its_checkpoint(place: Path) -> None:
    given = (place / "seats" / "statistics.safetensors").read_bytes()
    recipe = read_recipe(write_recipe(place / "a.toml", statistics_draws=2, steps=4))
    pipeline.train(recipe, place / "whole")
    own = (place / "whole" / "statistics.safetensors").read_bytes()
    assert own != given
    answers = iter([False, True])
    for _ in range(2):
        pipeline.train(recipe, place / "cut", stopping=lambda: next(answers, False))
    assert curve(place / "whole") == curve(place / "cut")
    assert (place / "cut" / "statistics.safetensors").read_bytes() == own
    pipeline.train(change(recipe, statistics_draws=0), place / "other")
    assert (place / "other" / "statistics.safetensors").read_bytes() == given
    assert curve(place / "other") != curve(place / "whole")


def test_a_fresh_network_learns_without_the_checkpoints_weights(place: Path) -> None:
    (place / "seats" / "model.safetensors").unlink()
    recipe = read_recipe(write_recipe(place / "a.toml", fresh=True, steps=3))
    pipeline.train(recipe, place / "run")
    pipeline.train(replace(recipe, seed=2), place / "other")
    assert curve(place / "run")[0] != curve(place / "other")[0]


def test_two_runs_in_one_folder_are_refused(place: Path) -> None:
    recipe = read_recipe(write_recipe(place / "a.toml", steps=2))
    refused: list[str] = []

    def start_another(row: Row) -> None:
        with pytest.raises(RecipeError) as caught:
            pipeline.train(recipe, place / "run")
        refused.append(f"{row['step']}: {caught.value.message}")

    pipeline.train(recipe, place / "run", watch=start_another)
    message = f"{place}/run: another process trains there"
    assert refused == [f"1: {message}", f"2: {message}"]
    assert [row["step"] for row in read_log(place / "run")] == [1, 2]
    pipeline.train(recipe, place / "run")  # and the folder is free again


def test_the_recipes_of_a_run_are_kept(place: Path) -> None:
    recipe = read_recipe(write_recipe(place / "a.toml", steps=2))
    for steps in (2, 2, 4):
        pipeline.train(replace(recipe, steps=steps), place / "run")
    entries = json.loads((place / "run" / "recipes.json").read_text("utf-8"))
    assert [(entry["from_step"], entry["recipe"]["steps"]) for entry in entries] == [(0, 2), (2, 4)]
    assert entries[0]["recipe"]["sources"][0]["path"] == "toy.jsonl"


def test_a_folder_that_holds_something_else_is_left_alone(place: Path) -> None:
    recipe = read_recipe(write_recipe(place / "a.toml"))
    with pytest.raises(RecipeError, match="seats: is not empty and holds no run"):
        pipeline.train(recipe, Path("seats"))
    assert len(list(Path("seats").iterdir())) == 3
    with pytest.raises(RecipeError, match=r"a\.toml: cannot be written"):
        pipeline.train(recipe, Path("a.toml"))


def test_a_finished_run_is_left_as_it_is(place: Path) -> None:
    recipe = read_recipe(write_recipe(place / "a.toml"))
    pipeline.train(recipe, place / "run")
    before = curve(place / "run")
    pipeline.train(recipe, place / "run")
    assert curve(place / "run") == before


def test_general_prompts_are_answered_once_and_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "d2l_lab.training.learners.seats.learner.read_prompts",
        lambda: ["Hello!", "What is a noun?"],
    )
    recipe = read_recipe(write_recipe(place / "a.toml", general_share=0.5))
    pipeline.train(recipe, place / "run")
    assert any("general" in row for row in read_log(place / "run"))
    monkeypatch.setattr(
        "d2l_lab.training.learners.seats.learner.make_general", None
    )  # not called again
    pipeline.train(replace(recipe, steps=4), place / "run")
    pipeline.train(recipe, place / "another run")


def test_check_reads_the_data_and_no_weights(place: Path, lab: Lab) -> None:
    for folder in ("seats", "tiny-org/llama-tiny"):
        (place / folder / "model.safetensors").unlink()
    recipe = write_recipe(place / "a.toml")
    done = lab("train", recipe, "--dry-run", "--json")
    assert json.loads(done.out) == {
        "sources": [{"source": "toy.jsonl", "tokens": 24, "passages": 2, "questions": 4}]
    }
    (place / "data" / "toy.jsonl").write_text('{"doc": "text"}\n{"dok": "text"}\n')
    done = lab("train", recipe, "--dry-run")
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("error: data/toy.jsonl, line 2: not a row of training data")
    assert not (place / "run").exists()


def test_data_without_anything_to_ask_are_refused_by_check(place: Path) -> None:
    (place / "data" / "toy.jsonl").write_text('{"doc": "Pump. Valve. Filter. Lantern."}\n')
    recipe = read_recipe(write_recipe(place / "a.toml"))
    with pytest.raises(RecipeError, match="the data hold hardly any question"):
        pipeline.check(recipe)


def pack_state() -> bytes:
    """The state of another network."""
    stream = io.BytesIO()
    torch.save({"network": {}, "optimizer": {}, "step": 1, "seconds": 1.0}, stream)
    return stream.getvalue()


@pytest.mark.parametrize("content", [b"", b"torn", b"PK\x03\x04 torn", pack_state()])
def test_a_state_that_is_damaged_or_anothers_is_refused(place: Path, content: bytes) -> None:
    recipe = read_recipe(write_recipe(place / "a.toml"))
    (place / "run").mkdir()
    (place / "run" / "state.pt").write_bytes(content)
    assert refuse(CheckpointError, pipeline.train, recipe, place / "run") == (
        f"{place}/run/state.pt: not the state of a run like this",
        "delete it to start anew, or name another --out",
    )


def test_the_log_of_something_else_is_refused(place: Path) -> None:
    recipe = read_recipe(write_recipe(place / "a.toml"))
    (place / "run").mkdir()
    (place / "run" / "log.jsonl").write_text('{"step": 1, "loss": 2.5}\n{"event": 2}\n')
    with pytest.raises(RecipeError, match=r"log\.jsonl, line 2: not a row of a run's log"):
        pipeline.train(recipe, place / "run")


def make_schedule(**changes: Any) -> Recipe:
    source, length = DataSource("toy.jsonl", 1.0), Length(24, 1, 1, 1, 1.0)
    recipe = Recipe("seats", "data", (source,), (length,), steps=100)
    return change(recipe, learning_rate=2.0, warmup_steps=10, final_share=0.1, **changes)


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


def test_a_checkpoint_that_cannot_be_written_whole_leaves_the_one_before(tmp_path: Path) -> None:
    """A stand-in for a network that is cut short between its two files, as by a full disk."""

    class CutShort:
        def __init__(self, *, whole: bool, text: str) -> None:
            self.whole, self.text = whole, text

        def write(self, folder: Path) -> None:
            (folder / "config.json").write_text(self.text)
            if not self.whole:
                raise OSError(28, "No space left on device")
            (folder / "model.safetensors").write_text(self.text)

    network = torch.nn.Linear(2, 2)
    optimizer: Any = torch.optim.SGD(network.parameters(), lr=0.1)
    run = TrainingRun(network, optimizer)
    pipeline.save(run, CutShort(whole=True, text="first"), RunFolder(tmp_path))  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="No space left on device"):
        pipeline.save(run, CutShort(whole=False, text="second"), RunFolder(tmp_path))  # type: ignore[arg-type]
    names = ("config.json", "model.safetensors")
    assert [(tmp_path / name).read_text() for name in names] == ["first", "first"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "state.pt"]
