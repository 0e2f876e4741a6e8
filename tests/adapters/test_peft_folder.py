import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save, save_file

from d2l.adapters.peft_folder import (
    DTYPES,
    AdapterContent,
    read_adapter,
    read_memory,
    write_adapter,
)
from d2l.adapters.provenance import Provenance
from d2l.adapters.weights import LoraFactors, LoraWeights, Memory
from d2l.errors import AdapterError, D2LError
from tests import tiny
from tests.compiled import PEFT_DEPRECATION, make_dense, read_files
from tests.records import MINIMAL

pytestmark = pytest.mark.usefixtures("one_thread")

HINT_AGAIN = "compile the document again"
QUERY = torch.tensor([[1, 40, 50, 60, 70, 80, 90]])


def make_weights(
    family: str, rank: int = 3, scale: float = 0.25, layers: range = range(tiny.N_LAYERS)
) -> LoraWeights:
    """Random factors for every linear layer of a family's decoder layers."""
    generator = torch.Generator().manual_seed(5)
    parents = tuple(f"model.layers.{layer}." for layer in layers)
    factors = {}
    for name, module in tiny.make_causal(family).named_modules():
        if name.startswith(parents) and isinstance(module, torch.nn.Linear):
            a = torch.randn(rank, module.in_features, generator=generator)
            b = torch.randn(module.out_features, rank, generator=generator)
            factors[name] = LoraFactors(a, b)
    return LoraWeights(tiny.base_name(family), scale, factors)


def make_content(weights: LoraWeights | None = None, **changes: Any) -> AdapterContent:
    content = AdapterContent(
        weights=weights or make_weights("llama"),
        n_base_layers=tiny.N_LAYERS,
        provenance=Provenance.from_json(MINIMAL | {"note": "é"}, source="d2l.json"),
        texts={"README.md": "# Card\n"},
    )
    return replace(content, **changes)


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8"))


def compute_logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(QUERY).logits


# ---- what PEFT makes of a folder ----------------------------------------------------------------


