"""The small seat network against its own weights before their 8 bits, through PEFT."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from d2l.adapters.weights import LoraWeights
from d2l.bases.tokenizers import BaseTokenizer
from tests.slow import slow_after
from tests.tools.seat_goldens import GOLDENS, Compiled, ask

RECORDED = json.loads((GOLDENS / "shipped.json").read_text("utf-8"))


@pytest.mark.parametrize("name", slow_after(1, *sorted(RECORDED)))
def test_norms_are_the_plain_weights(compile_shipped: Callable[[str], Compiled], name: str) -> None:
    weights = compile_shipped(name).assembled.weights
    assert weights.rank == RECORDED[name]["seats"]
    assert sorted(weights.factors) == sorted(RECORDED[name]["norms"])
    for module, factors in weights.factors.items():
        expected = RECORDED[name]["norms"][module]
        assert float(factors.b.norm()) == pytest.approx(expected, rel=0.01)  # 8-bit weights


@pytest.mark.parametrize("name", slow_after(1, "note", "page"))
def test_answers_are_those_of_the_plain_weights(
    compile_shipped: Callable[[str], Compiled],
    smollm2_causal: Any,
    smollm2_tokenizer: BaseTokenizer,
    with_peft: Callable[[Any, LoraWeights], Any],
    cases: dict[str, Any],
    name: str,
) -> None:
    model = with_peft(smollm2_causal, compile_shipped(name).assembled.weights)
    pairs = list(zip(RECORDED[name]["questions"], cases[name]["questions"], strict=True))
    same = 0
    for recorded, question in pairs:
        answer = ask(model, smollm2_tokenizer, recorded["prompt_ids"], question["reference"])
        same += answer.text == recorded["answer"]
        assert answer.nll == pytest.approx(recorded["nll"], abs=0.05)  # 8-bit weights
    assert same >= len(pairs) - 1  # two answers may lie nearer than 8 bits tell apart
