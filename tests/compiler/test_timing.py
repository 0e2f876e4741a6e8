import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from d2l.compiler.run import CompilePlan
from d2l.compiler.timing import describe_estimate, estimate_seconds, remember_rate
from d2l.documents.chunks import Chunk
from tests.compiled import Compiled

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def tiny_plan(compiled: Callable[[str], Compiled], one_thread: None) -> CompilePlan:  # noqa: ARG001 - before compiling
    return compiled("llama").plan


def of_length(plan: CompilePlan, n_tokens: int) -> CompilePlan:
    cut = replace(plan.cut, chunks=(Chunk(0, (1,) * n_tokens, ""),))
    return replace(plan, cut=cut)


def test_without_a_run_nothing_is_promised(tiny_plan: CompilePlan) -> None:
    seconds = estimate_seconds(of_length(tiny_plan, 1_000), "cpu")
    assert seconds is None
    assert describe_estimate(seconds) == "not known before the first run on this machine"


def test_after_runs_their_rates_span_the_estimate(tiny_plan: CompilePlan) -> None:
    remember_rate(of_length(tiny_plan, 300), "cpu", 2.0)  # 150 tokens a second
    seconds = estimate_seconds(of_length(tiny_plan, 900), "cpu")
    assert seconds == (6.0, 6.0)
    assert describe_estimate(seconds) == "about 6.0 s after loading, by the last runs here"
    remember_rate(of_length(tiny_plan, 1_000), "cpu", 2.5)
    seconds = estimate_seconds(of_length(tiny_plan, 1_200), "cpu")
    assert seconds == (3.0, 8.0)
    assert describe_estimate(seconds) == "3.0 to 8.0 s after loading, by the last runs here"


def test_the_last_five_runs_count(tiny_plan: CompilePlan) -> None:
    for seconds in (9.0, 3.0, 3.0, 3.0, 3.0, 3.0):
        remember_rate(of_length(tiny_plan, 300), "cpu", seconds)
    assert estimate_seconds(of_length(tiny_plan, 300), "cpu") == (3.0, 3.0)


def test_rates_of_devices_and_bases_are_kept_apart(tiny_plan: CompilePlan, cache: Path) -> None:
    plan = of_length(tiny_plan, 300)
    config = replace(plan.config, base="org/other")  # type: ignore[type-var]
    other = replace(plan, network=replace(plan.network, config=config))
    remember_rate(plan, "cpu", 2.0)
    remember_rate(plan, "cuda", 0.1)
    remember_rate(other, "cpu", 3.0)
    assert json.loads((cache / "rates.json").read_text()) == {
        "doc_to_lora:tiny-org/llama-tiny:cpu:fp32": "150.0",
        "doc_to_lora:tiny-org/llama-tiny:cuda:fp32": "3000.0",
        "doc_to_lora:org/other:cpu:fp32": "100.0",
    }
    assert estimate_seconds(plan, "cuda") == (0.1, 0.1)
    assert estimate_seconds(plan, "mps") is None


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
    b'{"doc_to_lora:tiny-org/llama-tiny:cpu:fp32": 150}',
    b'{"doc_to_lora:tiny-org/llama-tiny:cpu:fp32": "0"}',
    b'{"doc_to_lora:tiny-org/llama-tiny:cpu:fp32": "-3"}',
    b'{"doc_to_lora:tiny-org/llama-tiny:cpu:fp32": "NaN"}',
    b'{"doc_to_lora:tiny-org/llama-tiny:cpu:fp32": "Infinity"}',
    b'{"doc_to_lora:tiny-org/llama-tiny:cpu:fp32": "1' + b"0" * 400 + b'"}',
]


@pytest.mark.parametrize("data", DAMAGED, ids=range(len(DAMAGED)))
def test_a_damaged_memory_is_replaced(data: bytes, tiny_plan: CompilePlan, cache: Path) -> None:
    cache.mkdir()
    (cache / "rates.json").write_bytes(data)
    plan = of_length(tiny_plan, 300)
    assert estimate_seconds(plan, "cpu") is None
    remember_rate(plan, "cpu", 2.0)
    assert estimate_seconds(plan, "cpu") == (2.0, 2.0)
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
    assert estimate_seconds(of_length(tiny_plan, 300), "cpu") is None
    assert sorted(cache.parent.rglob("*")) == before
