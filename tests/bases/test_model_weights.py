import hashlib
import io
import json
import struct
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from d2l.bases import attention, devices
from d2l.bases.families import BLOCKS, FAMILIES, find_family
from d2l.bases.models import BaseFiles, find_base, load_causal, load_frozen
from d2l.errors import BaseModelError
from tests import tiny
from tests.bases.test_shards import write_shards
from tests.refusals import refuse

NAME = "tiny-org/llama-tiny"
INCOMPLETE = "the folder is incomplete, or its files belong to different models"

pytestmark = pytest.mark.usefixtures("alone")


refusal = partial(refuse, BaseModelError)


def load(folder: Path, n_layers: int | None = None) -> Any:
    files = BaseFiles(NAME, folder)
    return load_frozen(files, device="cpu", dtype=torch.float32, n_layers=n_layers)


def change_config(folder: Path, **changes: Any) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps(config | changes), "utf-8")


# ---- config.json --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ("", "OSError: "),
        ("{", "OSError: "),
        ("[]", "ValueError: "),
        ("null", "TypeError: "),
        ("{}", "ValueError: "),
        ({"model_type": "no-such-type"}, "ValueError: "),
        ({"model_type": ["llama"]}, "TypeError: "),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"hidden_size": None}, "hidden_size"),
        ({"num_attention_heads": 0}, "ZeroDivisionError"),
        ({"layer_types": 5}, "not iterable"),
        ({"dtype": "no-such-type"}, "no-such-type"),
    ],
)
def test_config_of_no_model_is_refused(
    base: Path, changes: str | dict[str, Any], word: str
) -> None:
    if isinstance(changes, str):
        (base / "config.json").write_text(changes)
    else:
        change_config(base, **changes)
    message, hint = refusal(load, base)
    assert message == f"{base}: config.json is not that of a known model"
    assert hint is not None
    assert word in hint


@pytest.mark.parametrize("changes", [{"hidden_act": "evil"}, {"head_dim": 0}, {"hidden_size": -4}])
def test_config_that_no_model_can_be_built_from_is_refused(
    base: Path, changes: dict[str, Any]
) -> None:
    change_config(base, **changes)
    assert refusal(load, base)[0] == f"{base}: the weights of the base cannot be loaded"


def test_base_of_a_type_that_is_not_supported_is_refused(base: Path) -> None:
    (base / "config.json").write_text('{"model_type": "bert"}')
    assert refusal(load, base) == (
        "base models of type 'bert' are not supported",
        f"supported: {', '.join(sorted(FAMILIES))}",
    )


