"""The line about the smaller base: when it is said, and its figures."""

from types import SimpleNamespace

import pytest

from d2l.bases.precision import Speedup
from d2l.bases.smaller_base import LARGE, SMALL, SmallerBase


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine with memory enough and a processor that is fast in bf16; both can be changed."""
    values = SimpleNamespace(available=8e9, speedup=Speedup(4.0, 1.0))
    monkeypatch.delenv("D2L_BASE_DTYPE")
    monkeypatch.setattr("psutil.virtual_memory", lambda: values)
    monkeypatch.setattr("d2l.bases.devices.find_speedup", lambda: values.speedup)
    return values


def test_a_machine_that_is_large_enough_gets_no_line(machine: SimpleNamespace) -> None:
    assert machine.available > 6e9
    assert SmallerBase(LARGE, "cpu").advice is None


def test_short_memory_is_told_with_the_weights_of_both(machine: SimpleNamespace) -> None:
    machine.available = 5.2e9
    line = SmallerBase("Qwen/Qwen2.5-Coder-1.5B-Instruct", "cpu").advice
    assert line == (
        f"5.2 GB of memory are available: the weights of {LARGE} take 3.6 GB; those of {SMALL} "
        "take 1.3 GB and read 3 times as fast, but know fewer answers "
        f"(d2l compile --checkpoint {SMALL})"
    )


def test_a_processor_without_fast_bf16_is_told(machine: SimpleNamespace) -> None:
    machine.speedup = Speedup(0.5, 0.5)
    line = SmallerBase(LARGE, "cpu").advice
    assert line is not None
    assert line.startswith(
        f"bases run in fp32 on this processor: the weights of {LARGE} take 7.1 GB; those of "
        f"{SMALL} take 2.5 GB"
    )
    assert "\n" not in line


@pytest.mark.parametrize(
    ("base", "device"), [(SMALL, "cpu"), ("org/other", "cpu"), (LARGE, "cuda:1")]
)
def test_other_bases_and_devices_get_no_line(
    base: str, device: str, machine: SimpleNamespace
) -> None:
    machine.available = 1e9
    assert SmallerBase(base, device).advice is None


def test_long_work_on_a_larger_base_has_a_hint() -> None:
    for base in (LARGE, "org/other"):
        assert SmallerBase(base, "cuda").hint.endswith(f": --checkpoint {SMALL}")
    for base in (SMALL, "smollm2-135m"):
        assert not SmallerBase(base, "cpu").hint
