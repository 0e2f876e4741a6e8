"""Rank and scale by module: what PEFT itself makes of the same config."""

import time
from pathlib import Path
from typing import Any

import peft
import pytest
from peft.tuners.lora import LoraLayer

from d2l.adapters.info import AdapterInfo
from d2l.adapters.peft_config import find_extras, module_rank, module_scale, refuse_extras
from d2l.errors import AdapterError
from d2l.files.tensors import TensorInfo
from tests import tiny
from tests.compiled import PEFT_DEPRECATION


@pytest.mark.filterwarnings(PEFT_DEPRECATION)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"lora_alpha": 5},
        {"use_rslora": True},
        {"rank_pattern": {"v_proj": 2, "layers.1.self_attn.q_proj": 7}},
        {"alpha_pattern": {r"layers\.[12]\..*q_proj": 3.5}},
        {"alpha_pattern": {"q_proj": 1}, "rank_pattern": {"q_proj": 2}, "use_rslora": True},
    ],
)
def test_scales_and_ranks_are_pefts(changes: dict[str, Any]) -> None:
    config = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]} | changes
    model = peft.get_peft_model(tiny.make_causal("llama"), peft.LoraConfig(**config))
    found = 0
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            plain = name.removeprefix("base_model.model.")
            assert module_scale(config, plain) == pytest.approx(module.scaling["default"])
            assert module_rank(config, plain) == module.r["default"]
            found += 1
    assert found == 2 * tiny.N_LAYERS


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 0, "lora_alpha": 1}, "r is 0, expected a positive rank"),
        ({"r": 2, "lora_alpha": "x"}, "lora_alpha is 'x', expected a number"),
        ({"r": 2, "lora_alpha": float("inf")}, "lora_alpha is inf, expected a number"),
        ({"r": 2, "rank_pattern": [1]}, "rank_pattern is not an object"),
        ({"r": 2, "rank_pattern": {"(": 1}}, "rank_pattern has '\\(', no pattern"),
    ],
)
def test_configs_without_a_usable_scale_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        module_scale(config, "model.layers.0.self_attn.q_proj")


@pytest.mark.parametrize(
    "key",
    [
        "(.*)*x",
        "(a+)+b",
        "(a|a)*b",
        "((x)*)*",
        "(?:[^.]+.?){9,}!",
        ".*.*.*.*.*.*x",
        "a?" * 30,
        "a" * 999,
    ],
)
def test_patterns_that_may_take_for_ever_are_refused(key: str) -> None:
    began = time.process_time()
    with pytest.raises(AdapterError, match="a pattern that may take for ever"):
        module_rank({"r": 2, "rank_pattern": {key: 1}}, "model.layers.0." + "a" * 99)
    assert time.process_time() - began < 1


@pytest.mark.parametrize(
    "key",
    [r"layers\.[12]\..*q_proj", r"(0|1|2)\.\w+\.q_proj", r".*\.layers\.\d+\..*", "[*+(]?q_proj"],
)
def test_patterns_of_the_usual_kinds_are_followed(key: str) -> None:
    config = {"r": 2, "rank_pattern": {key: 1}}
    assert module_rank(config, "model.layers.1.self_attn.q_proj") == 1
    assert module_rank(config, "lm_head") == 2


def test_the_slowest_pattern_that_is_followed_is_quick() -> None:
    config = {"r": 2, "rank_pattern": {".*.*.*x": 1}}
    began = time.process_time()
    for layer in range(30):
        assert module_rank(config, f"model.layers.{layer}.self_attn.q_proj.base_layer") == 2
    assert time.process_time() - began < 5
    with pytest.raises(AdapterError, match="is no name of a module"):
        module_rank(config, "a." * 200)


def make_info(config: dict[str, Any], *names: str) -> AdapterInfo:
    tensors = {name: TensorInfo("F32", (1,)) for name in names}
    return AdapterInfo(Path("a.lora"), config, tensors, None, 0)


def test_what_is_more_than_plain_lora_is_named() -> None:
    plain = ("x.lora_A.weight", "x.lora_B.weight")
    assert find_extras(make_info({"bias": "none", "use_dora": False}, *plain)) == []
    assert find_extras(make_info({"use_dora": True, "bias": "all"}, *plain)) == [
        "DoRA's magnitudes",
        "biases of the base",
    ]
    odd = make_info({}, *plain, "x.lora_embedding_A")
    with pytest.raises(AdapterError, match="lora_embedding_A, which cannot be sold"):
        refuse_extras(odd, purpose="sold")
