"""Pipelines give the same on the pretended GPU as on the CPU: in fp32, and in bf16 with the code
that CUDA alone has. `tests/tools/cuda_proof.py` runs this file in a process of its own; where
D2L_TEST_DEVICE names a card they give nearly the same, since its kernels round otherwise."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves

from d2l.adapters.merge_methods import METHODS
from d2l.adapters.peft_folder import read_adapter
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.api.compiler import Compiler, TaskCompiler
from d2l.bases import devices
from d2l.bases.activations import ActivationEncoder
from d2l.errors import D2LError
from d2l.hypernets.doc_to_lora.network import DocToLora
from d2l.hypernets.options import CompileOptions, MergeOptions, TaskCompileOptions
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.network import Seats
from d2l_lab import likelihood
from d2l_lab.likelihood import GenerationSettings
from examples.training.tests.test_likelihood import ANSWERS, PROMPTS
from tests import tiny, tiny_seats
from tests.compiled import compile_tiny
from tests.hypernets import shine_reference
from tests.hypernets.loading import NAMES
from tests.hypernets.seats.test_network import read_tiny
from tests.loaded import QUESTION, load
from tests.test_pipeline import document_of, find_golden

pytestmark = [pytest.mark.gpu, pytest.mark.usefixtures("one_thread", "cache")]
NAME = os.environ.get("D2L_TEST_DEVICE", "pretend")
IS_REAL = NAME != "pretend"
#: Largest distance of a tensor on a card, beside its norm.
BOUNDS = {torch.float32: 1e-3, torch.bfloat16: 0.05}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Run = Callable[[str], Any]
Compare = Callable[[Run], None]


@pytest.fixture(params=DTYPES, autouse=True)
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """In bf16, both devices are taken for CUDA; in fp32, neither is."""
    chosen = DTYPES[request.param]
    monkeypatch.setattr(devices, "is_cuda", lambda _: chosen is torch.bfloat16)
    return chosen


@pytest.fixture
def compare(dtype: torch.dtype) -> Compare:
    """Fail unless what comes of both devices is the same, and on the CPU."""

    def compare_both(run: Run) -> None:
        if not IS_REAL:
            with sdpa_kernel(SDPBackend.MATH):  # the only kernel of the pretended device
                torch.testing.assert_close(run(NAME), run("cpu"), atol=1e-5, rtol=1e-5)
            return
        for got, wanted in zip(tree_leaves(run(NAME)), tree_leaves(run("cpu")), strict=True):
            got, wanted = torch.as_tensor(got).double(), torch.as_tensor(wanted).double()
            assert (got - wanted).norm() <= BOUNDS[dtype] * wanted.norm()

    return compare_both


def read(weights: LoraWeights | None) -> list[Any]:
    """Factors; deltas of a card, which may write factors of other signs."""
    assert weights is not None
    return [f.b @ f.a if IS_REAL else (f.a, f.b) for f in weights.factors.values()]


def compile_golden(name: str, device: str) -> Any:
    """Factors of a recorded document of three chunks; the working folder is the goldens'."""
    folder = Path("d2l", name)
    info = json.loads((folder / "info.json").read_text("utf-8"))
    options = CompileOptions(str(folder), device=device, chunk_tokens=info["max_ctx_chunk_len"])
    return read(Compiler(options)(document_of(info["cases"]["three"]["documents"][0])).weights)


