"""One adapter on one base in three engines: PEFT, llama.cpp and mlx-lm give the same numbers.

Everything is loaded as the README of each export says. Where an engine is not installed its part is
skipped: `pip install 'd2l[engines]'`, which `make test-all` tries. The rows of the larger base take
many minutes, so they run where one asks for them: `D2L_TEST_LARGE=1`.

What remains between engines: MLX differs from PEFT by the order of its sums. llama.cpp multiplies
with the base's 4-bit weights by kernels that round what comes in to 8 bits (ggml, Q4_1 with Q8_1),
and a seats adapter, whose B is large, passes the rounding on more than the base does. So
"llama.cpp, fp32" runs the same weights without these kernels, out of a copy of the file with its
matrices in fp32; with the file itself the recall is compared, and the change of logits within a
wider bound.
"""

import importlib.util
import json
import logging
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from d2l.api.compiler import Compiler
from d2l.bases.models import BaseFiles, find_base, load_frozen
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.evaluation.metrics import contains_answer
from d2l.hypernets.options import CompileOptions
from d2l.runtimes import export
from d2l.runtimes.export import ExportOptions
from tests import tiny
from tests.bases.gguf_samples import write_dequantized, write_gguf
from tests.engines import Engine, LlamaCpp, Logits, Mlx, Peft, compare_changes
from tests.task_adapters import EVERY_MODULE, make_factors, write_task

pytestmark = [
    pytest.mark.slow,
    # PEFT and MLX warn of what transformers renamed; generation of the answer's length.
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("one_thread"),
]
log = logging.getLogger(__name__)  # shown by --log-cli-level=INFO
DATA = Path(__file__).parent / "data" / "engines"
#: Networks that are shipped, the fixture that has the files of their base, and its end token.
NETWORKS = {"smollm2-135m": ("smollm2_files", 2), "qwen2.5-coder-0.5b": ("qwen_files", 151_645)}
ENGINES: dict[str, tuple[str, type[Engine]]] = {
    "llama.cpp": ("xllamacpp", LlamaCpp),
    "llama.cpp, fp32": ("xllamacpp", LlamaCpp),
    "mlx": ("mlx_lm", Mlx),
}
EXACT = ("llama.cpp, fp32", "mlx")  # engines that multiply as PEFT does
#: A note that takes the fewest seats, and a page that takes the most.
NOTE = "The Orla lighthouse was built in 1874. Its keeper is Anton Reyes."


def read_questions() -> list[tuple[str, list[str]]]:
    lines = (DATA / "questions.jsonl").read_text("utf-8").splitlines()
    return [(row["question"], row["answers"]) for row in map(json.loads, lines)]


def need(name: str) -> type[Engine]:
    """The engine's class, or a skip that says how to get it."""
    package, engine = ENGINES[name]
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{name} is not installed, so nothing is said of it: pip install {package}")
    return engine


@dataclass(frozen=True)
class Exports:
    """A compiled adapter with its exports, in a folder where all names in their READMEs lead."""

    place: Path
    n_seats: int
    end: int

    @cache  # noqa: B019 - as long as the module's tests run
    def engine(self, name: str) -> Engine:
        """An engine, set up as the README says; "peft" reads the adapter's own."""
        engine = self._open(name)
        engine.end = self.end
        return engine

    def _open(self, name: str) -> Engine:
        if name == "peft":
            return Peft(self.place / "doc.lora" / "README.md", self.place)
        if name == "mlx":
            return need(name)(self.place / "doc-mlx" / "README.md", self.place)
        readme = self.place / "doc-gguf" / "README.md"
        return need(name)(readme, self.place if name == "llama.cpp" else self.dequantized())

    def dequantized(self) -> Path:
        """A place where the base's file has its matrices in fp32, and all else is the same."""
        (gguf,) = self.place.glob("*.gguf")
        place = self.place / "dequantized"
        place.mkdir()
        write_dequantized(gguf, place / gguf.name)
        (place / "doc-gguf").symlink_to(self.place / "doc-gguf")
        return place

    def prompts(self, n: int) -> list[list[int]]:
        """Ids of prompts that the adapter's own tokenizer and template make."""
        tokenizer = self.engine("peft").names["tokenizer"]
        return [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question}],
                add_generation_prompt=True,
                return_dict=False,
            )
            for question, _ in read_questions()[:: 50 // n]
        ]


