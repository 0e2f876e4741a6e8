"""What adapter_config.json says of an adapter's rank and modules, and what PEFT makes of it."""

import warnings
from dataclasses import replace
from pathlib import Path

import peft
import pytest
import torch

from d2l.adapters.info import read_info
from d2l.adapters.peft_folder import read_adapter, read_content, write_adapter
from d2l.adapters.weights import LoraFactors, LoraWeights
from tests import tiny
from tests.adapters.test_peft_folder import make_content, make_weights, read_json

pytestmark = pytest.mark.usefixtures("one_thread")


def test_alpha_equals_rank_and_both_are_integers(tmp_path: Path) -> None:
    weights = make_weights("llama", rank=5, scale=0.123)
    config = read_json(write_adapter(make_content(weights), tmp_path / "a") / "adapter_config.json")
    assert (config["r"], config["lora_alpha"]) == (5, 5)
    assert (type(config["r"]), type(config["lora_alpha"])) == (int, int)
    assert (config["use_rslora"], config["use_dora"]) == (False, False)
    assert config["base_model_name_or_path"] == "tiny-org/llama-tiny"
    assert config["target_modules"] == sorted(config["target_modules"])


@pytest.mark.parametrize(
    ("layers", "named"), [(range(3), None), (range(1, 3), [1, 2]), (range(2), [0, 1])]
)
def test_layers_are_named_only_where_some_are_missing(
    layers: range, named: list[int] | None, tmp_path: Path
) -> None:
    content = make_content(make_weights("llama", layers=layers))
    config = read_json(write_adapter(content, tmp_path / "a.lora") / "adapter_config.json")
    assert config.get("layers_to_transform") == named
    assert config.get("layers_pattern") == (None if named is None else "layers")


def test_modules_are_named_in_full_where_layers_differ_in_them(tmp_path: Path) -> None:
    """PEFT would put every module into every layer, and warn that their weights are missing."""
    weights = make_weights("llama", layers=range(1, 3))
    odd, *_ = sorted(weights.factors)
    uneven = replace(weights, factors={n: f for n, f in weights.factors.items() if n != odd})
    folder = write_adapter(make_content(uneven), tmp_path / "a.lora")
    config = read_json(folder / "adapter_config.json")
    assert config["target_modules"] == sorted(uneven.factors)
    assert "layers_to_transform" not in config
    again = write_adapter(read_content(read_info(folder), purpose="copied"), tmp_path / "b.lora")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (again / name).read_bytes() == (folder / name).read_bytes()
    model = tiny.make_causal("llama")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of weights that are missing PEFT only warns
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
        wrapped = peft.PeftModel.from_pretrained(model, str(folder))
    found = {name.split(".lora_A")[0] for name, _ in wrapped.named_parameters() if "lora_A" in name}
    assert found == {f"base_model.model.{name}" for name in uneven.factors}


def test_modules_outside_the_layers_are_written_and_read_back(tmp_path: Path) -> None:
    factors = LoraFactors(torch.ones(3, tiny.HIDDEN), torch.ones(5, 3))
    weights = LoraWeights("tiny-org/llama-tiny", 1.0, {"lm_head": factors})
    folder = write_adapter(make_content(weights), tmp_path / "a.lora")
    config = read_json(folder / "adapter_config.json")
    assert config["target_modules"] == ["lm_head"]
    assert "layers_to_transform" not in config
    assert read_adapter(folder).factors.keys() == {"lm_head"}
