"""Curves: a moving mean, a picture that can be opened, and one line for what cannot be drawn."""

import json
import math
import random
import sys
from pathlib import Path

import pytest

from d2l.training.curves import draw_curves, smooth
from tests.command import Command


def write_run(folder: Path, n_steps: int, *, seed: int) -> Path:
    """A log as training writes it; losses fall, with noise."""
    chance = random.Random(seed)
    folder.mkdir(parents=True)
    rows = [
        {
            "step": step,
            "loss": 2 + 3 * math.exp(-step / 80) + chance.gauss(0, 0.4),
            "answers": 2 + 3 * math.exp(-step / 80) + chance.gauss(0, 0.4),
            **({"general": 0.5 + chance.random() / 10} if step % 2 else {}),
        }
        for step in range(1, n_steps + 1)
    ]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_smoothing_is_the_mean_of_the_last_values() -> None:
    assert smooth([1.0, 3.0, 5.0, 7.0], 2) == [1.0, 2.0, 4.0, 6.0]
    assert smooth([1.0, 3.0, 5.0], 9) == [1.0, 2.0, 3.0]


def test_runs_become_one_picture(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("one", "two")):
        write_run(tmp_path / "runs" / name, 300, seed=seed)
    done = command("train", "--curves", "runs/one", "runs/two", "-o", "curves.png")
    assert (done.code, done.out, done.err) == (0, "curves.png\n", "")
    data = (tmp_path / "curves.png").read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    assert (width, height) == (1080, 960)  # two panels of 9 by 4 inches, 120 dots an inch
    draw_curves([Path("runs/one")], Path("one.svg"))
    text = Path("one.svg").read_text("utf-8")
    assert "<svg" in text


def test_what_cannot_be_drawn_is_one_line(tmp_path: Path, command: Command) -> None:
    run = write_run(tmp_path / "run", 3, seed=0)
    empty = write_run(tmp_path / "empty", 0, seed=0)
    picture = tmp_path / "a.png"
    for arguments, message in (
        ((tmp_path / "none", "-o", picture), f"{tmp_path}/none/log.jsonl: cannot be read (No such"),
        ((empty, "-o", picture), f"{empty}: has made no step yet"),
        ((run, "-o", tmp_path / "a.gif"), f"{tmp_path}/a.gif: not the name of a picture"),
        ((run, "-o", tmp_path / "no" / "a.png"), f"{tmp_path}/no/a.png: cannot be written (No"),
    ):
        done = command("train", "--curves", *arguments)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith(f"error: {message}")
    assert not picture.exists()


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)  # as if it were not installed
    done = command("train", "--curves", write_run(tmp_path / "run", 3, seed=0))
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "error: drawing needs matplotlib, which is not installed\nhint: pip install 'd2l[plot]'\n"
    )


def test_several_paths_are_for_curves_only(command: Command) -> None:
    done = command("train", "a.toml", "b.toml")
    assert done.code == 2
    assert "one recipe at a time; several paths are for --curves" in done.err
