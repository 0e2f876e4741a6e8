"""Familiarity of a description to a text network's training descriptions, from 0 to 1.

Embeddings in, a number out: the distance to the training descriptions, calibrated with descriptions
of other tasks and with texts that describe no task. A file beside the weights holds it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from d2l.errors import BaseModelError, CheckpointError
from d2l.hypernets.formats import native
from d2l.hypernets.formats.fields import naming

FAMILIARITY_FILE = "familiarity.safetensors"
#: Threshold: texts below are more likely no descriptions of a task.
LEAST_FAMILIAR = 0.5

_MOST_POINTS = 6000  # 64 bytes each in a checkpoint
#: Ridge of the discriminants, in mean variances: there are fewer texts than coordinates.
_SHRINKAGE = 0.03
_FURTHER = 1.5  # distance of the nearest other kind of text, in distances of the salads
_LEAST_WIDTH = 1e-3  # least variance of an axis, in that of the widest: narrower axes repeat others
_NEAREST = 3
_LEAST_DEVIATION = 1e-3
_STEPS = 50  # of Newton's method, which needs about ten
#: Penalty that keeps the calibration finite for separate kinds: nats for a slope of one deviation.
_RIDGE = 0.01


@dataclass(frozen=True)
class Familiarity:
    """Training descriptions as points in a space of a few axes, and the calibration.

    `mean` (embedding_size,), `axes` (axes, embedding_size), `points` (descriptions, axes). A
    distance's familiarity is 1 / (1 + exp(slope · (distance − middle))). `direction`
    (embedding_size,) points from descriptions to word salads; with it, embeddings are those of the
    network, without it those of bare texts.
    """

    mean: Tensor
    axes: Tensor
    points: Tensor
    slope: float
    middle: float
    direction: Tensor | None = None

    def measure(self, embedding: Tensor) -> float:
        """Probability, with equal priors, that the text describes a task; `embedding`
        (embedding_size,) is that of the network."""
        distance = float(measure_distances(self, embedding[None])[0])
        return 1 / (1 + math.exp(min(self.slope * (distance - self.middle), 700.0)))


def fit(
    training: Tensor,
    held_out: Tensor,
    unlike: Tensor,
    *,
    known_unlike: Sequence[Tensor],
    salads: Tensor,
) -> Familiarity:
    """Make points of the training descriptions, and calibrate; embeddings (texts, embedding_size).

    `held_out` are descriptions of other tasks, `unlike` other texts; both kinds have the same
    weight. At least two training descriptions and one text of each kind are needed. Of very many
    training descriptions, only every second or third is a point, so that files stay small. The
    axes separate descriptions from `known_unlike`, other kinds of text; the inner half of the
    descriptions are points. `salads` are texts without any order.
    """
    mean, axes = _find_axes(training.double(), [kind.double() for kind in known_unlike])
    kept = training[:: math.ceil(len(training) / _MOST_POINTS)]
    points = ((kept.double() - mean) @ axes.T).half().float()
    # The inner half: outer points are near to unlike texts.
    points = points[points.norm(dim=1) <= points.norm(dim=1).median()]
    direction = _find_direction(training.double(), salads.double()).float()
    # The mean of salads has distance 1, those of the other kinds `_FURTHER` or more.
    nearest = min(_measure_apart(points, (kind - mean) @ axes.T) for kind in known_unlike)
    scale = nearest / _FURTHER
    axes, points = axes / scale, (points / scale).half().float()
    placed = Familiarity(mean.float(), axes.float(), points, 1.0, 0.0, direction)
    slope, middle = _calibrate(
        measure_distances(placed, held_out).double(), measure_distances(placed, unlike).double()
    )
    return replace(placed, slope=slope, middle=middle)


def measure_distances(known: Familiarity, embeddings: Tensor) -> Tensor:
    """Measure the mean distance to the nearest three training descriptions, or the distance towards
    salads if that is larger: (texts,)."""
    centered = embeddings.float() - known.mean
    apart = _find_nearest(known.points, centered @ known.axes.T)
    if known.direction is None:
        return apart
    return torch.maximum(apart, centered @ known.direction)


def _find_nearest(points: Tensor, own: Tensor) -> Tensor:
    """Mean distance of each of `own` (texts, axes) to the nearest three of `points`: (texts,)."""
    apart = torch.cdist(own.float(), points)  # (texts, descriptions)
    return apart.topk(min(_NEAREST, apart.shape[1]), dim=1, largest=False).values.mean(dim=1)


def _measure_apart(points: Tensor, own: Tensor) -> float:
    """Measure the mean distance of a kind of texts from the points."""
    return max(float(_find_nearest(points, own).mean()), _LEAST_DEVIATION)


def _find_axes(training: Tensor, kinds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean, and axes of the space of the linear discriminants between each kind and the training
    descriptions, which are uncorrelated and have a deviation of 1 along each."""
    mean, deviation = _measure_spread(training)
    own = (training - mean) / deviation
    found = [_discriminate(own, (kind - mean) / deviation) for kind in kinds]
    directions = torch.stack(found)
    directions = directions / (own @ directions.T).std(dim=0, correction=0)[:, None]
    sizes, turned = torch.linalg.eigh(_covariance(own @ directions.T))
    wide = sizes > sizes[-1] * _LEAST_WIDTH
    axes = (turned[:, wide] / sizes[wide].sqrt()).T @ directions
    return mean, axes / deviation