@pytest.fixture(scope="module")
def exported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], Exports]:
    """Compile the page or the note with a network that is shipped, and export it."""

    @cache
    def make(network: str, size: str) -> Exports:
        fixture, end = NETWORKS[network]
        if fixture == "qwen_files" and not os.environ.get("D2L_TEST_LARGE"):
            pytest.skip("the larger base takes many minutes: D2L_TEST_LARGE=1 asks for it")
        files: BaseFiles = request.getfixturevalue(fixture)
        load_frozen(files, device="cpu", dtype=torch.float32, n_layers=1)  # makes its weights
        assert files.gguf is not None
        place = tmp_path_factory.mktemp(size)
        text = NOTE if size == "few" else (DATA / "lighthouse.txt").read_text("utf-8")
        (place / "doc.txt").write_text(text)
        documents = [read_document(Source("doc.txt", place / "doc.txt"))]
        options = CompileOptions(checkpoint=network, device="cpu", offline=True)
        adapter = Compiler(options)(documents)
        adapter.save_pretrained(place / "doc.lora")
        for to in ("gguf", "mlx"):
            out = place / f"doc-{to}"
            export.run(place / "doc.lora", out, ExportOptions(to, offline=True))
        # The base's name leads to its folder, and its file's name to the file.
        (place / files.name).parent.mkdir()
        (place / files.name).symlink_to(files.folder)
        (place / files.gguf.name).symlink_to(files.gguf)
        hub = place / f"{files.name}-GGUF"  # what the card loads where only the file fits
        hub.mkdir()
        (hub / files.gguf.name).symlink_to(files.gguf)
        return Exports(place, adapter.weights.rank, end)

    return make


@pytest.mark.parametrize(
    ("network", "name", "size"),
    [
        ("smollm2-135m", "llama.cpp, fp32", "few"),
        ("smollm2-135m", "llama.cpp, fp32", "many"),
        ("smollm2-135m", "mlx", "many"),
        ("qwen2.5-coder-0.5b", "mlx", "few"),
        ("qwen2.5-coder-0.5b", "llama.cpp, fp32", "many"),  # its base's file takes 2.5 GB so
    ],
)
def test_the_adapters_change_of_logits_and_its_answers_are_pefts(
    network: str, name: str, size: str, exported: Callable[[str, str], Exports]
) -> None:
    need(name)
    exports = exported(network, size)
    peft, other = exports.engine("peft"), exports.engine(name)
    prompts = exports.prompts(10)
    assert len(prompts) == 10
    cosines = [compare_changes(peft.logits(ids), other.logits(ids)) for ids in prompts]
    same = sum(peft.greedy(ids) == other.greedy(ids) for ids in prompts)
    low, high = min(cosines), max(cosines)
    log.info("%s, %s, %d seats: cosine %.5f to %.5f", network, name, exports.n_seats, low, high)
    log.info("%d of 10 answers equal", same)
    assert low >= 0.99
    assert same >= 9


@pytest.mark.parametrize("network", NETWORKS)
def test_on_the_quantized_file_the_change_of_logits_is_pefts_but_for_its_kernels(
    network: str, exported: Callable[[str, str], Exports]
) -> None:
    need("llama.cpp")
    exports = exported(network, "few")
    peft, other = exports.engine("peft"), exports.engine("llama.cpp")
    cosines = [compare_changes(peft.logits(i), other.logits(i)) for i in exports.prompts(5)]
    log.info("%d seats: cosine %.5f to %.5f", exports.n_seats, min(cosines), max(cosines))
    # 0.95 and 0.97 were the lowest with two sets of weights; without these kernels it is 0.9999.
    assert min(cosines) > 0.9


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["llama.cpp", "mlx"])
def test_as_much_of_the_document_comes_back_as_in_peft(
    name: str, network: str, exported: Callable[[str, str], Exports]
) -> None:
    need(name)
    exports = exported(network, "many")
    shares = {engine: share_answered(exports, engine) for engine in ("peft", name)}
    n = len(read_questions())
    assert n == 50
    error = math.sqrt(sum(share * (1 - share) / n for share in shares.values()))
    log.info("%s, contained on %d questions: %s, standard error %.3f", network, n, shares, error)
    assert shares["peft"] > 0.1  # or nothing would be compared
    assert abs(shares["peft"] - shares[name]) <= 2 * error


@cache
def share_answered(exports: Exports, name: str) -> float:
    """Share of the questions whose answer, as the README prints it, holds the reference."""
    engine = exports.engine(name)
    right = [contains_answer(engine.ask(q), references) for q, references in read_questions()]
    return sum(right) / len(right)


