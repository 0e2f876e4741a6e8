"""Fixtures for the whole suite: the bases of the shipped networks, where they are here."""

import gc
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from d2l.adapters.weights import LoraWeights
from d2l.bases.models import BaseFiles, find_base
from d2l.errors import BaseModelError
from d2l.hypernets.registry import DEFAULT_VARIABLE, TEXT_VARIABLE
from tests import tiny
from tests.command import Command
from tests.compiled import Compiled, compile_tiny
from tests.tools.seat_goldens import load_peft, write_peft

#: Network of tests that name none, whichever the default is; results in fp32 are the same on every
#: processor.
SMALL = "qwen2.5-coder-0.5b"
os.environ |= {DEFAULT_VARIABLE: SMALL, TEXT_VARIABLE: SMALL, "D2L_BASE_DTYPE": "fp32"}
BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
QWEN = "Qwen/Qwen2.5-Coder-0.5B-Instruct"
LARGE = "Qwen/Qwen2.5-Coder-1.5B-Instruct"


def pytest_configure(config: pytest.Config) -> None:
    """Hide all cards, on which bytes and figures differ from those recorded on a CPU, unless tests
    for cards are asked for (`-m gpu`)."""
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    os.fsync = lambda _fd: None  # no test outlives a power cut, and each compilation syncs 34 times


def pytest_collection_finish() -> None:
    """Keep all that was imported out of the garbage collector's way."""
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def environment_is_left_as_it_was() -> Iterator[None]:
    """What one module of tests sets (a cache elsewhere, say) must not reach those after it."""
    before = _list_settings()
    yield
    assert _list_settings() == before


def _list_settings() -> dict[str, str]:
    return {n: value for n, value in os.environ.items() if n.startswith(("D2L_", "T2L_", "HOME"))}


def find_or_skip(base: str) -> BaseFiles:
    """A base that lies on this machine; tests that need one that does not are skipped."""
    try:
        return find_base(base, offline=True)
    except BaseModelError as error:
        pytest.skip(f"{error.message} ({error.hint})")


@pytest.fixture(scope="session")
def smollm2_files() -> BaseFiles:
    """The base of the small network, which is installed with what tests need."""
    return find_or_skip(BASE)


@pytest.fixture(scope="session")
def qwen_files() -> BaseFiles:
    """The base of the network that tests use where they name none; it is fetched, not installed."""
    return find_or_skip(QWEN)


@pytest.fixture(scope="session")
def large_files() -> BaseFiles:
    """The base of a few recorded checks, which take many minutes."""
    return find_or_skip(LARGE)


@pytest.fixture(name="cache")
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own, not made yet."""
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a cache of its own; checkpoints find their bases below it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """The command line, called in this process."""
    return Command(monkeypatch, capsys)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Compiled]:
    """Compile the tiny document by kind (tests/compiled.py); each only once, not to be changed."""
    return cache(lambda kind: compile_tiny(tmp_path_factory.mktemp(kind), kind))


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A folder of tiny adapters of one base; not to be changed."""
    from tests.serving import make_shelf  # clients of servers are imported with it

    return make_shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture
def whole_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adapters of seats are written with a rank for every seat, which shows what each adds."""
    monkeypatch.setattr("d2l.adapters.lowest_rank.find_lowest", lambda weights: weights.rank)


@pytest.fixture(scope="session")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny base of every family; not to be changed."""
    folder = tmp_path_factory.mktemp("bases")
    for family in tiny.FAMILIES:
        tiny.write_base(folder / f"{family}-tiny", family)
    return folder


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Tiny models are faster on one thread: more of them only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def with_peft(tmp_path: Path) -> Iterator[Callable[[Any, LoraWeights], Any]]:
    """Load weights into a causal model through a PEFT folder; undone after the test."""
    wrapped: list[Any] = []

    def load(causal: Any, weights: LoraWeights) -> Any:
        folder = write_peft(tmp_path / f"adapter-{len(wrapped)}", weights)
        wrapped.append(load_peft(causal, folder))
        return wrapped[-1]

    yield load
    for model in reversed(wrapped):
        model.unload()
