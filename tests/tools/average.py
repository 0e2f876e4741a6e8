"""The mean of two runs' weights, as a run that `d2l checkpoints export` writes as a checkpoint.

Usage: python -m tests.tools.average RUN OTHER OUT   (OUT: a copy of RUN but for its weights)
The runs are of one network: OTHER began with the weights of RUN, or both with the same.
"""

import shutil
import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file

from d2l.commands import console

WEIGHTS = "model.safetensors"


def main(run: str, other: str, out: str) -> None:
    """Write the mean of every tensor, in the first run's precision."""
    first, second = (load_file(Path(one, WEIGHTS)) for one in (run, other))
    assert first.keys() == second.keys(), f"{run} and {other} are runs of different networks"
    shutil.copytree(run, out)
    with safe_open(Path(run, WEIGHTS), "pt") as opened:
        metadata = opened.metadata()
    mean = {name: tensor.lerp(second[name], 0.5) for name, tensor in first.items()}
    save_file(mean, Path(out, WEIGHTS), metadata)
    console.result(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
