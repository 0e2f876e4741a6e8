"""GGUF adapters, read with the `gguf` package and compared tensor by tensor."""

import resource
import signal
import struct
import time
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.errors import AdapterError
from d2l.runtimes.gguf import GgufBase, is_own_gguf, write_gguf
from tests import tiny
from tests.gguf_adapters import read_gguf
from tests.slow import slow_after
from tests.task_adapters import EVERY_MODULE, make_factors

#: llama.cpp's names of the linear layers (gguf-py, constants.py: TENSOR_NAMES).
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
ARCHES = {
    "gemma2": "gemma2",
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
}
HEADS, KV_HEADS = 4, 2
NOTES = {"name": "tiny", "opening": "<|im_start|>system\nYou are kind"}


def make_base(family: str) -> GgufBase:
    arch = ARCHES[family]
    return GgufBase(arch, tiny.N_LAYERS, HEADS, KV_HEADS, permutes=arch == "llama")


def make_weights(family: str, scale: float = 0.5) -> LoraWeights:
    factors = make_factors(family, EVERY_MODULE)
    return LoraWeights("base", scale, {name: LoraFactors(*ab) for name, ab in factors.items()})


def undo(rows: np.ndarray, heads: int) -> np.ndarray:
    """Rows in transformers' order, by index: llama.cpp's row 2i + j is row i of half j."""
    size = len(rows) // heads
    result = np.empty_like(rows)
    for head in range(heads):
        for row in range(size):
            half, place = row % 2, row // 2
            result[head * size + half * (size // 2) + place] = rows[head * size + row]
    return result


@pytest.mark.parametrize("family", slow_after(2, *tiny.FAMILIES))
def test_every_tensor_is_the_adapters_once_the_permutation_is_undone(
    family: str, tmp_path: Path
) -> None:
    weights = make_weights(family)
    write_gguf(weights, make_base(family), tmp_path / "a.gguf", **NOTES)
    found = {t.name: t.data for t in gguf.GGUFReader(tmp_path / "a.gguf").tensors}
    assert len(found) == 2 * len(weights.factors) == 2 * 7 * tiny.N_LAYERS
    for module, factors in weights.factors.items():
        _, _, layer, below = module.split(".", 3)
        name = f"blk.{layer}.{NAMES[below]}.weight"
        b = found[f"{name}.lora_b"]
        heads = {"q_proj": HEADS, "k_proj": KV_HEADS}.get(below.split(".")[1])
        if heads and ARCHES[family] == "llama":
            assert not np.array_equal(b, factors.b.numpy())
            b = undo(b, heads)
        assert np.array_equal(b, factors.b.numpy()), module
        assert np.array_equal(found[f"{name}.lora_a"], factors.a.numpy()), module


def test_metadata_is_what_llama_cpp_asks_for(tmp_path: Path) -> None:
    weights = make_weights("llama", scale=0.25)
    write_gguf(weights, make_base("llama"), tmp_path / "a.gguf", **NOTES)
    fields = gguf.GGUFReader(tmp_path / "a.gguf").fields
    got = {key: field.contents() for key, field in fields.items() if not key.startswith("GGUF.")}
    assert got == {
        "general.architecture": "llama",
        "general.type": "adapter",
        "general.name": "tiny",
        "adapter.type": "lora",
        "adapter.lora.alpha": 0.25 * 4,  # llama.cpp multiplies by alpha / rank
        "adapter.lora.prompt_prefix": NOTES["opening"],
        "d2l.format": 1,
    }


@pytest.mark.parametrize("family", slow_after(2, *tiny.FAMILIES))
def test_reading_back_gives_the_delta(family: str, tmp_path: Path) -> None:
    weights, base = make_weights(family), make_base(family)
    write_gguf(weights, base, tmp_path / "a.gguf", **NOTES)
    back = read_gguf(tmp_path / "a.gguf", base)
    assert back.scale == weights.scale
    assert back.factors.keys() == weights.factors.keys()
    for name, factors in weights.factors.items():
        assert torch.equal(back.factors[name].b @ back.factors[name].a, factors.b @ factors.a)


def test_a_scale_of_nought_gives_no_delta(tmp_path: Path) -> None:
    base = make_base("qwen3")
    write_gguf(make_weights("qwen3", scale=0.0), base, tmp_path / "a.gguf", **NOTES)
    back = read_gguf(tmp_path / "a.gguf", base)
    assert all(not factors.b.any() for factors in back.factors.values())


def test_half_precision_halves_the_file(tmp_path: Path) -> None:
    weights, base = make_weights("llama"), make_base("llama")
    for dtype, width in (("fp16", 2), ("fp32", 4)):
        path = tmp_path / dtype
        write_gguf(weights, base, path, **NOTES, dtype=dtype)
        assert {t.data.dtype.itemsize for t in gguf.GGUFReader(path).tensors} == {width}
    back = read_gguf(tmp_path / "fp16", base).factors["model.layers.0.self_attn.q_proj"]
    expected = weights.factors["model.layers.0.self_attn.q_proj"]
    assert torch.equal(back.b.float(), expected.b.half().float())


@pytest.mark.parametrize(
    ("module", "value", "dtype", "message"),
    [
        ("model.layers.0.self_attn.q_proj", float("nan"), "fp32", "not finite in fp32"),
        ("model.layers.0.self_attn.q_proj", 1e6, "fp16", "not finite in fp16"),
        ("model.layers.0.self_attn.q_proj", 1.0, "bf16", "not written in bf16"),
        ("model.layers.0.mixer.in_proj", 1.0, "fp32", "llama.cpp has no such tensor"),
    ],
)
def test_what_no_file_can_hold_is_refused(
    module: str, value: float, dtype: str, message: str, tmp_path: Path
) -> None:
    factors = {module: LoraFactors(torch.full((2, 32), value), torch.ones(32, 2))}
    with pytest.raises(AdapterError, match=message):
        write_gguf(
            LoraWeights("base", 1.0, factors),
            make_base("llama"),
            tmp_path / "a.gguf",
            **NOTES,
            dtype=dtype,
        )


def test_only_files_of_d2l_are_its_own(tmp_path: Path) -> None:
    write_gguf(make_weights("llama"), make_base("llama"), tmp_path / "own.gguf", **NOTES)
    other = gguf.GGUFWriter(tmp_path / "other.gguf", "llama")
    other.write_header_to_file()
    other.write_kv_data_to_file()
    other.close()
    (tmp_path / "text.gguf").write_text("a text")
    own = [is_own_gguf(tmp_path / f"{name}.gguf") for name in ("own", "other", "text", "none")]
    assert own == [True, False, False, False]


@pytest.mark.parametrize("counts", [(2**63, 1), (1, 2**63), (2**40, 2**40)])
def test_counts_of_a_stranger_are_not_followed(counts: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, *counts) + bytes(100_000))
    began = time.monotonic()
    assert not is_own_gguf(path)
    assert time.monotonic() - began < 1
    assert not is_own_gguf(tmp_path / "none")


@pytest.mark.parametrize("n_bytes", [3000, 20_000])
def test_a_disk_that_is_full_is_one_line(n_bytes: int, tmp_path: Path) -> None:
    weights = make_weights("llama")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        with pytest.raises((AdapterError, OSError)) as caught:  # OSError: `write_file` words it
            write_gguf(weights, make_base("llama"), tmp_path / "a.gguf", **NOTES)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not isinstance(caught.value, AdapterError) or "entries read back" in str(caught.value)
