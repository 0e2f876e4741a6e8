"""Second moments of a base as the few directions that the package ships.

Correlations between inputs lie near a space of few directions: those of 100 have about the leak of
moments that were measured on a third of the text, in a fifteenth of the bytes.
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from d2l.hypernets.seats.second_moments import read_statistics

_DIRECTIONS, _ROUNDS = 100, 5


def find_directions(correlation: Tensor) -> Tensor:
    """Find V (directions, d_in) whose VᵀV comes nearest to a correlation (d_in, d_in) off its
    diagonal: principal factors, with a few rounds for the diagonal."""
    diagonal = torch.zeros(len(correlation), dtype=correlation.dtype)
    for _ in range(_ROUNDS):
        values, vectors = torch.linalg.eigh(correlation - torch.diag(diagonal))
        largest = values[-_DIRECTIONS:].clamp(min=0).sqrt()
        found = vectors[:, -_DIRECTIONS:] * largest
        diagonal = (1 - found.square().sum(dim=1)).clamp(min=1e-3)
    return found.T


def main(source: Path, target: Path, n_layers: int, d_in: int) -> None:
    """Read measured moments, and write those that are shipped."""
    moments = read_statistics(source, layers=range(n_layers), d_in=d_in, ridge=0.0)
    found = []
    for layer in range(n_layers):
        scale = moments.scale[layer].double()
        found.append(find_directions(moments.second_moment(layer) / scale[:, None] / scale))
    directions = torch.stack(found).float()
    scales = directions.abs().amax(dim=2) / 127
    rounded = (directions / scales[..., None]).round().to(torch.int8)
    save_file({"directions": rounded, "directions_scales": scales, "scale": moments.scale}, target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
