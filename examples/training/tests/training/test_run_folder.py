import errno
import os
import resource
from pathlib import Path

import pytest
import torch
from torch import nn

from d2l.errors import RecipeError
from d2l_lab.training.optimizers import Optimizers
from d2l_lab.training.run_folder import RunFolder, TrainingRun


def make_run(value: float, step: int) -> TrainingRun:
    network = nn.Linear(64, 64)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(value)
    optimizer = Optimizers({"adamw": torch.optim.AdamW(network.parameters())})
    return TrainingRun(network, optimizer, step)


def test_a_disk_that_fills_while_a_state_is_saved_is_one_line_and_keeps_the_last(
    tmp_path: Path,
) -> None:
    """A limit on the size of files stands for the full disk: writing fails in the same way."""
    RunFolder(tmp_path).save_state(make_run(1.0, 1))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
    try:
        with pytest.raises(RecipeError) as caught, RunFolder(tmp_path).writing():
            RunFolder(tmp_path).save_state(make_run(2.0, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    reason = os.strerror(errno.EFBIG)
    assert caught.value.message == f"{tmp_path}: cannot be written ({reason})"
    assert caught.value.hint == "name another folder with --out; the last saved state is whole"
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    run = make_run(0.0, 0)
    RunFolder(tmp_path).load_state(run)
    assert (run.step, RunFolder(tmp_path).read_step()) == (1, 1)
    assert all(bool((p == 1).all()) for p in run.network.parameters())
