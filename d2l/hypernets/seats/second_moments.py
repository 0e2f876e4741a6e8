"""Second moments of the adapted modules' inputs on ordinary text, to which seats should not
respond.

A statistics file in, regularized second moments and their Cholesky factors out.
"""

import hashlib
import logging
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from d2l.errors import CheckpointError
from d2l.files.atomic import replace_file
from d2l.files.cache import cache_dir, keep_tensors
from d2l.files.tensors import find_tensors, view_bytes
from d2l.hypernets.formats.fields import naming
from d2l.hypernets.formats.native import check_shapes, get_shapes, read_tensors

_log = logging.getLogger(__name__)
#: Values below which factorizing takes no longer than reading a file.
_LEAST_VALUES = 1 << 20
_NAME, _CHECKSUM = "cholesky", "crc32"
#: Name of the file in a checkpoint's folder.
FILE_NAME = "statistics.safetensors"
_PLAIN = "plain_scale"  # may be there besides
_DIRECTIONS = "directions"  # in place of a correlation, in files that are shipped


@dataclass(frozen=True)
class Statistics:
    """Second moments of the attention inputs of the adapted layers `layers`.

    `correlation`: (layers, d_in * (d_in + 1) / 2), the upper triangle with its diagonal, row by
    row. `scale`: (layers, d_in). A second moment's element i, j is correlation * scale_i * scale_j;
    `ridge` times the mean diagonal, or a given `ridge_diagonal` (layers, d_in), is added to the
    diagonal. `plain_scale`: (layers, d_in), root mean squares over the plain text of calibration,
    on the base of training, if they are known. `source` names them in errors.
    """

    correlation: Tensor
    scale: Tensor
    layers: tuple[int, ...]
    ridge: float
    source: str
    ridge_diagonal: Tensor | None = None
    plain_scale: Tensor | None = None

    @property
    def n_layers(self) -> int:
        """Number of adapted layers."""
        return self.scale.shape[0]

    @property
    def d_in(self) -> int:
        """Width of the attention inputs."""
        return self.scale.shape[1]

    def second_moment(self, layer: int) -> Tensor:
        """Second moment of the base's layer `layer` with its ridge, float64: (d_in, d_in)."""
        index = self.layers.index(layer)
        scale = self.scale[index].to(torch.float64)  # (d_in,)
        packed = self.correlation[index].to(torch.float64)
        moment = packed[self._places]  # (d_in, d_in)
        moment.mul_(scale[:, None]).mul_(scale)
        if self.ridge_diagonal is None:
            moment.diagonal().add_(self.ridge * moment.diagonal().mean())
        else:
            moment.diagonal().add_(self.ridge_diagonal[index].to(torch.float64))
        return moment

    @cached_property
    def _places(self) -> Tensor:
        """Index of element i, j of a symmetric matrix in the packed triangle: (d_in, d_in)."""
        rows, columns = torch.triu_indices(self.d_in, self.d_in)
        places = torch.empty(self.d_in, self.d_in, dtype=torch.long)
        places[rows, columns] = places[columns, rows] = torch.arange(len(rows))
        return places

    @cached_property
    def cholesky(self) -> Tensor:
        """Lower Cholesky factors of all second moments, float64: (layers, d_in, d_in).

        The same for every document, so they are computed once; 72 MB for SmolLM2-135M.
        """
        moments = torch.empty(self.n_layers, self.d_in, self.d_in, dtype=torch.float64)
        for index, layer in enumerate(self.layers):
            moments[index] = self.second_moment(layer)
        factors: Tensor
        factors, info = torch.linalg.cholesky_ex(moments)
        bad = [self.layers[int(index)] for index in info.nonzero()[:, 0]]
        if bad or not bool(factors.isfinite().all()):
            raise CheckpointError(
                f"{self.source}: second moment of layer {bad[0] if bad else '?'} is not "
                "positive definite",
                hint="the file is damaged: fetch it again",
            )
        return factors