@pytest.mark.filterwarnings(PEFT_DEPRECATION)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_logits_through_peft_are_those_of_w_plus_scaled_b_a(family: str, tmp_path: Path) -> None:
    weights = make_weights(family)
    folder = write_adapter(make_content(weights), tmp_path / "a.lora", dtype="fp32")
    got = compute_logits(peft.PeftModel.from_pretrained(tiny.make_causal(family), str(folder)))
    bare = tiny.make_causal(family)
    without = compute_logits(bare)
    expected = compute_logits(tiny.add_delta(bare, weights))
    assert (expected - without).abs().max() > 1
    # fp32 sums in another order, through three layers of random weights
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.filterwarnings(PEFT_DEPRECATION)
@pytest.mark.parametrize("dtype", DTYPES)
def test_factors_are_stored_in_the_precision_asked_for_with_scale_folded_into_b(
    dtype: str, tmp_path: Path
) -> None:
    weights = make_weights("llama", scale=0.3)
    folder = write_adapter(make_content(weights), tmp_path / "a.lora", dtype=dtype)
    stored = load_file(folder / "adapter_model.safetensors")
    rounding = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[dtype]
    expected = {}
    for name, factors in weights.factors.items():
        expected[f"base_model.model.{name}.lora_A.weight"] = factors.a.to(rounding)
        expected[f"base_model.model.{name}.lora_B.weight"] = (0.3 * factors.b).to(rounding)
    assert stored.keys() == expected.keys()
    assert all(torch.equal(stored[name], tensor) for name, tensor in expected.items())
    written = (folder / "adapter_model.safetensors").read_bytes()
    assert written == save({n: t.contiguous() for n, t in expected.items()}, {"format": "pt"})
    model = peft.PeftModel.from_pretrained(tiny.make_causal("llama"), str(folder))
    rounded = compute_logits(make_dense("llama", folder))
    torch.testing.assert_close(compute_logits(model), rounded, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_and_nothing_is_written(
    value: float, dtype: str, tmp_path: Path
) -> None:
    weights = make_weights("llama")
    weights.factors["model.layers.1.mlp.up_proj"].b[2, 1] = value
    with pytest.raises(AdapterError) as caught:
        write_adapter(make_content(weights), tmp_path / "a.lora", dtype=dtype)
    assert caught.value.message == (
        f"the adapter has values that are not finite in {DTYPES[dtype]}, for example in "
        "base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"
    )
    assert list(tmp_path.iterdir()) == []


def test_values_too_large_for_fp16_are_refused_there_and_kept_in_bf16(tmp_path: Path) -> None:
    weights = make_weights("llama", scale=1e5)  # fp16 ends at 65,504
    with pytest.raises(AdapterError, match=r"not finite in torch\.float16"):
        write_adapter(make_content(weights), tmp_path / "a.lora", dtype="fp16")
    assert write_adapter(make_content(weights), tmp_path / "a.lora", dtype="bf16").is_dir()


def test_text_of_any_kind_can_be_written(tmp_path: Path) -> None:
    """File names in another encoding than UTF-8 reach Python as half characters."""
    named = Provenance.from_json(MINIMAL | {"warnings": ["a\udcff"]}, source="d2l.json")
    content = make_content(provenance=named, texts={"README.md": "é 'a\udcff'\n"})
    folder = write_adapter(content, tmp_path / "a.lora")
    assert read_json(folder / "d2l.json")["warnings"] == ["a\udcff"]
    assert (folder / "README.md").read_bytes() == b"\xc3\xa9 'a\\udcff'\n"


# ---- what stands at the target ------------------------------------------------------------------


def test_force_replaces_an_adapter_whole(tmp_path: Path) -> None:
    memory = Memory(torch.zeros(2, 3, 4), torch.zeros(2, 3, 4))
    out = write_adapter(make_content(memory=memory), tmp_path / "a.lora")
    write_adapter(make_content(make_weights("llama", rank=2)), out, force=True)
    assert "memory.safetensors" not in read_files(out)
    assert read_adapter(out).rank == 2
    assert [path.name for path in tmp_path.iterdir()] == ["a.lora"]


@contextmanager
def room_for(size_bytes: int) -> Iterator[None]:
    """Let the system refuse longer files, as it does when a disk is full: Python ignores the
    signal that comes with it, so writing fails with an OSError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


# The weights do not fit; the weights do and the card does not.
@pytest.mark.parametrize("size_bytes", [4_000, 40_000])
def test_a_disk_without_room_is_one_clear_error_and_the_old_adapter_stays(
    size_bytes: int, tmp_path: Path
) -> None:
    out = write_adapter(make_content(), tmp_path / "a.lora")
    before = read_files(out)
    assert 4_000 < len(before["adapter_model.safetensors"]) < 40_000
    content = make_content(texts={"README.md": "x" * 50_000})
    with room_for(size_bytes), pytest.raises(D2LError) as caught:
        write_adapter(content, out, force=True)
    assert caught.value.message == f"{out}: cannot be written (File too large)"
    assert caught.value.hint == "choose a folder with free space that you may write to"
    assert read_files(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.lora"]


# ---- reading back -------------------------------------------------------------------------------


def test_reading_back_gives_the_factors_that_were_written(tmp_path: Path) -> None:
    weights = make_weights("llama", scale=0.5)
    back = read_adapter(write_adapter(make_content(weights), tmp_path / "a", dtype="fp32"))
    assert (back.base, back.scale, back.rank) == ("tiny-org/llama-tiny", 1.0, 3)
    assert back.factors.keys() == weights.factors.keys()
    for name, factors in weights.factors.items():
        assert torch.equal(back.factors[name].a, factors.a)
        assert torch.equal(back.factors[name].b, 0.5 * factors.b)


def test_a_config_of_another_rank_is_one_clear_error(tmp_path: Path) -> None:
    out = write_adapter(make_content(), tmp_path / "a.lora")
    config = read_json(out / "adapter_config.json")
    (out / "adapter_config.json").write_text(json.dumps(config | {"r": 200_000}))
    with pytest.raises(AdapterError) as caught:
        read_adapter(out)
    assert caught.value.message == (
        f"{out / 'adapter_config.json'}: model.layers.0.mlp.down_proj has rank 200000 there, "
        "and 3 in adapter_model.safetensors"
    )


def test_tensors_that_do_not_fit_together_are_named(tmp_path: Path) -> None:
    out = write_adapter(make_content(), tmp_path / "a.lora")
    (out / "d2l.json").unlink()  # as another tool writes it, without digests
    path = out / "adapter_model.safetensors"
    good = load_file(path)
    module = "model.layers.0.mlp.down_proj"
    a, b = (f"base_model.model.{module}.lora_{letter}.weight" for letter in "AB")
    cases = [
        ({b: None}, f"{a} has no partner {b}"),
        (
            {a: torch.ones(2, 64)},
            f"{module}: LoRA factors do not fit: a (2, 64), b (32, 3), "
            "expected (rank, d_in) and (d_out, rank)",
        ),
        (dict.fromkeys(good), "no LoRA tensors"),
    ]
    for changes, message in cases:
        tensors = {k: v for k, v in (good | changes).items() if v is not None}
        save_file(tensors, path)
        with pytest.raises(AdapterError) as caught:
            read_adapter(out)
        assert caught.value.message == f"{path}: {message}"


def test_memory_comes_back_as_bf16_holds_it_and_damage_is_named(tmp_path: Path) -> None:
    memory = Memory(torch.randn(2, 3, 4), torch.randn(2, 3, 4))
    out = write_adapter(make_content(memory=memory), tmp_path / "a.lora")
    back = read_memory(out)
    assert torch.equal(back.keys, memory.keys.bfloat16().float())
    assert torch.equal(back.values, memory.values.bfloat16().float())
    path = out / "memory.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(AdapterError, match="cut short or padded") as caught:
        read_memory(out)
    assert caught.value.hint == HINT_AGAIN
    save_file({"keys": torch.zeros(1)}, path)
    with pytest.raises(AdapterError, match="was changed, or belongs to another adapter"):
        read_memory(out)
    (out / "d2l.json").unlink()
    with pytest.raises(AdapterError) as caught:
        read_memory(out)
    assert caught.value.message == f"{path}: expected two tensors, keys and values"
    path.unlink()
    with pytest.raises(AdapterError) as caught:
        read_memory(out)
    assert caught.value.message == f"{out}: has no memory.safetensors"
