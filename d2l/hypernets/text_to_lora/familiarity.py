"""How alike a description is to those that a text network was trained on: from 0 to 1.

Embeddings in, a number out: the distance to the training descriptions, calibrated with what is
known to be a description, of tasks never trained on, and what is known to be none. Reads and
writes its own file beside a checkpoint's weights.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from d2l.errors import CheckpointError
from d2l.hypernets.formats import native
from d2l.hypernets.formats.native import naming

FAMILIARITY_FILE = "familiarity.safetensors"
#: Below it a text is more likely none that says what a task is.
LEAST_FAMILIAR = 0.5

# Of 8 to 256 axes, 32 told held-out descriptions from their own words shuffled best.
_AXES = 32
_MOST_POINTS = 6000  # 64 bytes each in a checkpoint
_NEAREST = 3
_LEAST_DEVIATION = 1e-3
_STEPS = 50  # of Newton's method, which needs about ten
#: Keeps the calibration finite where both kinds lie apart: so many nats for a slope of one
#: deviation of the distances.
_RIDGE = 0.01


@dataclass(frozen=True)
class Familiarity:
    """Training descriptions as points in a space of a few axes, and the calibration.

    `mean` (embedding_size,), `axes` (axes, embedding_size), `points` (descriptions, axes). A
    distance's familiarity is 1 / (1 + exp(slope · (distance − middle))).
    """

    mean: Tensor
    axes: Tensor
    points: Tensor
    slope: float
    middle: float

    def measure(self, embedding: Tensor) -> float:
        """From 0 to 1: how probable it is that this is a description, were that as probable as
        not before; 0.5 in the middle. `embedding`: (embedding_size,), as the network reads it."""
        distance = float(measure_distances(self, embedding[None])[0])
        return 1 / (1 + math.exp(min(self.slope * (distance - self.middle), 700.0)))


def fit(training: Tensor, held_out: Tensor, unlike: Tensor) -> Familiarity:
    """Place the training descriptions and calibrate; embeddings (texts, embedding_size) each.

    `held_out` are descriptions of other tasks, `unlike` texts that are none; both kinds count the
    same, however many there are. At least two training descriptions and one text of each kind.
    Of very many training descriptions, every second or third is a point, so that files stay small.
    """
    mean, axes = _find_axes(training.double())
    kept = training[:: math.ceil(len(training) / _MOST_POINTS)]
    points = ((kept.double() - mean) @ axes.T).half().float()
    placed = Familiarity(mean.float(), axes.float(), points, 1.0, 0.0)
    slope, middle = _calibrate(
        measure_distances(placed, held_out).double(), measure_distances(placed, unlike).double()
    )
    return Familiarity(placed.mean, placed.axes, points, slope, middle)


def measure_distances(known: Familiarity, embeddings: Tensor) -> Tensor:
    """Mean distance to the nearest three training descriptions: (texts,)."""
    own = (embeddings.float() - known.mean) @ known.axes.T  # (texts, axes)
    apart = torch.cdist(own, known.points)  # (texts, descriptions)
    return apart.topk(min(_NEAREST, apart.shape[1]), dim=1, largest=False).values.mean(dim=1)


def _find_axes(training: Tensor) -> tuple[Tensor, Tensor]:
    """Mean, and the principal axes of standardized embeddings, scaled so that the training
    descriptions have a deviation of 1 along each."""
    mean = training.mean(dim=0)
    deviation = training.std(dim=0, correction=0).clamp(min=_LEAST_DEVIATION)
    _, sizes, axes = torch.linalg.svd((training - mean) / deviation, full_matrices=False)
    n_axes = min(_AXES, int((sizes > sizes[0] * 1e-4).sum()))
    lengths = sizes[:n_axes] / len(training) ** 0.5  # deviation along each axis
    return mean, axes[:n_axes] / lengths[:, None] / deviation


def _calibrate(like: Tensor, unlike: Tensor) -> tuple[float, float]:
    """Slope and middle of the logistic curve that tells distances of two kinds apart best.

    Maximum likelihood by Newton's method, each kind of weight one half.
    """
    distances = torch.cat([like, unlike])
    center, spread = distances.mean(), distances.std(correction=0).clamp(min=1e-9)
    inputs = torch.stack([(distances - center) / spread, torch.ones_like(distances)], dim=1)
    wanted = torch.cat([torch.zeros_like(like), torch.ones_like(unlike)])
    weights = torch.cat([torch.full_like(part, 0.5 / len(part)) for part in (like, unlike)])
    ridge = torch.diag(torch.tensor([_RIDGE, 1e-9], dtype=distances.dtype))
    found = torch.zeros(2, dtype=distances.dtype)
    for _ in range(_STEPS):
        chance = torch.sigmoid(inputs @ found)
        gradient = inputs.T @ (weights * (chance - wanted)) + ridge @ found
        curvature = (inputs.T * (weights * chance * (1 - chance))) @ inputs + ridge
        found = found - torch.linalg.solve(curvature, gradient)
    slope = max(float(found[0] / spread), 1e-6)  # nearer is never less familiar
    middle = float(center - found[1] / found[0].clamp(min=1e-6) * spread)
    return slope, middle


def write_familiarity(path: Path, known: Familiarity) -> None:
    """Write the file; the same values give the same bytes."""
    tensors = {
        "mean": known.mean,
        "axes": known.axes,
        "points": known.points.half(),  # rounded when they were placed
        "calibration": torch.tensor([known.slope, known.middle], dtype=torch.float32),
    }
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes its files private


def read_familiarity(folder: Path, embedding_size: int) -> Familiarity | None:
    """What lies beside a checkpoint's weights; None where there is no such file. Raises
    CheckpointError where it is damaged or of another network."""
    path = folder / FAMILIARITY_FILE
    if not path.is_file():
        return None
    tensors = native.read_tensors(path)
    with naming(path):
        n_points, n_axes = (*tensors.get("points", torch.empty(0)).shape, 0, 0)[:2]
        expected = {
            "mean": (embedding_size,),
            "axes": (n_axes, embedding_size),
            "points": (n_points, n_axes),
            "calibration": (2,),
        }
        native.check_shapes({name: t.shape for name, t in tensors.items()}, expected)
        finite = all(bool(torch.isfinite(tensor.float()).all()) for tensor in tensors.values())
        if not (n_points and n_axes and finite):
            raise CheckpointError("holds no points, or values that are not finite")
    slope, middle = tensors["calibration"].float().tolist()
    exact = {name: tensor.float() for name, tensor in tensors.items()}
    return Familiarity(exact["mean"], exact["axes"], exact["points"], slope, middle)
