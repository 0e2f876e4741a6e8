"""Familiarity: near is familiar, far is not, and the curve is the likeliest one."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2l.errors import CheckpointError
from d2l.hypernets.familiarity import (
    FAMILIARITY_FILE,
    Familiarity,
    fit,
    measure_distances,
    read_familiarity,
    write_familiarity,
)

SIZE = 12


def draw(n: int, seed: int, *, shift: float = 0.0) -> torch.Tensor:
    """Points whose first coordinate is a hundred times as wide as the others."""
    generator = torch.Generator().manual_seed(seed)
    widths = torch.tensor([100.0] + [1.0] * (SIZE - 1))
    return (torch.randn(n, SIZE, generator=generator) + shift) * widths


def fit_to(training: torch.Tensor, like: torch.Tensor, unlike: torch.Tensor) -> Familiarity:
    """Fit with other kinds of text that are three deviations off in each coordinate."""
    kinds, salads = [draw(60, 21, shift=3.0)], draw(60, 22, shift=3.0)
    return fit(training, like, unlike, known_unlike=kinds, salads=salads)


@pytest.fixture
def known():
    return fit_to(draw(300, 0), draw(80, 1), draw(90, 2, shift=3.0))


def test_like_is_familiar_and_unlike_is_not(known) -> None:
    like = [known.measure(one) for one in draw(50, 3)]
    unlike = [known.measure(one) for one in draw(50, 4, shift=3.0)]
    assert min(like) > 0.5 > max(unlike)
    assert all(0 <= value <= 1 for value in like + unlike)
    assert known.measure(draw(1, 5, shift=1e6)[0]) < 1e-100  # no overflow


def test_of_very_many_descriptions_some_are_points() -> None:
    many = fit_to(draw(6001, 10), draw(80, 1), draw(90, 2, shift=3.0))
    assert len(many.points) == pytest.approx(1501, abs=10)  # the inner half of every second
    assert many.measure(draw(1, 3)[0]) > 0.5 > many.measure(draw(1, 4, shift=3.0)[0])


def test_distances_are_those_to_the_nearest_three_or_towards_salads(known) -> None:
    for one, got in zip(new := draw(5, 9), measure_distances(known, new), strict=True):
        apart = (known.points - known.axes @ (one - known.mean)).norm(dim=1).sort().values[:3]
        expected = max(float(apart.mean()), float(known.direction @ (one - known.mean)))
        assert float(got) == pytest.approx(expected, rel=1e-3)


def test_both_kinds_count_the_same_however_many_there_are() -> None:
    """Ten times as many of one kind, alike, move the middle by next to nothing: the ridge, which
    goes by the spread of all distances, is what is left. Unweighted it moves by two fifths."""
    training, like, unlike = draw(300, 0), draw(40, 1), draw(40, 2, shift=1.0)
    once, often = (fit_to(training, like, some) for some in (unlike, unlike.repeat(10, 1)))
    assert often.middle == pytest.approx(once.middle, rel=2e-2)
    assert often.slope == pytest.approx(once.slope, rel=0.25)


def test_the_curve_is_the_likeliest_one() -> None:
    training, like, unlike = draw(300, 0), draw(60, 1), draw(60, 2, shift=0.7)
    known = fit_to(training, like, unlike)
    near, far = measure_distances(known, like), measure_distances(known, unlike)

    def lose(slope: float, middle: float) -> float:
        said = [torch.sigmoid(slope * (apart - middle)).double() for apart in (near, far)]
        fits = -(1 - said[0]).log().mean() - said[1].log().mean()
        spread = torch.cat([near, far]).std(correction=0)
        return float(fits / 2 + 0.01 * (slope * spread) ** 2 / 2)

    best = lose(known.slope, known.middle)
    for factor in (0.8, 1.25):
        assert lose(known.slope * factor, known.middle) > best
    for step in (-0.3, 0.3):
        assert lose(known.slope, known.middle + step) > best


def test_axes_tell_kinds_apart_that_differ_in_one_coordinate() -> None:
    """Two kinds that differ from the descriptions in a coordinate each, as ten others do not."""

    def off(n: int, seed: int, place: int) -> torch.Tensor:
        return draw(n, seed) + 5 * torch.eye(SIZE)[place]

    kinds = [off(60, 11, 3), off(60, 12, 7)]
    new = torch.cat([off(40, 13, 3), off(40, 14, 7)])
    known = fit(draw(300, 0), draw(80, 1), new, known_unlike=kinds, salads=kinds[1])
    assert known.axes.shape == (2, SIZE)
    own = (draw(300, 0) - known.mean) @ known.axes.T
    spread = own.T @ own / 300  # the same along both, which are uncorrelated
    torch.testing.assert_close(spread / spread[0, 0], torch.eye(2), atol=1e-3, rtol=0)
    assert len(known.points) == 150
    unlike, like = torch.cat([off(50, 15, 3), off(50, 17, 7)]), draw(100, 16)
    said = [known.measure(one) > 0.5 for one in (*unlike, *like)]
    assert sum(said[:100]) + said[100:].count(False) <= 10


def test_salads_are_found_by_how_far_they_lie_in_one_direction(tmp_path: Path) -> None:
    """The other way of it descriptions may be as far as they like: nothing is there."""

    def off(n: int, seed: int, place: int, far: float) -> torch.Tensor:
        return draw(n, seed) + far * torch.eye(SIZE)[place]

    kinds, salads = [off(60, 11, 3, 8.0)], off(90, 12, 7, 5.0)
    new = torch.cat([off(40, 13, 3, 8.0), off(40, 14, 7, 5.0)])
    known = fit(draw(300, 0), draw(80, 1), new, known_unlike=kinds, salads=salads)
    assert known.direction is not None
    towards = (salads - known.mean) @ known.direction
    assert float(towards.mean()) == pytest.approx(1, abs=1e-3)
    assert float(measure_distances(known, kinds[0]).mean()) == pytest.approx(1.5, abs=0.05)
    for unlike in (off(40, 15, 3, 8.0), off(40, 16, 7, 5.0)):
        assert sum(known.measure(one) < 0.5 for one in unlike) >= 36
    for like in (draw(40, 17), off(40, 18, 7, -5.0)):
        assert sum(known.measure(one) > 0.5 for one in like) >= 36
    write_familiarity(tmp_path / FAMILIARITY_FILE, known)
    again = read_familiarity(tmp_path, SIZE)
    assert again is not None
    assert again.direction is not None
    assert torch.equal(again.direction, known.direction)


def test_what_is_written_is_read(known, tmp_path: Path) -> None:
    write_familiarity(tmp_path / FAMILIARITY_FILE, known)
    again = read_familiarity(tmp_path, SIZE)
    assert again is not None
    for one in draw(5, 3):
        assert math.isclose(again.measure(one), known.measure(one), abs_tol=1e-5)
    write_familiarity(tmp_path / "second", known)
    assert (tmp_path / "second").read_bytes() == (tmp_path / FAMILIARITY_FILE).read_bytes()
    assert read_familiarity(tmp_path / "nowhere", SIZE) is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": None}, "missing points"),
        ({"mean": torch.zeros(3)}, "shape mean is"),
        ({"points": torch.zeros(0, 1)}, "holds no points"),
        ({"calibration": torch.tensor([1.0, math.nan])}, "NaN or infinite values in calibration"),
        ({"more": torch.zeros(1)}, "unexpected more"),
    ],
)
def test_damaged_files_are_refused(known, tmp_path: Path, changes, message: str) -> None:
    path = tmp_path / FAMILIARITY_FILE
    write_familiarity(path, known)
    tensors = {n: t for n, t in (load_file(path) | changes).items() if t is not None}
    save_file(tensors, path)
    with pytest.raises(CheckpointError) as found:
        read_familiarity(tmp_path, SIZE)
    assert str(path) in found.value.message
    assert message in found.value.message
