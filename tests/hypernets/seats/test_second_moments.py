from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2l.errors import CheckpointError
from d2l.hypernets.seats.second_moments import Statistics, read_statistics

D_IN, LAYERS, FIRST = 5, 2, 3
ADAPTED = (FIRST, FIRST + 1)


def make_tensors() -> dict[str, torch.Tensor]:
    """Packed correlations 1 / (1 + |i - j|), which are positive definite, and scales 1, 2, 3 …"""
    triangle = [1 / (1 + j - i) for i in range(D_IN) for j in range(i, D_IN)]
    scale = torch.arange(1.0, D_IN + 1)
    correlation = torch.tensor([triangle] * LAYERS, dtype=torch.float16)
    return {"correlation": correlation, "scale": torch.stack([scale, 2 * scale])}


def read(path: Path) -> Statistics:
    return read_statistics(path, layers=ADAPTED, d_in=D_IN, ridge=0.25)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_file(make_tensors(), tmp_path / "statistics.safetensors")
    return tmp_path / "statistics.safetensors"


def test_second_moment_is_correlation_times_scales_plus_ridge(path: Path) -> None:
    moment = read(path).second_moment(FIRST + 1)
    scale = [2.0 * (i + 1) for i in range(D_IN)]
    ridge = 0.25 * sum(s * s for s in scale) / D_IN
    for i in range(D_IN):
        for j in range(D_IN):
            expected = 1 / (1 + abs(i - j)) * scale[i] * scale[j] + (ridge if i == j else 0.0)
            # correlations are stored in fp16
            assert float(moment[i, j]) == pytest.approx(expected, rel=1e-3)
    assert moment.dtype == torch.float64


def test_sizes_of_plain_text_are_kept_beside_the_moments(path: Path) -> None:
    assert read(path).plain_scale is None
    before = read(path).second_moment(FIRST)
    plain = torch.arange(1.0, 1 + LAYERS * D_IN).view(LAYERS, D_IN)
    stored = load_file(path)
    save_file({**stored, "plain_scale": plain}, path)
    after = read(path)
    assert after.plain_scale is not None
    assert torch.equal(after.plain_scale, plain)
    assert torch.equal(after.second_moment(FIRST), before)
    save_file({**stored, "plain_scale": plain[:, 1:].contiguous()}, path)
    with pytest.raises(CheckpointError, match=r"plain_scale is \(2, 4\), expected \(2, 5\)"):
        read(path)


def test_cholesky_factors_multiply_to_second_moments_and_are_kept(path: Path) -> None:
    statistics = read(path)
    for index in range(LAYERS):
        factor = statistics.cholesky[index]
        torch.testing.assert_close(factor @ factor.T, statistics.second_moment(FIRST + index))
        assert torch.equal(factor, factor.tril())
    assert statistics.cholesky is statistics.cholesky


def test_missing_and_damaged_files_are_refused_by_name(tmp_path: Path, path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"absent\.safetensors: no such file"):
        read(tmp_path / "absent.safetensors")
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(
        CheckpointError, match=r"statistics\.safetensors: is not a complete safetensors file"
    ):
        read(path)


def test_wrong_names_and_shapes_are_refused_with_what_was_expected(path: Path) -> None:
    save_file({**make_tensors(), "extra": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="unexpected extra"):
        read(path)
    tensors = make_tensors()
    save_file({**tensors, "scale": tensors["scale"][:1].clone()}, path)
    with pytest.raises(CheckpointError, match=r"scale is \(1, 5\), expected \(2, 5\)"):
        read(path)


@pytest.mark.parametrize("value", [float("nan"), 8.0])
def test_moments_that_are_not_positive_definite_are_refused(path: Path, value: float) -> None:
    tensors = make_tensors()
    tensors["correlation"][1, 1] = value  # a correlation above 1 does not exist
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match="layer 4 is not positive definite"):
        _ = read(path).cholesky
