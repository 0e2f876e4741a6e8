"""Task adapters on tiny bases of every family: engines load them with their own loaders."""

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from d2l.bases.models import find_base
from d2l.bases.shards import list_shards
from d2l.runtimes import export
from d2l.runtimes.export_options import ExportOptions
from tests import tiny
from tests.bases.gguf_samples import write_gguf
from tests.engines.engine import Logits, compare_changes
from tests.engines.exports import need
from tests.engines.llama_cpp import LlamaCpp
from tests.engines.mlx import Mlx
from tests.engines.ollama import Ollama
from tests.task_adapters import EVERY_MODULE, make_factors, write_task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("one_thread"),
]


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
    config = {"lora_alpha": 6}
    adapter = write_task(tmp_path / "task", factors, base=tiny.base_name(family), config=config)
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
    config = {"r": 4, "lora_alpha": 4}
    config |= {"rank_pattern": {"gate_proj": 2}, "alpha_pattern": {"gate_proj": 2}}
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


@pytest.mark.parametrize(("to", "make"), [("gguf", LlamaCpp), ("ollama", Ollama)])
@pytest.mark.parametrize("modules", [("q_proj", "v_proj"), ("k_proj",), EVERY_MODULE])
def test_task_adapters_load_in_llama_cpp_with_rows_in_its_order(
    modules: tuple[str, ...],
    to: str,
    make: type[LlamaCpp],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A tiny Llama's quantized GGUF file there, and the same file dequantized in PEFT."""
    need("llama.cpp")
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    gguf = write_gguf(tmp_path / "llama-tiny.gguf")
    files = find_base("tiny-org/llama-tiny", override=str(gguf), offline=True)
    list_shards(files)  # makes its weights
    adapter = write_task(tmp_path / "task", make_factors("llama", modules), base="llama-tiny")
    export.run(adapter, tmp_path / "out", ExportOptions(to, base=str(gguf), offline=True))
    engine = make(tmp_path / "out" / "README.md", tmp_path)
    ids = tiny.encode("<|im_start|>user\nWhere is the pump?<|im_end|>\n")
    expected = logits_through_peft(files.folder, adapter, ids)
    assert compare_changes(expected, engine.logits(ids)) > 0.99
