"""Folder of a run: its checkpoint, state, log and recipes.

Reads and writes them; needs no network and no loss. Every file is replaced whole, so a run that is
killed at any moment goes on from its last saved state.
"""

import contextlib
import json
import os
import pickle
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from d2l.bases.load_errors import LOAD_ERRORS
from d2l.errors import CheckpointError, RecipeError
from d2l.files.atomic import replace_file
from d2l.files.leftovers import HIDDEN, take_lock
from d2l.files.tensors import FILE_ERRORS
from d2l_lab.training.learners.recipes import Recipe
from d2l_lab.training.optimizers import Optimizers

Row = dict[str, Any]

LOG, STATE, RECIPES = "log.jsonl", "state.pt", "recipes.json"
#: Files that a process leaves if it is killed while it saves.
_LEFT_OVER = re.compile(rf"\.saving-.*|{HIDDEN}")
#: Errors of torch for files of another kind, cut short, or of other tensors.
_BROKEN = (*LOAD_ERRORS, EOFError, pickle.UnpicklingError)


@dataclass
class TrainingRun:
    """Run between two steps.

    The state file holds all of it: weights, their mean over the last steps if there is one,
    optimizer, step, seconds. The learning rate follows from step and seconds, draws from seed and
    step, and nothing else in a step is random.
    """

    network: nn.Module
    optimizer: Optimizers
    step: int = 0
    seconds: float = 0.0  # of training, over all its starts
    mean: AveragedModel | None = None  # of the weights, once there are some to average


def begin_mean(network: nn.Module) -> AveragedModel:
    """Begin a mean of equally weighted weights (Izmailov et al., Averaging Weights Leads to Wider
    Optima and Better Generalization, 2018)."""
    return AveragedModel(network).requires_grad_(False)


