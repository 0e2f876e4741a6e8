"""A session of the default network's class: KV cache, bf16, and the thresholds of the product.

A tiny base of random weights knows no refusal: the rows of its head that write the refusal are
solved from its own states, and then it refuses.
"""

import math
from pathlib import Path

import pytest
import torch

from d2l.answer.model import AdaptedModel
from d2l.datasets.silence import FEW_WORDS, INSTRUCTION, NOT_FOUND, SILENCE
from d2l.parts.engine import Judged
from tests import tiny
from tests.kv import compile_own, load

pytestmark = pytest.mark.usefixtures("one_thread")
KNOWN = "How often is the filter rinsed?"
UNKNOWN = "Who painted the wall of the harbor?"
N_REFUSAL = 4  # tokens of the refusal that judge a part
#: By transformers alone, in fp32, for `KNOWN` behind each part: entropy of the first token, in
#: nats, and log-probability of the refusal's first four tokens. bf16 and parts in four bits move an
#: entropy by 0.006, a log-probability by 0.1; a token more or less moves it by 6.
ENTROPIES = (5.29, 5.3171, 5.2521, 5.2656, 5.3243, 5.2582)
REFUSALS = (-26.158, -26.176, -25.926, -26.107, -25.561, -25.571)
NEAR_ENTROPY, NEAR_REFUSAL = 0.02, 0.3


def read_states(asker: AdaptedModel, question: str) -> torch.Tensor:
    """States (parts, 4, hidden) behind a question and behind each token of the refusal, by
    transformers alone, from prompts written by hand."""
    causal, rows = asker.model.get_base_model(), []
    for record in asker.kept.records[:-1]:  # the last is the overview
        above = " > ".join(one for one in record.headings if not record.text.startswith(one))
        page = f"{above}\n{record.text}" if above else record.text
        told = (
            f"<|im_start|>system\n{INSTRUCTION}<|im_end|>\n<|im_start|>user\n{page}\n\n"
            f"{question}{FEW_WORDS}<|im_end|>\n<|im_start|>assistant\n"
        )
        ids = tiny.encode(told) + tiny.encode(SILENCE)[: N_REFUSAL - 1]
        with asker.model.disable_adapter(), torch.inference_mode():
            rows.append(causal.model(torch.tensor([ids])).last_hidden_state[0, -N_REFUSAL:])
    return torch.stack(rows).float()


def learn_refusal(asker: AdaptedModel) -> None:
    """Solve the head's rows of the refusal's tokens behind `UNKNOWN`: a logit is 20 where its token
    is next, and -20 behind the other tokens."""
    states = read_states(asker, UNKNOWN)
    head = asker.model.get_base_model().lm_head.weight
    for n, token in enumerate(tiny.encode(SILENCE)[:N_REFUSAL]):
        wanted = torch.full(states.shape[:2], -20.0)
        wanted[:, n] = 20.0
        solved = torch.linalg.lstsq(states.flatten(0, 1), wanted.flatten()[:, None]).solution
        with torch.no_grad():
            head[token] = solved[:, 0]


def watch(asker: AdaptedModel, monkeypatch: pytest.MonkeyPatch) -> list[list[Judged]]:
    """Record what the engine reads for the judging of parts."""
    readings: list[list[Judged]] = []
    compare = asker.engine.compare

    def note(*given: object) -> list[Judged]:
        readings.append(compare(*given))  # type: ignore[arg-type]
        return readings[-1]

    monkeypatch.setattr(asker.engine, "compare", note)
    return readings


def test_a_base_answers_from_the_best_part_and_refuses_where_no_part_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asker = load(compile_own(tmp_path, "qwen2", dtype="bf16"), dtype="bf16")
    assert asker.engine.dtype == torch.bfloat16
    readings = watch(asker, monkeypatch)
    known, unknown = ([{"role": "user", "content": text}] for text in (KNOWN, UNKNOWN))

    verdict = asker.read(known, asker.options).verdict
    shares = dict(zip(verdict.indices, verdict.scores, strict=True))
    routed = sorted(shares, key=lambda n: (-shares[n], n))
    read = dict(zip(routed, readings.pop(), strict=True))
    entropies = [read[n].entropy for n in range(len(read))]
    refusals = [math.log(read[n].refusal) for n in range(len(read))]
    assert entropies == pytest.approx(ENTROPIES, abs=NEAR_ENTROPY)
    assert refusals == pytest.approx(REFUSALS, abs=NEAR_REFUSAL)
    worth = {n: 10 * shares[n] / verdict.most - entropies[n] for n in read}
    assert list(verdict.indices) == sorted(worth, key=lambda n: -worth[n])
    assert list(verdict.indices) != routed  # by certainty, not by words alone

    answer = asker.answer(known)
    assert (answer.found, answer.place) == (True, "The mill > Pump")
    assert max(one.refusal for one in readings.pop()) < 0.01

    learn_refusal(asker)
    refused = asker.answer(unknown)
    assert min(one.refusal for one in readings.pop()) > 0.5
    assert (refused, refused.found) == (NOT_FOUND, False)
    assert refused.place == "The mill"  # the closest: "the mill and its harbor"
    page = asker.ask(UNKNOWN, page="Lantern")
    assert page.place == "The mill > Lantern"  # the user named the page
    assert len(readings) == 1  # for its few words