# ---- tiny bases of every family -----------------------------------------------------------------


def logits_through_peft(base: Path, adapter: Path, ids: list[int]) -> tuple[Logits, Logits]:
    """(with the adapter, by the base alone), PEFT's own loader on transformers'."""
    model = peft.PeftModel.from_pretrained(
        transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter
    ).eval()
    prompt = torch.tensor([ids])
    with torch.no_grad():
        adapted = model(input_ids=prompt).logits[0, -1].double().numpy()
        with model.disable_adapter():
            return adapted, model(input_ids=prompt).logits[0, -1].double().numpy()


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_task_adapters_load_in_mlx_with_its_own_loader(family: str, tmp_path: Path) -> None:
    """q_proj and v_proj, in the last two of three layers."""
    need("mlx")
    base = tiny.write_base(tmp_path / "base", family)
    factors = make_factors(family, layers=range(1, tiny.N_LAYERS))
    adapter = write_task(
        tmp_path / "task", factors, base=tiny.base_name(family), config={"lora_alpha": 6}
    )
    export.run(adapter, tmp_path / "mlx", ExportOptions("mlx", base=str(base), offline=True))
    engine = Mlx.__new__(Mlx)
    engine.names = {"model": mlx_load(base, tmp_path / "mlx")}
    ids = tiny.encode("<|im_start|>user\nWhere is the pump?<|im_end|>\n")
    expected, got = logits_through_peft(base, adapter, ids), engine.logits(ids)
    for one, other in zip(expected, got, strict=True):
        assert np.abs(one - other).max() < 1e-3 * np.abs(one).max()  # fp32, other order of sums
    assert compare_changes(expected, got) > 0.9999


def test_modules_of_other_ranks_and_layers_load_in_mlx_with_its_own_loader(tmp_path: Path) -> None:
    """As adapters of addressed seats have them: one module in one layer, of a rank of its own."""
    need("mlx")
    base = tiny.write_base(tmp_path / "base", "llama")
    factors = make_factors("llama", ("k_proj", "v_proj"), layers=range(1, tiny.N_LAYERS))
    factors |= make_factors("llama", ("gate_proj",), rank=2, layers=[0])
    config = {
        "r": 4,
        "lora_alpha": 4,
        "rank_pattern": {"gate_proj": 2},
        "alpha_pattern": {"gate_proj": 2},
    }
    adapter = write_task(tmp_path / "task", factors, base=tiny.base_name("llama"), config=config)
    export.run(adapter, tmp_path / "mlx", ExportOptions("mlx", base=str(base), offline=True))
    engine = Mlx.__new__(Mlx)
    engine.names = {"model": mlx_load(base, tmp_path / "mlx")}
    ids = tiny.encode("<|im_start|>user\nWhere is the pump?<|im_end|>\n")
    expected, got = logits_through_peft(base, adapter, ids), engine.logits(ids)
    assert compare_changes(expected, got) > 0.9999
    wrapped = [n for n, m in engine.names["model"].named_modules() if hasattr(m, "lora_a")]
    assert sorted(wrapped) == sorted(factors)


def mlx_load(base: Path, adapter: Path) -> Any:
    """The model of mlx-lm's own loader, its first result."""
    from mlx_lm import load

    return load(str(base), adapter_path=str(adapter))[0]


@pytest.mark.parametrize("modules", [("q_proj", "v_proj"), ("k_proj",), EVERY_MODULE])
def test_task_adapters_load_in_llama_cpp_with_rows_in_its_order(
    modules: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tiny Llama's quantized GGUF file there, and the same file dequantized in PEFT."""
    need("llama.cpp")
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    gguf = write_gguf(tmp_path / "llama-tiny.gguf")
    files = find_base("tiny-org/llama-tiny", override=str(gguf), offline=True)
    load_frozen(files, device="cpu", dtype=torch.float32, n_layers=1)
    adapter = write_task(tmp_path / "task", make_factors("llama", modules), base="llama-tiny")
    export.run(adapter, tmp_path / "out", ExportOptions("gguf", base=str(gguf), offline=True))
    engine = LlamaCpp(tmp_path / "out" / "README.md", tmp_path)
    ids = tiny.encode("<|im_start|>user\nWhere is the pump?<|im_end|>\n")
    expected = logits_through_peft(files.folder, adapter, ids)
    assert compare_changes(expected, engine.logits(ids)) > 0.99