@pytest.mark.parametrize("name", NAMES)
def test_compile_the_goldens(name: str, compare: Compare, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(find_golden(name))
    compare(partial(compile_golden, name))


@pytest.mark.parametrize(("kind", "parts"), [("llama", False), ("gemma2", True), ("seats", True)])
def test_compile_and_ask(
    kind: str, parts: bool, dtype: torch.dtype, compare: Compare, tmp_path: Path
) -> None:
    """Greedily, then by chance; of adapters with parts, some parts alone. Chance differs on cards,
    and words of random weights do in bf16."""

    def run(device: str) -> Any:
        room = {"chunk_tokens": 24} if parts else {}
        done = compile_tiny(tmp_path / device, kind, device=device, parts=parts, **room)
        asker = load(done, device=device, max_new_tokens=6)
        torch.manual_seed(1)
        answers = [asker.ask(QUESTION), asker.ask(QUESTION, temperature=1.5)]
        said.append(answers[: 2 - IS_REAL])
        return read(read_adapter(done.adapter))

    said: list[list[str]] = []
    compare(run)
    assert said[0] == said[1] or (IS_REAL and dtype is torch.bfloat16)


def test_compile_with_memory_tokens(
    compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = shine_reference.make_checkpoint(tiny.make_causal("qwen3"))
    base = tiny.write_base(tmp_path / "base", "qwen3")
    network = str(shine_reference.write_checkpoint(tmp_path / "network", made, "base"))

    def run(device: str) -> Any:
        options = CompileOptions(network, str(base), device)
        return read(Compiler(options)(document_of(tiny.DOCUMENT)).weights)

    compare(run)


def test_compile_in_full(compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", str)

    def run(device: str) -> Any:
        done = compile_tiny(tmp_path / device, "llama", device=device, max_rank=3, cache=True)
        return read(read_adapter(done.adapter))

    compare(run)


@pytest.mark.parametrize(
    "make_config",
    [
        tiny_seats.make_shared_config,
        tiny_seats.make_narrow_config,
        tiny_seats.make_yielding_config,
        tiny_seats.make_addressed_config,
    ],
)
def test_compile_with_all_that_seat_networks_have(
    make_config: Callable[[], SeatsConfig], compare: Compare
) -> None:
    config = make_config()

    def run(device: str) -> Any:
        network, base = tiny_seats.make_network(config), tiny_seats.make_base()
        statistics = tiny_seats.make_statistics(config)
        seats = Seats(config, network.to(device), statistics, base.to(device))
        memory = seats.generate(read_tiny(seats, 20), 6)
        return read(seats.assemble([memory], MergeOptions()).weights)

    compare(run)


@pytest.mark.parametrize(
    ("embedder", "changes"),
    [("encoder", {}), (None, {"autoregressive": True}), (None, {"shared_head": True})],
)
def test_make(
    embedder: str | None, changes: dict[str, Any], compare: Compare, working_folder: Path
) -> None:
    tiny.write_base(working_folder / tiny.base_name("mistral"), "mistral")
    tiny.write_encoder(working_folder / "encoder")
    tiny.write_text_to_lora(working_folder / "network", "mistral", embedder, **changes)

    def run(device: str) -> Any:
        maker = TaskCompiler(TaskCompileOptions("network", device=device, offline=True))
        return read(maker("open the copper valve").weights)

    compare(run)


@pytest.mark.parametrize("family", ["gemma2", "llama"])
def test_likelihood(family: str, dtype: torch.dtype, compare: Compare) -> None:
    """Scores, distributions and greedy answers; a card in bf16 may answer in other words."""
    settings = GenerationSettings(4, batch=3, end=2, pad=0)

    def run(device: str) -> Any:
        model = tiny.make_causal(family).to(device, dtype)
        scored = likelihood.score_answers(model, PROMPTS, ANSWERS, settings)
        rows = likelihood.token_distributions(model, PROMPTS, ANSWERS, batch=3, pad=0)
        scores = [score for score, _ in scored]
        answers = [list(answer) for _, answer in scored]
        return [*scores, *rows], answers * (not IS_REAL or dtype is torch.float32)

    compare(run)


# ---- bugs that only another device shows --------------------------------------------------------


def to_device(weights: LoraWeights) -> LoraWeights:
    moved = {n: LoraFactors(f.a.to(NAME), f.b.to(NAME)) for n, f in weights.factors.items()}
    return replace(weights, factors=moved)


def read_ids_of_the_cpu(self: Any, chunks: Any, **options: Any) -> Any:
    return self.model(torch.tensor(chunks), **options)


def copy_late(factors: Any) -> Any:
    return {n: [f.to("cpu", non_blocking=True) for f in pair] for n, pair in factors.items()}


CONCAT, NAME_FACTORS = METHODS["concat"], DocToLora._name_factors
BUGS: dict[str, tuple[object, str, Any]] = {
    "token ids stay on the CPU": (ActivationEncoder, "_run", read_ids_of_the_cpu),
    "the learned bias stays on the device": (
        METHODS, "concat", lambda chunks, bias: CONCAT(chunks, to_device(bias))
    ),
    "factors of the chunks stay on the device": (
        METHODS, "concat", lambda chunks, bias: CONCAT(list(map(to_device, chunks)), bias)
    ),
    "a tensor of the device is read by NumPy": (
        DocToLora, "project", lambda _, latents: latents.numpy()
    ),
    "a copy is read before it has come": (
        DocToLora, "_name_factors", lambda self, factors: NAME_FACTORS(self, copy_late(factors))
    ),
}  # fmt: skip


if IS_REAL:  # a copy may have come by chance
    del BUGS["a copy is read before it has come"]


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_fails(bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, planted = BUGS[bug]
    (monkeypatch.setitem if owner is METHODS else monkeypatch.setattr)(owner, name, planted)
    with pytest.raises((RuntimeError, TypeError, D2LError), match=f"{NAME}|not finite"):
        compile_tiny(tmp_path, "llama", device=NAME)
