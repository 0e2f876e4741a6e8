"""Rank and scale by module: what PEFT itself makes of the same config."""

import time
from pathlib import Path
from typing import Any

import peft
import pytest
from peft.tuners.lora import LoraLayer

from d2l.adapters import patterns
from d2l.adapters.info import AdapterInfo
from d2l.adapters.patterns import refuse_slow
from d2l.adapters.peft_config import (
    find_extras,
    module_ranks,
    module_scales,
    refuse_extras,
    refuse_odd_tokens,
)
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
            scale, rank = module_scales(config, [plain]), module_ranks(config, [plain])
            assert scale[plain] == pytest.approx(module.scaling["default"])
            assert rank[plain] == module.r["default"]
            found += 1
    assert found == 2 * tiny.N_LAYERS


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"r": 0, "lora_alpha": 1}, "r is 0, expected a positive rank"),
        ({"r": 2, "lora_alpha": "x"}, "lora_alpha is 'x', expected a number"),
        ({"r": 2, "lora_alpha": float("inf")}, "lora_alpha is inf, expected a number"),
        ({"r": 2, "use_rslora": "no"}, "use_rslora is 'no', expected true or false"),
        ({"r": 2, "rank_pattern": [1]}, "rank_pattern is not an object"),
        ({"r": 2, "lora_alpha": 10**400}, "lora_alpha is 1000.*, expected a number"),
        ({"r": 10**5000}, "r is a number of thousands of digits, expected a positive rank"),
        ({"r": 2, "rank_pattern": {"(": 1}}, "rank_pattern has '\\(', no pattern"),
    ],
)
def test_configs_without_a_usable_scale_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        module_scales(config, ["model.layers.0.self_attn.q_proj"])


@pytest.fixture
def one_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less waiting: the limit is the same in kind."""
    monkeypatch.setattr(patterns, "LIMITS", patterns.LIMITS._replace(seconds=1.0))


@pytest.mark.usefixtures("one_second")
@pytest.mark.parametrize("key", ["(.*)*x", "(q|q)" * 40 + "!", r"(a*)*\b\1$"])
def test_patterns_that_take_for_ever_are_refused(key: str) -> None:
    began = time.monotonic()
    names = ["model.layers.0." + "q" * 60, "a" * 60 + "!"]
    with pytest.raises(AdapterError) as caught:
        module_ranks({"r": 2, "rank_pattern": {key: 1}}, names)
    assert caught.value.message == (
        "adapter_config.json: rank_pattern has patterns that take more than 1 seconds"
    )
    assert time.monotonic() - began < 15  # a busy machine


@pytest.mark.parametrize(
    ("field", "value"),
    [("target_modules", "(.*)*x"), ("layers_pattern", ["(.*)*x"])],
)
@pytest.mark.usefixtures("one_second")
def test_patterns_that_peft_would_match_for_ever_are_refused(field: str, value: Any) -> None:
    with pytest.raises(AdapterError, match=f"{field} has patterns that take more than 1 seconds"):
        refuse_slow({field: value}, ["model.layers.0.self_attn.q_proj" * 2])
    refuse_slow({"target_modules": ["(.*)*x"]}, ["model.layers.0.self_attn.q_proj" * 2])


@pytest.mark.parametrize(
    "key",
    [
        r"layers\.[12]\..*q_proj",
        r"(0|1|2)\.\w+\.q_proj",
        r".*\.layers\.\d+\..*",
        "[*+(]?q_proj",
        "layers.1.self_attn.q_proj",
    ],
)
def test_patterns_of_the_usual_kinds_are_followed(key: str) -> None:
    config = {"r": 2, "rank_pattern": {key: 1}}
    names = ["model.layers.1.self_attn.q_proj", "lm_head"]
    assert module_ranks(config, names) == dict(zip(names, (1, 2), strict=True))


def test_plain_names_start_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr("d2l.adapters.patterns.ask_child", fail)
    config = {"r": 2, "rank_pattern": {"q_proj": 1, r"layers\.1\.mlp.up_proj": 3}}
    assert module_ranks(config, ["model.layers.1.mlp.up_proj"])["model.layers.1.mlp.up_proj"] == 3


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
    assert find_extras(make_info({"init_lora_weights": "eva"}, *plain)) == []
    assert find_extras(make_info({"init_lora_weights": "pissa"}, *plain)) == [
        "a base that was changed first (init_lora_weights: 'pissa')"
    ]
    odd = make_info({}, *plain, "x.lora_embedding_A")
    with pytest.raises(AdapterError, match="lora_embedding_A, which cannot be sold"):
        refuse_extras(odd, purpose="sold")
    with pytest.raises(AdapterError, match="peft_type is 'ADALORA': this is no LoRA adapter"):
        refuse_extras(make_info({"peft_type": "ADALORA"}, *plain), purpose="sold")


@pytest.mark.parametrize("tokens", ["x", 7, [1.5], [True], [-1], {"a": 1}])
def test_invocation_tokens_that_are_none_are_refused(tokens: Any) -> None:
    refuse_odd_tokens({"alora_invocation_tokens": [1, 2]})
    refuse_odd_tokens({"alora_invocation_tokens": None})
    with pytest.raises(
        AdapterError, match=r"alora_invocation_tokens is .*, expected ids of tokens"
    ):
        refuse_odd_tokens({"alora_invocation_tokens": tokens})
