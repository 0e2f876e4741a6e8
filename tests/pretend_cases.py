"""Pipelines give the same on the pretended GPU as on the CPU: in fp32, and in bf16 with the code
that CUDA alone has. `tests/test_pretend_gpu.py` runs this file in a process of its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

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
from d2l.inference import likelihood
from d2l.inference.likelihood import GenerationSettings
from tests import tiny, tiny_seats
from tests.compiled import compile_tiny
from tests.hypernets.loading import NAMES
from tests.hypernets.seats.test_network import read_tiny
from tests.inference.test_likelihood import ANSWERS, PROMPTS
from tests.loaded import QUESTION, load
from tests.pretend_gpu import NAME
from tests.test_pipeline import document_of, find_golden

pytestmark = pytest.mark.usefixtures("one_thread", "cache")
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
Run = Callable[[str], Any]


@pytest.fixture(params=DTYPES, autouse=True)
def dtype(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """In bf16, both devices are taken for CUDA; in fp32, neither is."""
    chosen = DTYPES[request.param]
    monkeypatch.setattr(devices, "is_cuda", lambda _: chosen is torch.bfloat16)
    return chosen


def compare(run: Run, tolerance: float = 1e-5) -> None:
    """What comes of both devices is the same, and on the CPU."""
    with sdpa_kernel(SDPBackend.MATH):  # the only kernel of the pretended device
        torch.testing.assert_close(run(NAME), run("cpu"), atol=tolerance, rtol=tolerance)


def read(weights: LoraWeights | None) -> list[tuple[torch.Tensor, torch.Tensor]]:
    assert weights is not None
    return [(factors.a, factors.b) for factors in weights.factors.values()]


def compile_golden(name: str, device: str) -> Any:
    """Factors of a recorded document of three chunks; the working folder is the goldens'."""
    folder = Path("d2l", name)
    info = json.loads((folder / "info.json").read_text("utf-8"))
    options = CompileOptions(str(folder), device=device, chunk_tokens=info["max_ctx_chunk_len"])
    return read(Compiler(options)(document_of(info["cases"]["three"]["documents"][0])).weights)


@pytest.mark.parametrize("name", NAMES)
def test_compile_the_goldens(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(find_golden(name))
    compare(partial(compile_golden, name))


@pytest.mark.parametrize(("kind", "parts"), [("llama", False), ("gemma2", True), ("seats", True)])
def test_compile_and_ask(kind: str, parts: bool, tmp_path: Path) -> None:
    """Greedily, then by chance; of adapters with parts, some parts alone."""

    def run(device: str) -> Any:
        room = {"chunk_tokens": 24} if parts else {}
        done = compile_tiny(tmp_path / device, kind, device=device, parts=parts, **room)
        asker = load(done, device=device, max_new_tokens=6)
        torch.manual_seed(1)
        answers = [asker.ask(QUESTION), asker.ask(QUESTION, temperature=1.5)]
        said.append(answers)
        return read(read_adapter(done.adapter))

    said: list[list[str]] = []
    compare(run)
    assert said[0] == said[1]


@pytest.mark.parametrize("options", [{"max_rank": 3, "cache": True}, {"encoder": "nf4"}])
def test_compile_with_options(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.get_device_name", str)

    def run(device: str) -> Any:
        done = compile_tiny(tmp_path / device, "llama", device=device, **options)
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
def test_compile_with_all_that_seat_networks_have(make_config: Callable[[], SeatsConfig]) -> None:
    config = make_config()

    def run(device: str) -> Any:
        network, base = tiny_seats.make_network(config), tiny_seats.make_base()
        statistics = tiny_seats.make_statistics(config)
        seats = Seats(config, network.to(device), statistics, base.to(device))
        return read(
            seats.assemble([seats.generate(read_tiny(seats, 20), 6)], MergeOptions()).weights
        )

    compare(run)


@pytest.mark.parametrize(
    ("embedder", "changes"),
    [("encoder", {}), (None, {"autoregressive": True}), (None, {"shared_head": True})],
)
def test_make(embedder: str | None, changes: dict[str, Any], working_folder: Path) -> None:
    tiny.write_base(working_folder / tiny.base_name("mistral"), "mistral")
    tiny.write_encoder(working_folder / "encoder")
    tiny.write_text_to_lora(working_folder / "network", "mistral", embedder, **changes)

    def run(device: str) -> Any:
        maker = TaskCompiler(TaskCompileOptions("network", device=device, offline=True))
        return read(maker("open the copper valve").weights)

    compare(run)


@pytest.mark.parametrize("family", ["gemma2", "llama"])
def test_likelihood(family: str, dtype: torch.dtype) -> None:
    """Scores, distributions and greedy answers."""
    settings = GenerationSettings(4, batch=3, end=2, pad=0)

    def run(device: str) -> Any:
        model = tiny.make_causal(family).to(device, dtype)
        scored = likelihood.score_answers(model, PROMPTS, ANSWERS, settings)
        rows = likelihood.token_distributions(model, PROMPTS, ANSWERS, batch=3, pad=0)
        scores = [score for score, _ in scored]
        return [*scores, *rows], [list(answer) for _, answer in scored]

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


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_fails(bug: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, planted = BUGS[bug]
    (monkeypatch.setitem if owner is METHODS else monkeypatch.setattr)(owner, name, planted)
    with pytest.raises((RuntimeError, TypeError, D2LError), match=f"{NAME}|not finite"):
        compile_tiny(tmp_path, "llama", device=NAME)