@dataclass(frozen=True)
class RunFolder:
    """Folder of a run at `path`: its file names, and when it is complete."""

    path: Path

    @property
    def has_log(self) -> bool:
        """True if a run was ever started here."""
        return (self.path / LOG).is_file()

    def open(self) -> None:
        """Make the folder, or check that it is a run's; raises RecipeError for other folders, whose
        files a run might replace."""
        with self.writing():
            self.path.mkdir(parents=True, exist_ok=True)
            known = self.has_log or (self.path / STATE).is_file()
            if any(self.path.iterdir()) and not known:
                raise RecipeError(
                    f"{self.path}: is not empty and holds no run",
                    hint="name another folder with --out",
                )
            (self.path / LOG).touch()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turn errors of the system (no permission, no space) into one line."""
        try:
            yield
        except FILE_ERRORS as error:
            raise RecipeError(
                f"{self.path}: cannot be written ({getattr(error, 'strerror', None) or error})",
                hint="name another folder with --out; the last saved state is whole",
            ) from error

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from training in the folder; raises RecipeError if one does.

        The system forgets the lock when the process ends. File systems without locks, and Windows,
        which opens no folders, keep nobody out.
        """
        if sys.platform == "win32":
            yield
            return
        with self.writing():
            handle = os.open(self.path, os.O_RDONLY)
        try:
            if take_lock(handle) is False:
                raise RecipeError(
                    f"{self.path}: another process trains there", hint="wait for it, or stop it"
                )
            yield
        finally:
            os.close(handle)

    def add_row(self, row: Row) -> None:
        """Append a step to the log."""
        with self.writing(), (self.path / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(row) + "\n")

    def save_state(self, run: TrainingRun) -> None:
        """Write the state."""
        state = {
            "network": run.network.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "step": run.step,
            "seconds": run.seconds,
        }
        if run.mean is not None:
            state["mean"] = run.mean.state_dict()
        replace_file(self.path / STATE, partial(_save, state))

    @contextlib.contextmanager
    def replacing(self) -> Iterator[Path]:
        """Give a hidden folder to fill; without an error, its files then replace this folder's, so
        a checkpoint is never half new."""
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=self.path) as temporary:
            yield Path(temporary)
            for path in sorted(Path(temporary).iterdir()):
                path.replace(self.path / path.name)

    def load_state(self, run: TrainingRun) -> None:
        """Load the folder's saved state, if there is one, into `run`; raises CheckpointError."""
        path = self.path / STATE
        if not path.is_file():
            return
        try:
            state = _open_state(path)
            run.network.load_state_dict(state["network"])
            run.optimizer.load_state_dict(state["optimizer"])
            run.step, run.seconds = int(state["step"]), float(state["seconds"])
            if "mean" in state:
                run.mean = begin_mean(run.network)
                run.mean.load_state_dict(state["mean"])
        except _BROKEN as error:
            raise CheckpointError(
                f"{path}: not the state of a run like this",
                hint="delete it to start anew, or name another --out",
            ) from error

    def read_step(self) -> int:
        """Read the step of the saved state; raises CheckpointError."""
        path = self.path / STATE
        try:
            return int(_open_state(path, mmap=True)["step"])
        except _BROKEN as error:
            raise CheckpointError(
                f"{path}: not the state of a run", hint="name what d2l-lab train wrote with --out"
            ) from error

    def clean(self, step: int) -> None:
        """Restore a run's folder as it was when the state of `step` was saved."""
        for path in self.path.iterdir():
            if _LEFT_OVER.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
        _trim_log(self.path / LOG, step)

    def note_recipe(self, recipe: Recipe, step: int) -> None:
        """Record the recipe of the run from `step` on, if it has changed."""
        known = [entry for entry in self.read_recipes() if entry["from_step"] < step]
        now = json.loads(json.dumps(asdict(recipe)))
        if not known or known[-1]["recipe"] != now:
            known.append({"from_step": step, "recipe": now})
        text = json.dumps(known, indent=1, ensure_ascii=False)
        replace_file(self.path / RECIPES, lambda target: target.write_text(text + "\n", "utf-8"))

    def read_recipes(self) -> list[Row]:
        """Read the recipes of the run: {"from_step", "recipe"} each, in order; [] before step 1."""
        path = self.path / RECIPES
        if not path.is_file():
            return []
        try:
            entries = json.loads(path.read_text("utf-8"))
            for entry in entries:
                if type(entry["from_step"]) is not int or not isinstance(entry["recipe"], Mapping):
                    raise TypeError("from_step or recipe is something else")
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RecipeError(
                f"{path}: not what d2l-lab train wrote", hint="name another --out"
            ) from error
        return list(entries)


def _save(state: Row, target: Path) -> None:
    """Write a state to a file that is opened here: torch then keeps the system's error."""
    try:
        with target.open("wb") as file:
            torch.save(state, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise


def _open_state(path: Path, *, mmap: bool = False) -> Row:
    """Open a state file on the CPU: weights and optimizer are copied to their devices."""
    if not zipfile.is_zipfile(path):  # torch would take it for a file of its oldest kind
        raise EOFError
    state: Row = torch.load(path, weights_only=True, map_location="cpu", mmap=mmap)
    return state


def _trim_log(path: Path, step: int) -> None:
    """Drop rows behind the saved state, whose steps are taken again, and a row cut short."""
    if not path.is_file():
        return
    lines = [line for line, row in _read_lines(path) if row["step"] <= step]
    replace_file(path, lambda target: target.write_text("".join(lines), "utf-8"))


def _read_lines(path: Path) -> Iterator[tuple[str, Row]]:
    """Yield whole lines and their rows; a last line that was cut short is left out."""
    try:
        lines = path.read_text("utf-8").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise RecipeError(
            f"{path}: cannot be read ({reason})", hint="name the folder of a run of d2l-lab train"
        ) from error
    for number, line in enumerate(lines, start=1):
        if not line.endswith("\n"):
            return
        try:
            row = json.loads(line)
            if type(row["step"]) is not int or not isinstance(row["loss"], float):
                raise TypeError("step or loss is no number")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise RecipeError(
                f"{path}, line {number}: not a row of a run's log", hint="name another folder"
            ) from error
        yield line, row
