"""How large the inputs of plain text are on a network's own base, put into its second moments.

Usage: python -m tests.tools.plain_scale CHECKPOINT
With them `d2l calibrate` on another file of the same base rescales the network's own moments; a
network without them gets moments of plain text alone there. CHECKPOINT is a folder, and its
statistics.safetensors is changed. To be run when a network's weights are final.
"""

import sys

import torch

from d2l.bases.models import load_frozen
from d2l.commands import console
from d2l.compiler.calibrate import CalibrateOptions, prepare
from d2l.hypernets.seats.calibration import measure_moments
from d2l.hypernets.seats.network import load_seats
from d2l.hypernets.seats.second_moments import FILE_NAME, write_plain_scale


def main(checkpoint: str) -> None:
    """Measure, and write into the folder."""
    plan = prepare(CalibrateOptions(checkpoint, offline=True))
    network = plan.network
    model = load_frozen(
        network.base, device="cpu", dtype=torch.float32, n_layers=network.config.layers
    )
    moments = measure_moments(load_seats(network.files.path, model), plan.pieces)
    path = network.files.path / FILE_NAME
    write_plain_scale(path, moments.diagonal(dim1=1, dim2=2).sqrt())
    console.result(str(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