def read_statistics(path: Path, *, layers: Sequence[int], d_in: int, ridge: float) -> Statistics:
    """Read `statistics.safetensors` for these layers of the base."""
    tensors = read_tensors(path)
    if _DIRECTIONS in tensors:
        tensors = _expand(tensors, path)
    n_layers = len(layers)
    expected = {"correlation": (n_layers, d_in * (d_in + 1) // 2), "scale": (n_layers, d_in)}
    if _PLAIN in tensors:
        expected[_PLAIN] = expected["scale"]
    with naming(path):
        check_shapes(get_shapes(tensors), expected)
    return Statistics(
        tensors["correlation"],
        tensors["scale"],
        layers=tuple(layers),
        ridge=ridge,
        source=str(path),
        plain_scale=tensors.get(_PLAIN),
    )


def _expand(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Expand a shipped file: correlations are 1 between an input and itself, else those of some
    directions V (layers, directions, d_in), which are int8 with a scale each: VᵀV."""
    directions, sizes = tensors[_DIRECTIONS], tensors[f"{_DIRECTIONS}_scales"]
    if directions.ndim != 3 or directions.shape[:2] != sizes.shape:
        raise CheckpointError(f"{path}: directions do not fit their scales")
    rows, columns = torch.triu_indices(directions.shape[2], directions.shape[2])
    packed = []
    for own, size in zip(directions.float(), sizes, strict=True):
        vectors = own * size[:, None]
        correlation = vectors.mT @ vectors
        correlation.fill_diagonal_(1.0)
        packed.append(correlation[rows, columns].to(torch.float16))
    return {"correlation": torch.stack(packed), "scale": tensors["scale"]}


def pack_moments(
    moments: Tensor, *, layers: Sequence[int], ridge: float, source: str
) -> Statistics:
    """Pack second moments (layers, d_in, d_in), without ridge: correlations in fp16, scales in
    fp32."""
    scale = moments.diagonal(dim1=1, dim2=2).sqrt()  # (layers, d_in)
    correlation = moments / scale[:, :, None] / scale[:, None, :]
    rows, columns = torch.triu_indices(scale.shape[1], scale.shape[1])
    return Statistics(
        correlation[:, rows, columns].to(torch.float16).contiguous(),
        scale.to(torch.float32).contiguous(),
        layers=tuple(layers),
        ridge=ridge,
        source=source,
    )


def write_statistics(path: Path, moments: Tensor) -> None:
    """Write second moments (layers, d_in, d_in), without ridge, for `read_statistics`."""
    packed = pack_moments(moments, layers=range(len(moments)), ridge=0.0, source=str(path))
    tensors = {"correlation": packed.correlation, "scale": packed.scale}
    replace_file(path, lambda target: save_file(tensors, target))


def prepare_factors(statistics: Statistics) -> None:
    """Compute the factors of statistics, or read them from the cache."""
    if statistics.n_layers * statistics.d_in**2 < _LEAST_VALUES:
        _ = statistics.cholesky
        return
    path = factors_path(statistics)
    found = _read(path, (statistics.n_layers, statistics.d_in, statistics.d_in))
    if found is not None:
        vars(statistics)["cholesky"] = found  # the value of the cached property
        _log.info("mapped second moments' factors from %s", path)
        return
    factors = statistics.cholesky.contiguous()
    keep_tensors(path, {_NAME: factors}, {_CHECKSUM: _checksum(factors)})


def factors_path(statistics: Statistics) -> Path:
    """Path of the factors of these statistics: by their values, and by the library's version."""
    digest = hashlib.sha256(f"{torch.__version__} {statistics.ridge!r}".encode())
    for tensor in (statistics.correlation, statistics.scale, statistics.ridge_diagonal):
        if tensor is not None:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(view_bytes(tensor))
    return cache_dir() / "factors" / f"{digest.hexdigest()[:32]}.safetensors"


def _checksum(factors: Tensor) -> str:
    """CRC-32: far faster than factorizing, and enough against accidental damage."""
    return f"{zlib.crc32(view_bytes(factors)):08x}"


def _read(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """Read mapped factors of a file; None if it is missing or damaged."""
    kept = find_tensors(path)
    factors = None if kept is None else kept[0].get(_NAME)
    if kept is None or factors is None:
        return None
    fits = factors.dtype == torch.float64 and tuple(factors.shape) == shape
    return factors if fits and kept[1].get(_CHECKSUM) == _checksum(factors) else None