def test_code_beside_a_model_is_not_run_nor_is_the_user_asked(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "ran"
    (base / "evil.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
    code = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    for model_type, refused in (("llama", False), ("evil", True)):
        change_config(base, auto_map=code, model_type=model_type)
        monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
        if refused:
            message, _ = refusal(load, base)
            assert message == f"{base}: config.json is not that of a known model"
        else:
            load(base)
    assert not marker.exists()
    assert capsys.readouterr().out == ""


# ---- weights ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_loaded_base_is_the_model(bases: Path, family: str) -> None:
    files = find_base(tiny.base_name(family), override=str(bases / f"{family}-tiny"))
    assert files.family is FAMILIES[family]
    ids, expected = torch.arange(10, 50)[None], tiny.make_causal(family)
    causal = load_causal(files, device="cpu", dtype=torch.float32)
    decoder = load_frozen(files, device="cpu", dtype=torch.float32)
    with torch.no_grad():
        wanted = expected(ids, output_hidden_states=True)
        torch.testing.assert_close(causal(ids).logits, wanted.logits, atol=1e-4, rtol=1e-4)
        states = decoder(ids).last_hidden_state
    torch.testing.assert_close(states, wanted.hidden_states[-1], atol=1e-4, rtol=1e-4)
    for model in (causal, decoder):
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())
        assert model.config._attn_implementation == FAMILIES[family].attention


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_precision_is_the_one_asked_for(base: Path, dtype: torch.dtype) -> None:
    model = load_frozen(BaseFiles(NAME, base), device="cpu", dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


@pytest.mark.parametrize("family", FAMILIES)
def test_layers_can_be_left_out(bases: Path, family: str) -> None:
    folder, files = bases / f"{family}-tiny", BaseFiles(NAME, bases / f"{family}-tiny")
    weights = load_file(folder / "model.safetensors")
    model = load_frozen(files, device="cpu", dtype=torch.float32, n_layers=2)
    assert len(model.layers) == 2
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, weights[f"model.{name}"])
    assert files.config.num_hidden_layers == tiny.N_LAYERS
    assert len(load(folder, n_layers=99).layers) == tiny.N_LAYERS


def write_unreadable(path: Path, tensors: Mapping[str, torch.Tensor], layer: int) -> None:
    """A safetensors file in which a layer's tensors are of a type that PyTorch does not have."""
    header, data = {}, b""
    for name, tensor in tensors.items():
        unreadable = f".layers.{layer}." in name
        content = b"\0" * 3 if unreadable else tensor.numpy().tobytes()
        header[name] = {
            "dtype": "F6_E2M3" if unreadable else "F32",
            "shape": [4] if unreadable else list(tensor.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_layers_left_out_are_never_read(base: Path) -> None:
    path = base / "model.safetensors"
    write_unreadable(path, load_file(path), layer=2)
    assert len(load(base, n_layers=2).layers) == 2
    assert refusal(load, base, n_layers=3)[0].startswith(f"{base}: ")


@pytest.mark.parametrize("n_layers", [1, None])
def test_missing_weights_are_named(base: Path, n_layers: int | None) -> None:
    path = base / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.0.mlp.up_proj.weight"]
    save_file(weights, path, {"format": "pt"})
    assert refusal(load, base, n_layers) == (
        f"{base}: weights do not match config.json, "
        "for example layers.0.mlp.up_proj.weight is missing",
        INCOMPLETE,
    )


def test_misshapen_weights_are_named_with_both_shapes(base: Path) -> None:
    change_config(base, intermediate_size=65)
    files = BaseFiles(NAME, base)
    refused = (
        f"{base}: weights do not match config.json, for example "
        "model.layers.0.mlp.down_proj.weight is (32, 64), expected (32, 65)",
        INCOMPLETE,
    )
    assert refusal(load_causal, files, device="cpu", dtype=torch.float32) == refused
    assert refusal(load, base) == (refused[0].replace("model.layers", "layers"), INCOMPLETE)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth"])
def test_pickled_weights_are_refused(base: Path, name: str) -> None:
    (base / "model.safetensors").rename(base / name)
    assert refusal(load, base) == (
        f"{base}: no safetensors weights",
        "d2l reads model.safetensors (or its shards), not pickled weights",
    )


@pytest.mark.parametrize("size", [0, 7, 100, 5000])
def test_truncated_weights_are_refused(base: Path, size: int) -> None:
    path = base / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    message, hint = refusal(load, base)
    assert message == f"{base}: the weights of the base cannot be loaded"
    assert hint is not None
    assert hint.startswith("SafetensorError: ")


def test_shards_are_one_model_and_a_missing_one_is_refused(base: Path) -> None:
    whole = load(base).state_dict()
    write_shards(base, 2)
    assert all(torch.equal(t, whole[name]) for name, t in load(base).state_dict().items())
    digests = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(base.glob("*.safe*rs"))]
    assert len(digests) == 2
    joined = hashlib.sha256("\n".join(digests).encode()).hexdigest()
    assert BaseFiles(NAME, base).digest() == joined
    (base / "model-00002-of-00002.safetensors").unlink()
    assert refusal(load, base)[0].startswith(f"{base}: ")


def test_digest_of_a_single_file_is_its_own(base: Path, gguf_file: Path) -> None:
    weights = hashlib.sha256((base / "model.safetensors").read_bytes()).hexdigest()
    assert BaseFiles(NAME, base).digest() == weights
    quantized = hashlib.sha256(gguf_file.read_bytes()).hexdigest()
    assert BaseFiles(NAME, base, gguf=gguf_file).digest() == quantized


def test_flash_attention_takes_the_place_of_blocks_on_cuda_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pick(family: str = "gemma2", dtype: torch.dtype = torch.bfloat16) -> str:
        return attention.pick_attention(find_family(family), device="cuda", dtype=dtype)

    installed = SimpleNamespace(flash_attn_func=lambda q, k, v, softcap: (q, k, v, softcap))
    monkeypatch.setitem(sys.modules, "flash_attn", installed)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    monkeypatch.setattr(attention, "is_flash_attn_2_available", lambda: True)
    assert pick() == "flash_attention_2"
    assert pick("llama") == "sdpa"
    assert pick(dtype=torch.float32) == BLOCKS
    for owner, name, value in (
        (torch.cuda, "get_device_capability", lambda _: (7, 5)),
        (installed, "flash_attn_func", lambda q, k, v: (q, k, v)),  # loses the soft cap
        (devices, "is_cuda", lambda _: False),
        (attention, "is_flash_attn_2_available", lambda: False),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, value)
            assert pick() == BLOCKS
    monkeypatch.setitem(sys.modules, "flash_attn", None)  # not installed
    assert pick() == BLOCKS


def test_bf16_sums_on_cuda_are_kept_in_fp32_as_in_the_public_evaluation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matmul = torch.backends.cuda.matmul
    was = matmul.allow_bf16_reduced_precision_reduction
    base = find_base("tiny", override=str(tiny.write_base(tmp_path / "base", "llama")))
    try:
        matmul.allow_bf16_reduced_precision_reduction = True
        load_frozen(base, device="cpu", dtype=torch.bfloat16)
        assert matmul.allow_bf16_reduced_precision_reduction
        monkeypatch.setattr(devices, "is_cuda", lambda _: True)
        load_frozen(base, device="cpu", dtype=torch.bfloat16)
        assert not matmul.allow_bf16_reduced_precision_reduction
    finally:
        matmul.allow_bf16_reduced_precision_reduction = was
