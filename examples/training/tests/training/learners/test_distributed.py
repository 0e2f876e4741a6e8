"""Several processes that train together, started as a user starts them."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from d2l.errors import BaseModelError, RecipeError
from d2l_lab.training import loop as pipeline
from d2l_lab.training.learners import distributed
from d2l_lab.training.learners.distributed import join_team
from d2l_lab.training.recipe_files import read_recipe
from examples.training.tests.toy import read_log, write_place, write_recipe
from tests import tiny
from tests.processes import run_python

#: Steps of one memory, too, of which one of two processes gets none.
_ANOTHER_LENGTH = """
[[lengths]]
tokens = 24
chunks = 1
memories = 1
questions = 2
weight = 1.0
"""


@pytest.fixture
def recipe(working_folder: Path) -> Path:
    """A recipe with batches that two processes cannot halve."""
    write_place(working_folder)
    path = write_recipe(working_folder / "a.toml", steps=12, device="cpu")
    text = path.read_text("utf-8").replace("memories = 2", "memories = 3")
    path.write_text(text + _ANOTHER_LENGTH, "utf-8")
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_two_processes_have_the_loss_curve_of_one(recipe: Path, tmp_path: Path) -> None:
    """fp32; what the two add up in another order differs by rounding, which 12 steps amplify."""
    pipeline.train(read_recipe(recipe), tmp_path / "one")
    launch = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "d2l")
    done = run_python(*launch, "train", recipe, "--out", "two", "--json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"checkpoint": "two"}  # printed by one of them
    one, two = read_log(tmp_path / "one"), read_log(tmp_path / "two")
    assert {row["memories"] for row in one} == {1, 3}
    assert [row["step"] for row in two] == list(range(1, 13))
    for key in ("loss", "answers", "answers_right", "gradient"):
        assert [row[key] for row in two] == pytest.approx([row[key] for row in one], abs=1e-4)
    before, first, second = (flatten_weights(tmp_path / name) for name in ("seats", "one", "two"))
    moved, apart = float((first - before).norm()), float((second - first).norm())
    assert apart < 1e-3 * moved


def flatten_weights(folder: Path) -> torch.Tensor:
    tensors = load_file(folder / "model.safetensors")
    return torch.cat([tensors[name].flatten() for name in sorted(tensors)])


@pytest.mark.usefixtures("one_thread", "recipe")
def test_mixed_precision_computes_the_network_in_bf16_and_keeps_its_weights(tmp_path: Path) -> None:
    """Eight bits of mantissa: losses of about 6 differ in the second digit behind the point."""
    full = write_recipe(tmp_path / "b.toml", steps=2)
    mixed = write_recipe(tmp_path / "c.toml", steps=2, mixed_precision="bf16")
    for path in (full, mixed):
        pipeline.train(read_recipe(path), tmp_path / path.stem)
    exact, rounded = read_log(tmp_path / "b"), read_log(tmp_path / "c")
    assert [row["loss"] for row in rounded] == pytest.approx(
        [row["loss"] for row in exact], abs=0.1
    )
    assert rounded[0]["loss"] != exact[0]["loss"]
    weights = load_file(tmp_path / "c" / "model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float32}


def test_a_device_that_is_not_there_is_refused(recipe: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    wanted = read_recipe(write_recipe(recipe, device="cuda:7"))
    with pytest.raises(BaseModelError, match="device 'cuda:7' is not available on this machine"):
        join_team(wanted)
    with pytest.raises(BaseModelError, match="unknown device 'gpu'"):
        join_team(read_recipe(write_recipe(recipe, device="gpu")))


@pytest.mark.parametrize("n_processes", [1, 2])
def test_a_card_that_is_named_becomes_the_current_one_of_a_single_process(
    recipe: Path, n_processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card and Accelerate are pretended."""
    chosen: list[object] = []

    def accelerate(**options: object) -> SimpleNamespace:
        chosen.append(options)
        return SimpleNamespace(device="cuda:1", num_processes=n_processes, is_main_process=True)

    monkeypatch.setattr(distributed, "pick_device", str)
    monkeypatch.setattr(distributed, "Accelerator", accelerate)
    monkeypatch.setattr("torch.cuda.set_device", chosen.append)
    wanted = read_recipe(write_recipe(recipe, device="cuda:1", mixed_precision="bf16"))
    if n_processes == 1:
        assert join_team(wanted).device == "cuda:1"
    else:
        with pytest.raises(RecipeError, match="2 processes cannot share it"):
            join_team(wanted)
    assert chosen == ["cuda:1", {"cpu": False, "mixed_precision": "bf16"}]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.usefixtures("one_thread", "recipe")
@pytest.mark.parametrize(("checkpoint", "kind"), [("seats", "seats"), ("public", "doc_to_lora")])
def test_a_cuda_device_has_the_loss_curve_of_the_cpu(
    tmp_path: Path, checkpoint: str, kind: str
) -> None:
    """fp32, without TF32; the public network reads in bf16 on a GPU, as its original does."""
    tiny.write_doc_to_lora(tmp_path / "public", "llama")
    for device in ("cpu", "cuda"):
        path = write_recipe(
            tmp_path / f"{device}.toml", kind, steps=3, device=device, checkpoint=checkpoint
        )
        pipeline.train(read_recipe(path), tmp_path / device)
    losses = [[row["loss"] for row in read_log(tmp_path / name)] for name in ("cpu", "cuda")]
    assert losses[1] == pytest.approx(losses[0], abs=1e-3 if checkpoint == "seats" else 0.05)
