"""Cholesky factors of second moments on disk: factorized at the first start, mapped at later ones.

Statistics in; the factors that they would compute themselves are theirs afterwards, to the bit. A
file that is damaged or of other statistics is not used, and replaced.
"""

import contextlib
import hashlib
import logging
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from d2l.files.atomic import replace_file
from d2l.files.cache import cache_dir
from d2l.files.tensors import FILE_ERRORS, find_kept
from d2l.hypernets.seats.second_moments import Statistics

_log = logging.getLogger(__name__)
#: Values below which factorizing takes no longer than reading a file.
_LEAST_VALUES = 1 << 20
_NAME, _CHECKSUM = "cholesky", "crc32"


def prepare_factors(statistics: Statistics) -> None:
    """Give statistics their factors, from the cache where they are there, else into it."""
    if statistics.n_layers * statistics.d_in**2 < _LEAST_VALUES:
        _ = statistics.cholesky
        return
    path = factors_path(statistics)
    found = _read(path, (statistics.n_layers, statistics.d_in, statistics.d_in))
    if found is not None:
        vars(statistics)["cholesky"] = found  # where its cached property keeps what it computed
        _log.info("mapped second moments' factors from %s", path)
        return
    factors = statistics.cholesky
    with contextlib.suppress(*FILE_ERRORS):  # without a cache it takes longer
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda target: _write(target, factors))


def factors_path(statistics: Statistics) -> Path:
    """Where the factors of these statistics lie: by their values, and by who factorizes."""
    digest = hashlib.sha256(f"{torch.__version__} {statistics.ridge!r}".encode())
    for tensor in (statistics.correlation, statistics.scale, statistics.ridge_diagonal):
        if tensor is not None:
            digest.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
    return cache_dir() / "factors" / f"{digest.hexdigest()[:32]}.safetensors"


def _checksum(factors: Tensor) -> str:
    """CRC-32, which is far quicker than factorizing: what damages a file here is no attacker."""
    return f"{zlib.crc32(_bytes(factors)):08x}"


def _bytes(tensor: Tensor) -> memoryview:
    """The bytes of a tensor on the CPU, not copied."""
    values: Any = tensor.contiguous().numpy()
    return memoryview(values).cast("B")


def _write(path: Path, factors: Tensor) -> None:
    plain = factors.contiguous()
    save_file({_NAME: plain}, path, {_CHECKSUM: _checksum(plain)})


def _read(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """The factors of a file, mapped; None where there is none, or a damaged one."""
    kept = find_kept(path)
    factors = None if kept is None else kept[0].get(_NAME)
    if kept is None or factors is None:
        return None
    fits = factors.dtype == torch.float64 and tuple(factors.shape) == shape
    return factors if fits and kept[1].get(_CHECKSUM) == _checksum(factors) else None
