import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from d2l.compiler.run import CompilePlan
from d2l.compiler.timing import estimate_seconds, remember_rate
from d2l.documents.chunks import Chunk
from tests.compiled import Compiled

pytestmark = pytest.mark.usefixtures("cache")

#: Multiply-adds a token of the tiny Llama, by hand: 3 layers of 4 · 32² in attention and
#: 3 · 32 · 64 in the perceptron.
PER_TOKEN = 3 * (4 * 32 * 32 + 3 * 32 * 64)


@pytest.fixture
def tiny_plan(compiled: Callable[[str], Compiled], one_thread: None) -> CompilePlan:  # noqa: ARG001 - before compiling
    return compiled("llama").plan


def of_length(plan: CompilePlan, n_tokens: int) -> CompilePlan:
    return replace(plan, chunks=(Chunk(0, (1,) * n_tokens, ""),))


@pytest.mark.parametrize(
    ("device", "rate"), [("cpu", 2.5e10), ("mps", 5e11), ("cuda", 5e13), ("cuda:1", 5e13)]
)
def test_without_a_measurement_the_stated_rate_is_used(
    device: str, rate: float, tiny_plan: CompilePlan
) -> None:
    assert PER_TOKEN == 30_720
    seconds, origin = estimate_seconds(of_length(tiny_plan, 1_000), device)
    assert origin == "stated rate"
    assert seconds == pytest.approx(1_000 * 30_720 / rate)


def test_after_a_run_its_own_rate_is_used(tiny_plan: CompilePlan) -> None:
    remember_rate(of_length(tiny_plan, 300), "cpu", 2.0)  # 150 tokens a second
    assert estimate_seconds(of_length(tiny_plan, 900), "cpu") == (6.0, "last run")


def test_the_last_of_several_runs_counts(tiny_plan: CompilePlan) -> None:
    remember_rate(of_length(tiny_plan, 300), "cpu", 2.0)
    remember_rate(of_length(tiny_plan, 1_000), "cpu", 1.0)
    assert estimate_seconds(of_length(tiny_plan, 500), "cpu") == (0.5, "last run")


def test_rates_of_other_devices_bases_and_networks_are_kept_apart(
    tiny_plan: CompilePlan, cache: Path
) -> None:
    plan = of_length(tiny_plan, 300)
    config = replace(plan.config, base="org/other")  # type: ignore[type-var]
    other = replace(plan, network=replace(plan.network, config=config))
    remember_rate(plan, "cpu", 2.0)
    remember_rate(plan, "cuda", 0.1)
    remember_rate(other, "cpu", 3.0)
    assert json.loads((cache / "rates.json").read_text()) == {
        "doc_to_lora:tiny-org/llama-tiny:cpu": "150.0",
        "doc_to_lora:tiny-org/llama-tiny:cuda": "3000.0",
        "doc_to_lora:org/other:cpu": "100.0",
    }
    assert estimate_seconds(plan, "cuda") == (0.1, "last run")
    assert estimate_seconds(plan, "mps")[1] == "stated rate"


@pytest.mark.parametrize(("n_tokens", "seconds"), [(255, 2.0), (300, 0.0), (300, -1.0)])
def test_runs_that_say_little_are_left_out(
    n_tokens: int, seconds: float, tiny_plan: CompilePlan, cache: Path
) -> None:
    remember_rate(of_length(tiny_plan, n_tokens), "cpu", seconds)
    assert not cache.exists()


DAMAGED = [
    b"",
    b"{",
    b"\xff",
    b"[1, 2]",
    b"null",
    b"[" * 100_000,
    b'{"doc_to_lora:tiny-org/llama-tiny:cpu": 150}',
    b'{"doc_to_lora:tiny-org/llama-tiny:cpu": "0"}',
    b'{"doc_to_lora:tiny-org/llama-tiny:cpu": "-3"}',
    b'{"doc_to_lora:tiny-org/llama-tiny:cpu": "NaN"}',
    b'{"doc_to_lora:tiny-org/llama-tiny:cpu": "Infinity"}',
    b'{"doc_to_lora:tiny-org/llama-tiny:cpu": "1' + b"0" * 400 + b'"}',
]


@pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_memory_is_as_none_and_is_replaced(
    data: bytes, tiny_plan: CompilePlan, cache: Path
) -> None:
    cache.mkdir()
    (cache / "rates.json").write_bytes(data)
    plan = of_length(tiny_plan, 300)
    assert estimate_seconds(plan, "cpu")[1] == "stated rate"
    remember_rate(plan, "cpu", 2.0)
    assert estimate_seconds(plan, "cpu") == (2.0, "last run")
    assert [path.name for path in cache.iterdir()] == ["rates.json"]


@pytest.mark.parametrize("there", ["a file", "a file above", "a folder in its place"])
def test_a_cache_that_cannot_be_written_costs_the_estimate_only(
    there: str, tiny_plan: CompilePlan, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if there == "a folder in its place":
        (cache / "rates.json").mkdir(parents=True)
    else:
        cache.write_text("not a folder")
        if there == "a file above":
            monkeypatch.setenv("D2L_CACHE_DIR", str(cache / "below"))
    before = sorted(cache.parent.rglob("*"))
    remember_rate(of_length(tiny_plan, 300), "cpu", 2.0)
    assert estimate_seconds(of_length(tiny_plan, 300), "cpu")[1] == "stated rate"
    assert sorted(cache.parent.rglob("*")) == before
