"""Training loop: a recipe → a hypernetwork checkpoint; an interrupted run goes on.

Draws and loss come from a `Learner`; the folder of a run, itself a checkpoint, from `run_folder`.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from d2l.bases.devices import pick_device
from d2l.errors import CheckpointError
from d2l.hypernets.network import Config, Network
from d2l.hypernets.networks import open_network
from d2l_lab.training.learners.learner import Figure, Learner, Materials, Row
from d2l_lab.training.learners.recipes import Recipe, refuse_other_kinds
from d2l_lab.training.learners.seats.learner import count_seats_data, gather_seats, prepare_seats
from d2l_lab.training.learners.text_to_lora.learner import count_text, gather_text, prepare_text
from d2l_lab.training.optimizers import make_optimizers
from d2l_lab.training.run_folder import RunFolder, TrainingRun, begin_mean

Watch = Callable[[Row], None]  # gets the log's row of each step
Warn = Callable[[str], None]  # gets warnings


@dataclass(frozen=True)
class TrainingKind(Generic[Config]):
    """Kind of network in training: `gather` reads its data, `count` counts them, `prepare` loads
    the weights. The loop knows nothing else of a kind."""

    gather: Callable[[Recipe, Network[Config]], Materials[Config]]
    count: Callable[[Materials[Config]], list[Row]]
    prepare: Callable[[Materials[Config], Path, str], Learner]


KINDS: dict[str, TrainingKind[Any]] = {
    "seats": TrainingKind(gather_seats, count_seats_data, prepare_seats),
    "text_to_lora": TrainingKind(gather_text, count_text, prepare_text),
}


def ignore(_: object) -> None:
    """Ignore rows and warnings."""


def train(
    recipe: Recipe,
    out: Path,
    *,
    watch: Watch = ignore,
    stopping: Callable[[], bool] = lambda: False,
    warn: Warn = ignore,
) -> None:
    """Train in the folder `out` until the recipe's end; raises D2LError.

    An interrupted run goes on from its last saved state. If `stopping` returns true, the run ends
    after its step, with its state saved.
    """
    device = pick_device(recipe.device)
    materials = gather(recipe, warn)
    folder = RunFolder(out)
    folder.open()
    with folder.alone():
        learner = KINDS[materials.config.kind].prepare(materials, out, device)
        network = learner.network.train().requires_grad_(True)
        run = TrainingRun(network, make_optimizers(network, recipe))
        folder.load_state(run)
        folder.clean(run.step)
        folder.note_recipe(recipe, run.step)
        saved, stopped = time.monotonic(), False
        while progress(recipe, step=run.step, seconds=run.seconds) < 1 and not stopped:
            row = train_step(run, learner, recipe)
            stopped = stopping()
            folder.add_row(row)
            watch(row)
            if time.monotonic() - saved > recipe.save_minutes * 60:
                save(run, learner, folder)
                saved = time.monotonic()
        save(run, learner, folder)


def train_step(run: TrainingRun, learner: Learner, recipe: Recipe) -> Row:
    """Take a step: draw, loss, update. Returns its row of the log."""
    started = time.monotonic()
    drawn = learner.draw(run.step)
    run.optimizer.zero_grad()
    total, figures = 0.0, list[Figure]()
    for share in learner.measure(drawn):
        share.total.backward()  # type: ignore[no-untyped-call]
        total += float(share.total.detach())
        figures += share.figures
    norm = float(torch.nn.utils.clip_grad_norm_(run.network.parameters(), recipe.optimizer.clip))
    rate = learning_rate(recipe, step=run.step, seconds=run.seconds)
    if math.isfinite(norm):  # a broken batch is skipped, and seen in the log
        run.optimizer.step(rate)
    run.step += 1
    run.seconds += time.monotonic() - started
    average(run, recipe)
    return {
        "step": run.step,
        **learner.describe(drawn),
        "loss": round(total, 6),
        **summarize(figures),
        "gradient": round(norm, 4),
        "rate": rate,
        "seconds": round(run.seconds, 1),
    }


def average(run: TrainingRun, recipe: Recipe) -> None:
    """Add the weights after a step to their mean, in the last part of the run that the recipe
    averages."""
    share = recipe.optimizer.averaged_share
    done = progress(recipe, step=run.step, seconds=run.seconds)
    if share == 0 or done < 1 - share:
        run.mean = None  # of a run whose recipe was made longer
        return
    if run.mean is None:
        run.mean = begin_mean(run.network)
    run.mean.update_parameters(run.network)


def summarize(figures: Sequence[Figure]) -> Row:
    """Average over the questions and, apart, over the general prompts."""
    result = {}
    for kind in ("answers", "general"):
        chosen = [figure for figure in figures if figure.kind == kind]
        if chosen:
            result[kind] = round(sum(figure.loss for figure in chosen) / len(chosen), 6)
            right = sum(figure.right for figure in chosen) / len(chosen)
            result[f"{kind}_right"] = round(right, 4)
    return result


def learning_rate(recipe: Recipe, *, step: int, seconds: float) -> float:
    """Compute the rate: linear warm-up, then a cosine over steps or hours, whichever end first."""
    warm = min((step + 1) / max(recipe.optimizer.warmup_steps, 1), 1.0)
    done = min(progress(recipe, step=step, seconds=seconds), 1.0)
    final = recipe.optimizer.final_share
    share = final + (1 - final) * (1 + math.cos(math.pi * done)) / 2
    return recipe.optimizer.learning_rate * warm * share


def progress(recipe: Recipe, *, step: int, seconds: float) -> float:
    """Compute the finished part of the run; 1 or more at its end."""
    by_steps = step / recipe.steps if recipe.steps > 0 else 0.0
    by_hours = seconds / (recipe.hours * 3600) if recipe.hours > 0 else 0.0
    return max(by_steps, by_hours)


def save(run: TrainingRun, learner: Learner, folder: RunFolder) -> None:
    """Write the state, and the checkpoint of the network or of its mean weights; each file whole or
    not."""
    with folder.writing():
        folder.save_state(run)
        with folder.replacing() as filled, stand_in(run.mean, run.network):
            learner.write(filled)


@contextmanager
def stand_in(mean: AveragedModel | None, network: nn.Module) -> Iterator[None]:
    """Temporarily give `network` the weights of the mean, if there is one."""
    if mean is None:
        yield
        return
    own = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    try:
        network.load_state_dict(mean.module.state_dict())
        yield
    finally:
        network.load_state_dict(own)


def check(recipe: Recipe, warn: Warn = ignore) -> list[Row]:
    """Read all of a recipe's data, no weights; returns counts by source and length."""
    materials = gather(recipe, warn)
    return KINDS[materials.config.kind].count(materials)


def gather(recipe: Recipe, warn: Warn = ignore) -> Materials[Any]:
    """Find the checkpoint and its base, and read the data; raises D2LError. `warn` gets a warning
    if the recipe's base does not look like the checkpoint's."""
    network = open_network(recipe.checkpoint, base=recipe.base, offline=recipe.offline)
    kind = network.config.kind
    if kind not in KINDS:
        raise CheckpointError(f"{recipe.checkpoint}: d2l-lab trains no {kind} networks")
    refuse_other_kinds(recipe, kind)
    for message in network.warnings:  # the base must be there and fit, before any data is read
        warn(message)
    return KINDS[kind].gather(recipe, network)
