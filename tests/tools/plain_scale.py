"""How large the inputs of plain text are on a network's own base, put into its second moments.

Usage: python -m tests.tools.plain_scale CHECKPOINT
With them `d2l calibrate` on another file of the same base rescales the network's own moments; a
network without them gets moments of plain text alone there. CHECKPOINT is a folder, and its
statistics.safetensors is changed. To be run when a network's weights are final.
"""

import sys

from d2l.commands import console
from d2l.compiler.calibrate import CalibrateOptions, measure, prepare
from d2l.hypernets.seats.second_moments import FILE_NAME, write_plain_scale


def main(checkpoint: str) -> None:
    """Measure, and write into the folder."""
    plan = prepare(CalibrateOptions(checkpoint, offline=True))
    path = plan.network.files.path / FILE_NAME
    write_plain_scale(path, measure(plan, "cpu").diagonal(dim1=1, dim2=2).sqrt())
    console.result(str(path))


if __name__ == "__main__":
    main(*sys.argv[1:])
