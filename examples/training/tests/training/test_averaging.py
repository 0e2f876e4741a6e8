"""The mean of weights: which steps count, what is written, and what a run goes on with."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d2l_lab.training import loop as pipeline
from d2l_lab.training.learners.recipes import Recipe
from d2l_lab.training.recipe_files import read_recipe
from examples.training.tests.toy import change, write_place, write_recipe

pytestmark = pytest.mark.usefixtures("one_thread")

STEPS = 8


@pytest.fixture
def recipe(working_folder: Path) -> Recipe:
    """Eight steps on the toy data, of which the last half is averaged."""
    write_place(working_folder)
    path = write_recipe(
        working_folder / "a.toml", steps=STEPS, averaged_share=0.5, save_minutes=1e-9
    )
    return read_recipe(path)


def stop_after(steps: int) -> Callable[[], bool]:
    """What ends a run behind so many steps."""
    left = iter(range(steps - 1))
    return lambda: next(left, None) is None


def weights_after(recipe: Recipe, steps: int) -> dict[str, torch.Tensor]:
    """What the same run has for weights behind a step."""
    plain = change(recipe, averaged_share=0.0)
    out = Path(f"after-{steps}")
    pipeline.train(plain, out, stopping=stop_after(steps))
    return load_file(out / "model.safetensors")


def test_a_checkpoint_is_the_mean_of_the_last_part_of_a_run(recipe: Recipe) -> None:
    pipeline.train(recipe, Path("run"))
    found = load_file("run/model.safetensors")
    each = [weights_after(recipe, step) for step in range(STEPS // 2, STEPS + 1)]
    assert any(not torch.equal(found[name], each[-1][name]) for name in found)
    for name, mean in found.items():
        torch.testing.assert_close(mean, torch.stack([one[name] for one in each]).mean(0))


@pytest.mark.parametrize("steps", [2, 6])
def test_a_run_that_is_cut_goes_on_from_its_weights_not_from_their_mean(
    recipe: Recipe, steps: int
) -> None:
    pipeline.train(recipe, Path("whole"))
    pipeline.train(recipe, Path("cut"), stopping=stop_after(steps))
    pipeline.train(recipe, Path("cut"))
    logs = (Path(name, "log.jsonl").read_text("utf-8").splitlines() for name in ("whole", "cut"))
    whole, cut = ([json.loads(line)["loss"] for line in log] for log in logs)
    assert whole == cut
    first, second = (load_file(Path(name, "model.safetensors")) for name in ("whole", "cut"))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_that_goes_on_longer_begins_its_mean_anew(recipe: Recipe) -> None:
    pipeline.train(recipe, Path("run"))
    longer = change(recipe, steps=3 * STEPS, averaged_share=1 / 24)
    pipeline.train(longer, Path("run"))
    state = torch.load("run/state.pt", weights_only=True)["mean"]
    assert int(state["n_averaged"]) == 2  # behind the steps 23 and 24
