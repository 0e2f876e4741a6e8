"""The mean of two runs' weights, as a run that `d2l checkpoints export` writes as a checkpoint.

Usage: python -m tests.tools.average RUN OTHER OUT [SHARE]
OUT is a copy of RUN but for its weights; SHARE, how much of the mean is OTHER's, one half unless
told. The runs are of one network: OTHER began with the weights of RUN, or both with the same. An
exported checkpoint stands for OTHER, too: its 8-bit rows are read as the numbers they stand for.
"""

import shutil
import sys
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file

from d2l.commands import console
from d2l.hypernets.formats.int8 import read_weights

WEIGHTS = "model.safetensors"


def main(run: str, other: str, out: str, share: str = "0.5") -> None:
    """Write the mean of every tensor, in the first run's precision."""
    first, second = (read_weights(Path(one, WEIGHTS)) for one in (run, other))
    assert first.keys() == second.keys(), f"{run} and {other} are runs of different networks"
    shutil.copytree(run, out)
    with safe_open(Path(run, WEIGHTS), "pt") as opened:
        metadata = opened.metadata()
    mean = {name: tensor.lerp(second[name], float(share)) for name, tensor in first.items()}
    save_file(mean, Path(out, WEIGHTS), metadata)
    console.result(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
