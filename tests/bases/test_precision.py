"""Whether a processor computes faster in bf16: measured once, and kept."""

import json
from pathlib import Path

import pytest
import torch

from d2l.bases import precision
from d2l.bases.precision import Speedup, find_speedup


@pytest.fixture(autouse=True)
def own_cache(cache: Path) -> Path:
    return cache


def test_speeds_are_measured_once_and_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[Speedup] = []

    def measure() -> Speedup:
        measured.append(Speedup(4.5, 1.25))
        return measured[-1]

    monkeypatch.setattr("d2l.bases.precision.measure_speedup", measure)
    assert find_speedup() == find_speedup() == Speedup(4.5, 1.25)
    assert len(measured) == 1
    (key,) = json.loads((cache / "precision.json").read_text())
    assert key.endswith(f"torch {torch.__version__}")


def test_another_processor_is_measured_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["Intel Xeon", "AMD EPYC"]
    speeds = {}
    for name, speed in zip(names, (1.0, 5.0), strict=True):
        listed = tmp_path / name
        core = f"model name\t: {name}\nflags\t\t: fpu {name[0]}\n\n"
        listed.write_text(core + core.replace(name, "other"))
        monkeypatch.setattr(precision, "_PROCESSORS", listed)
        found = Speedup(speed, 1.0)
        monkeypatch.setattr("d2l.bases.precision.measure_speedup", lambda found=found: found)
        speeds[name] = find_speedup()
    assert [speeds[name].pays for name in names] == [False, True]
    monkeypatch.setattr(precision, "_PROCESSORS", tmp_path / "Intel Xeon")
    assert find_speedup() == speeds["Intel Xeon"]


@pytest.mark.parametrize("kept", ["", "fast", "1.0", "1 2 3"])
def test_a_damaged_entry_is_measured_anew(
    kept: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2l.bases.precision.measure_speedup", lambda: Speedup(2.0, 2.0))
    find_speedup()
    path = cache / "precision.json"
    path.write_text(json.dumps(dict.fromkeys(json.loads(path.read_text()), kept)))
    assert find_speedup() == Speedup(2.0, 2.0)


@pytest.mark.parametrize(
    ("chunks", "tokens", "pays"),
    [(4.2, 1.1, True), (1.3, 0.8, True), (1.2, 2.0, False), (4.0, 0.5, False)],
)
def test_bf16_pays_if_it_is_faster_for_chunks_and_not_slower_for_tokens(
    chunks: float, tokens: float, pays: bool
) -> None:
    assert Speedup(chunks, tokens).pays == pays


def test_the_measurement_of_this_machine_leaves_its_threads() -> None:
    before = torch.get_num_threads()
    measured = precision.measure_speedup.__wrapped__()
    assert torch.get_num_threads() == before
    assert 0 < measured.chunks < 100
    assert 0 < measured.tokens < 100
