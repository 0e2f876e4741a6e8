"""Weights from a GGUF file without a copy: those of the copy, bit for bit, or no weights at all."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from torch import nn

from d2l.bases import gguf_weights
from d2l.bases.gguf_header import read_tensors
from d2l.bases.models import BaseFiles, find_base, load_causal, load_frozen
from d2l.errors import BaseModelError
from tests import tiny
from tests.bases.gguf_samples import write_gguf
from tests.refusals import refuse

FAMILIES = sorted(set(tiny.FAMILIES) - {"gemma2"})


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache folder of the test's own, and functions that are looked for afresh."""
    pytest.importorskip("llama_cpp_py_sync")
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    gguf_weights._find_checked.cache_clear()
    yield tmp_path / "cache"
    gguf_weights._find_checked.cache_clear()


def find_copies(cache: Path) -> list[str]:
    return [path.name for path in cache.glob("bases/*/*.safetensors")]


def load_copy(path: Path, load: Callable[..., Any], **options: Any) -> nn.Module:
    """The model of a copy, which is made here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("d2l.bases.gguf_weights.read_weights", lambda *_: None)
        model: nn.Module = load(find_base("tiny", override=str(path)), device="cpu", **options)
        return model


def assert_equal(got: nn.Module, expected: nn.Module) -> None:
    ours, theirs = got.state_dict(), expected.state_dict()
    assert list(ours) == list(theirs)
    assert type(got) is type(expected)
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype
        assert torch.equal(ours[name], tensor), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float16])
@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_those_of_a_copy_and_none_is_made(
    family: str, dtype: torch.dtype, tmp_path: Path, cache: Path
) -> None:
    path = write_gguf(tmp_path / "base.gguf", family=family)
    base = find_base("tiny", override=str(path))
    causal = load_causal(base, device="cpu", dtype=dtype)
    decoder = load_frozen(base, device="cpu", dtype=dtype, n_layers=2)
    assert find_copies(cache) == []
    assert_equal(causal, load_copy(path, load_causal, dtype=dtype))
    assert_equal(decoder, load_copy(path, load_frozen, dtype=dtype, n_layers=2))
    assert len(find_copies(cache)) == 1


def test_a_known_base_is_that_of_its_copy(smollm2_files: BaseFiles) -> None:
    assert smollm2_files.gguf is not None
    path = smollm2_files.gguf
    base = find_base("smol", override=str(path))
    options: dict[str, Any] = {"dtype": torch.bfloat16, "n_layers": 3}
    assert_equal(
        load_frozen(base, device="cpu", **options), load_copy(path, load_frozen, **options)
    )


def test_a_copy_that_lies_there_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "base.gguf")
    load_copy(path, load_causal, dtype=torch.bfloat16)
    monkeypatch.setattr("d2l.bases.gguf_weights.read_weights", lambda *_: pytest.fail("read"))
    load_causal(find_base("tiny", override=str(path)), device="cpu", dtype=torch.bfloat16)


def miss(_kind: str) -> None:
    """Find no function, as without the package."""


def find_other(_kind: str) -> Callable[[Any, Any], None]:
    """Find a function of another version, whose values differ."""

    def dequantize(_data: Any, out: Any) -> None:
        out[:] = 1.0

    return dequantize


@pytest.mark.parametrize("find", [miss, find_other])
def test_a_copy_is_made_where_no_function_has_ggufs_own_values(
    find: Any, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2l.bases.gguf_weights.find_dequantizer", find)
    path = write_gguf(tmp_path / "base.gguf")
    load_causal(find_base("tiny", override=str(path)), device="cpu", dtype=torch.bfloat16)
    assert find_copies(cache) == ["model.bf16.safetensors"]


@pytest.mark.parametrize("kind", ["Q4_K", "Q6_K", "Q5_0", "Q8_0", "Q4_0", "Q5_K", "IQ4_XS"])
def test_functions_of_usual_kinds_have_ggufs_own_values(kind: str) -> None:
    assert gguf_weights._find_checked(kind) is not None
    assert gguf_weights._find_checked("BF16") is None  # no row function: a copy is made


def test_tensors_begin_where_the_files_alignment_puts_them(tmp_path: Path) -> None:
    path = tmp_path / "base.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_custom_alignment(256)
    writer.add_tensor("a.weight", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.add_tensor("b.weight", np.ones(5, dtype=np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    tensors, data = read_tensors(path), path.read_bytes()
    expected = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    assert tensors.keys() == expected.keys()
    assert all(tensors[name].start == tensor.data_offset for name, tensor in expected.items())
    shape, start = tensors["a.weight"].shape, tensors["a.weight"].start
    assert shape == (3, 4)
    stored = np.frombuffer(data, np.float32, math.prod(shape), start)
    assert stored.tolist() == list(range(12))


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "base.gguf")
    norm = read_tensors(path)["output_norm.weight"]
    data = bytearray(path.read_bytes())
    data[norm.start : norm.start + 4] = np.float32("nan").tobytes()
    path.write_bytes(data)
    base = find_base("tiny", override=str(path))
    message, _ = refuse(BaseModelError, load_causal, base, device="cpu", dtype=torch.bfloat16)
    assert message == f"{path}: NaN or infinite values in model.norm.weight"


def test_a_file_of_another_shape_than_its_header_says_is_damaged(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "base.gguf")
    base = find_base("tiny", override=str(path))
    base.config.intermediate_size += 32
    message, hint = refuse(BaseModelError, load_causal, base, device="cpu", dtype=torch.bfloat16)
    assert message == f"{path}: this GGUF file is damaged or of an unsupported architecture"
    assert "expected" in str(hint)
