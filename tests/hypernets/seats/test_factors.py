"""Factors on disk are those that would be computed, to the bit, whatever becomes of the file."""

from pathlib import Path

import pytest
import torch

from d2l.hypernets.seats import second_moments
from d2l.hypernets.seats.second_moments import (
    Statistics,
    factors_path,
    pack_moments,
    prepare_factors,
)

pytestmark = pytest.mark.usefixtures("working_folder")


def make(ridge: float = 0.5) -> Statistics:
    states = torch.randn(2, 40, 24, generator=torch.Generator().manual_seed(0)).double()
    return pack_moments(states.mT @ states, layers=(3, 4), ridge=ridge, source="made here")


@pytest.fixture(autouse=True)
def _every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(second_moments, "_LEAST_VALUES", 0)


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("factorized again")

    monkeypatch.setattr(torch.linalg, "cholesky_ex", fail)


def test_a_second_start_factorizes_nothing_for_the_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = make().cholesky
    prepare_factors(make())
    forbid(monkeypatch)
    again = make()
    prepare_factors(again)
    assert torch.equal(again.cholesky, expected)
    with pytest.raises(AssertionError, match="factorized again"):
        prepare_factors(make(ridge=0.25))  # these are other statistics


@pytest.mark.parametrize("place", [0, -1, -500])
def test_a_damaged_file_is_replaced(place: int, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare_factors(make())
    path = factors_path(make())
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 0x40
    path.write_bytes(damaged)
    statistics = make()
    prepare_factors(statistics)
    assert torch.equal(statistics.cholesky, make().cholesky)
    assert path.read_bytes() == whole
    forbid(monkeypatch)
    prepare_factors(make())


def test_an_unwritable_cache_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "file"))
    statistics = make()
    prepare_factors(statistics)
    assert torch.equal(statistics.cholesky, make().cholesky)


def test_factors_that_are_as_quick_to_compute_are_not_kept(
    monkeypatch: pytest.MonkeyPatch, working_folder: Path
) -> None:
    monkeypatch.setattr(second_moments, "_LEAST_VALUES", 1 << 20)
    prepare_factors(make())
    assert not (working_folder / "cache").exists()
