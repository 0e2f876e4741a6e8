"""Merged GGUF files: the base's own bytes but for the tensors that the adapter changes."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from d2l.adapters.peft_folder import read_adapter
from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.errors import AdapterError
from d2l.runtimes.gguf import GgufBase
from d2l.runtimes.merged import write_merged_gguf
from tests import tiny
from tests.bases.gguf_samples import count_heads, gguf_name, interleave, write_gguf
from tests.task_adapters import EVERY_MODULE, make_factors, write_task

BASE = GgufBase("llama", tiny.N_LAYERS, n_heads=4, n_kv_heads=2, permutes=True)
#: Ranks and scales that differ by module, as adapters of seats and of other tools have them.
CONFIG = {"r": 4, "lora_alpha": 6, "rank_pattern": {"k_proj": 2}, "alpha_pattern": {"v_proj": 1}}
SCALES = {"k_proj": 6 / 2, "v_proj": 1 / 4}
#: Relative error of one rounding.
ERRORS = {"fp32": 2**-24, "fp16": 2**-11, "bf16": 2**-8}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("base") / "base.gguf")


@pytest.mark.parametrize("dtype", ERRORS)
@pytest.mark.parametrize("modules", [("q_proj",), ("k_proj", "v_proj"), EVERY_MODULE])
def test_changed_tensors_are_base_and_delta_and_all_else_is_the_bases(
    modules: tuple[str, ...], dtype: str, source: Path, tmp_path: Path
) -> None:
    factors = {
        name: pair
        for module in modules
        for name, pair in make_factors(
            "llama", [module], rank=2 if module == "k_proj" else 4, layers=[1, 2]
        ).items()
    }
    adapter = write_task(tmp_path / "task", factors, base="llama-tiny", config=CONFIG)
    path = tmp_path / "model.gguf"
    write_merged_gguf(read_adapter(adapter), BASE, source, path, dtype=dtype)
    before, after = gguf.GGUFReader(source), gguf.GGUFReader(path)
    first = before.tensors[0].field.offset
    assert path.read_bytes()[:first] == source.read_bytes()[:first]  # all fields, in their order
    assert after.data_offset == before.data_offset
    merged = {gguf_name(f"{name}.weight"): name for name in factors}
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert (new.name, new.shape.tolist()) == (old.name, old.shape.tolist())
        if new.name not in merged:
            assert (new.tensor_type, new.data.tobytes()) == (old.tensor_type, old.data.tobytes())
            continue
        name = merged[new.name]
        a, b = (factor.double().numpy() for factor in factors[name])
        delta = SCALES.get(name.rsplit(".", 1)[-1], 6 / 4) * (b @ a)
        heads = count_heads(f"{name}.weight")
        delta = delta if heads is None else interleave(delta, heads)
        expected = gguf.dequantize(old.data, old.tensor_type).astype(np.float64) + delta
        got = gguf.dequantize(new.data, new.tensor_type)
        assert new.tensor_type.name == dtype.replace("fp", "F").upper()
        assert np.all(np.abs(got - expected) <= ERRORS[dtype] * np.abs(expected) + 1e-7)


@pytest.mark.parametrize(
    ("module", "value", "dtype", "message"),
    [
        ("model.layers.0.mlp.up_proj", 1.0, "fp16", r"ffn_up.weight: expected \(32, 8\), .* has"),
        ("model.layers.9.mlp.up_proj", 1.0, "fp16", "no such tensor"),
        ("model.layers.0.self_attn.o_proj", 1e6, "fp16", "values that are not finite once"),
        ("model.layers.0.self_attn.o_proj", 1.0, "q8", "not written in q8"),
    ],
)
def test_what_cannot_be_merged_is_refused(
    module: str, value: float, dtype: str, message: str, source: Path, tmp_path: Path
) -> None:
    n_rows = 8 if "up_proj" in module else 32
    factors = {module: LoraFactors(torch.full((2, 32), value), torch.ones(n_rows, 2))}
    with pytest.raises(AdapterError, match=message):
        write_merged_gguf(
            LoraWeights("base", 1.0, factors), BASE, source, tmp_path / "m.gguf", dtype=dtype
        )


def test_a_head_that_is_the_embedding_is_refused(source: Path, tmp_path: Path) -> None:
    tied = tmp_path / "tied.gguf"
    tied.write_bytes(source.read_bytes().replace(b"output.weight", b"unused.weight"))
    head = LoraWeights(
        "base", 1.0, {"lm_head": LoraFactors(torch.ones(2, 32), torch.ones(tiny.vocab_size(), 2))}
    )
    write_merged_gguf(head, BASE, source, tmp_path / "own.gguf")
    with pytest.raises(AdapterError, match="it shares the embedding's weights"):
        write_merged_gguf(head, BASE, tied, tmp_path / "m.gguf")
