from pathlib import Path

import pytest
import torch

from d2l.evaluation import harm
from d2l.evaluation.harm import Harm, measure_harm
from d2l.inference.adapted_model import AdaptedModel
from d2l.inference.options import AskOptions
from tests import tiny
from tests.compiled import (
    KINDS,
    Compile,
    Compiled,
    compile_tiny,
    family_of,
    make_dense,
    write_prompt,
)
from tests.loaded import change_weights
from tests.slow import slow_after

pytestmark = pytest.mark.usefixtures("one_thread")

PROMPTS = ["Why?", "Name three rivers in Asia.", "Wo steht die Pumpe?", "Say hello to Ann."]
ALL_WORDS = tiny.SYSTEM + "".join(f" {word}" for word in tiny.WORDS)
END = 2


def load(done: Compiled, adapter: Path | None = None) -> AdaptedModel:
    options = AskOptions(base=str(done.base), device="cpu", offline=True)
    return AdaptedModel.load(adapter or done.adapter, options)


# ---- the measure --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", slow_after(2, "llama", "seats", *sorted({*KINDS} - {"llama", "seats"}))
)
def test_harm_is_that_of_the_dense_models(kind: str, compiled: Compile) -> None:
    """One prompt after the other, everything read anew, the sum over the vocabulary in float64."""
    done = compiled(kind)
    plain, dense = tiny.make_causal(family_of(kind)), make_dense(kind, done.adapter)
    system = ALL_WORDS if kind == "seats" else tiny.SYSTEM
    kls, kept = [], []
    for text in PROMPTS:
        bare, own = (tiny.encode(write_prompt(text, s)) for s in (tiny.SYSTEM, system))
        answer: list[int] = []
        while len(answer) < harm.MAX_TOKENS and END not in answer[-1:]:
            answer.append(int(plain(torch.tensor([bare + answer])).logits[0, -1].argmax()))
        p, q = (
            model(torch.tensor([ids + answer])).logits[0, len(ids) - 1 : -1].double().softmax(-1)
            for model, ids in ((plain, bare), (dense, own))
        )
        kls.append(float((p * (p / q).log()).sum(-1).mean()))
        kept.append(float((p.argmax(-1) == q.argmax(-1)).double().mean()))
    asker = load(done)
    found = measure_harm(asker, PROMPTS)
    assert found.n == len(PROMPTS)
    assert found.kl == pytest.approx(torch.tensor(kls).mean().item(), abs=1e-4)  # fp32, batched
    assert found.unchanged == pytest.approx(torch.tensor(kept).mean().item(), abs=1e-6)
    error = torch.tensor(kls).std().item() / len(kls) ** 0.5
    assert found.stderr["kl"] == pytest.approx(error, abs=1e-4)
    assert found.kl > 0.01
    opening = tiny.encode(f"<|im_start|>system\n{ALL_WORDS}")
    assert found.seats == (len(opening) - 1 if kind == "seats" else None)


def test_an_adapter_that_does_nothing_does_no_harm(tmp_path: Path) -> None:
    done = compile_tiny(tmp_path, "qwen3")
    change_weights(done.adapter, lambda name, tensor: tensor * (".lora_A." in name))
    asker = load(done)
    found = measure_harm(asker, PROMPTS)
    assert (found.kl, found.unchanged) == (0.0, 1.0)
    assert found.stderr == {"kl": 0.0, "unchanged": 0.0}


def test_harm_is_told_with_its_seats_and_prompts() -> None:
    harm = Harm(18, 24, 0.476, 0.75, {"kl": 0.02, "unchanged": 0.01})
    told = "KL 0.48 ± 0.02 nats a token, 75.0% of most likely tokens unchanged"
    assert str(harm) == f"{told} (24 general prompts, 18 seats)"