def _find_direction(training: Tensor, salads: Tensor) -> Tensor:
    """The linear discriminant between training descriptions and salads, whose mean lies at 1."""
    mean, deviation = _measure_spread(training)
    other = (salads - mean) / deviation
    direction = _discriminate((training - mean) / deviation, other)
    scaled: Tensor = direction / (other @ direction).mean() / deviation
    return scaled


def _discriminate(own: Tensor, other: Tensor) -> Tensor:
    """The direction of linear discriminant analysis from `own`, whose mean is 0, to `other`."""
    spread = (_covariance(own) + _covariance(other)) / 2
    # If the base knows no word of a kind's texts, all of them are one point.
    ridge = (_SHRINKAGE * spread.diagonal().mean()).clamp(min=_LEAST_DEVIATION**2)
    regular = spread + ridge * torch.eye(len(spread)).to(spread)
    found: Tensor = torch.linalg.solve(regular, other.mean(dim=0))
    return found


def _measure_spread(training: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each coordinate."""
    deviation = training.std(dim=0, correction=0).clamp(min=_LEAST_DEVIATION)
    return training.mean(dim=0), deviation


def _covariance(points: Tensor) -> Tensor:
    centered = points - points.mean(dim=0)
    return centered.T @ centered / len(points)


def _calibrate(like: Tensor, unlike: Tensor) -> tuple[float, float]:
    """Fit slope and middle of the logistic curve that separates distances of two kinds.

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
    slope = max(float(found[0] / spread), 1e-6)  # nearer texts are never less familiar
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
    if known.direction is not None:
        tensors["direction"] = known.direction
    save_file({n: t.contiguous() for n, t in tensors.items()}, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes its files private


def read_familiarity(folder: Path, embedding_size: int) -> Familiarity | None:
    """Read the file beside a checkpoint's weights; None if there is none. Raises CheckpointError
    if it is damaged or belongs to another network."""
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
        if "direction" in tensors:
            expected["direction"] = (embedding_size,)
        native.check_shapes({name: t.shape for name, t in tensors.items()}, expected)
        native.check_finite(tensors)
        if not (n_points and n_axes):
            raise CheckpointError("holds no points")
    slope, middle = tensors["calibration"].float().tolist()
    exact = {name: tensor.float() for name, tensor in tensors.items()}
    direction = exact.get("direction")
    return Familiarity(exact["mean"], exact["axes"], exact["points"], slope, middle, direction)


def scale_embedding(vector: Tensor, name: str) -> Tensor:
    """Scale a state (hidden,) for networks: float32 on the CPU, of length √hidden. Raises
    BaseModelError, about the model `name`, if it is not finite."""
    vector = vector.float().cpu()
    length = torch.linalg.vector_norm(vector)
    if not bool(torch.isfinite(length)) or length == 0:
        raise BaseModelError(
            f"{name}: the embedding of a description is not finite",
            hint="the embedder's weights are damaged",
        )
    scaled: Tensor = vector / length * math.sqrt(len(vector))
    return scaled
