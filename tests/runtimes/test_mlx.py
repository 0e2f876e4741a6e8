"""mlx-lm adapter folders: what is in the files. tests/engines loads them with mlx-lm."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.errors import AdapterError
from d2l.runtimes.mlx import write_mlx
from tests import tiny
from tests.task_adapters import make_factors


def make_weights(family: str = "llama", layers: range = range(tiny.N_LAYERS)) -> LoraWeights:
    factors = make_factors(family, layers=layers)
    return LoraWeights("base", 0.5, {name: LoraFactors(*ab) for name, ab in factors.items()})


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_factors_are_transposed_and_keep_their_names(family: str, tmp_path: Path) -> None:
    weights = make_weights(family)
    write_mlx(weights, tiny.N_LAYERS, tmp_path)
    found = load_file(tmp_path / "adapters.safetensors")
    assert len(found) == 2 * len(weights.factors)
    for name, factors in weights.factors.items():
        assert torch.equal(found[f"{name}.lora_a"], factors.a.T)
        assert torch.equal(found[f"{name}.lora_b"], factors.b.T)


def test_config_wraps_the_last_layers_and_has_one_rank_and_scale(tmp_path: Path) -> None:
    write_mlx(make_weights(layers=range(1, 3)), tiny.N_LAYERS, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text()) == {
        "fine_tune_type": "lora",
        "num_layers": 2,
        "lora_parameters": {
            "rank": 4,
            "scale": 0.5,
            "dropout": 0.0,
            "keys": ["self_attn.q_proj", "self_attn.v_proj"],
        },
    }


def test_modules_of_some_layers_are_named_in_full(tmp_path: Path) -> None:
    weights = make_weights(layers=range(1, 3))
    lonely = "model.layers.1.self_attn.q_proj"
    factors = {n: f for n, f in weights.factors.items() if "q_proj" not in n or n == lonely}
    write_mlx(LoraWeights("base", 0.5, factors), tiny.N_LAYERS, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["lora_parameters"]["keys"] == [lonely, "self_attn.v_proj"]


def test_factors_of_lower_rank_are_filled_up_with_zeros(tmp_path: Path) -> None:
    """mlx-lm has one rank, and refuses tensors of any other."""
    weights = make_weights()
    for name, factors in weights.factors.items():
        factors.a[3:] = 0.0  # nobody needs the fourth
        if "q_proj" in name:
            factors.a[2:] = 0.0
    own = LoraWeights("base", 0.5, weights.factors, ranks={"q_proj": 2, "v_proj": 3})
    write_mlx(own, tiny.N_LAYERS, tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert config["lora_parameters"]["rank"] == 3
    found = load_file(tmp_path / "adapters.safetensors")
    for name, factors in weights.factors.items():
        a, b = found[f"{name}.lora_a"], found[f"{name}.lora_b"]
        assert (a.shape[1], b.shape[0]) == (3, 3)
        assert torch.equal((a @ b).T, factors.b @ factors.a)
        assert bool((a[:, 2] == 0).all()) == ("q_proj" in name)


def test_half_precision_is_stored_as_asked(tmp_path: Path) -> None:
    write_mlx(make_weights(), tiny.N_LAYERS, tmp_path, dtype="bf16")
    found = load_file(tmp_path / "adapters.safetensors")
    assert {tensor.dtype for tensor in found.values()} == {torch.bfloat16}


def test_values_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.q_proj"
    broken = {name: LoraFactors(torch.full((2, 32), torch.inf), torch.ones(32, 2))}
    with pytest.raises(AdapterError, match=f"{name}: has values that are not finite"):
        write_mlx(LoraWeights("base", 1.0, broken), 1, tmp_path)


def test_an_adapter_of_no_layer_is_refused(tmp_path: Path) -> None:
    head = {"lm_head": LoraFactors(torch.ones(2, 32), torch.ones(50, 2))}
    with pytest.raises(AdapterError, match="changes no decoder layer"):
        write_mlx(LoraWeights("base", 1.0, head), 1, tmp_path)
