"""The loss of Doc-to-LoRA: against recorded losses, and its LoRA against PEFT's of the adapter."""

import json
import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from d2l.adapters.weights import LoraWeights
from d2l.bases.activations import ActivationEncoder, Activations
from d2l.hypernets.doc_to_lora.network import DocToLora, build
from d2l.hypernets.options import MergeOptions
from d2l_lab.training.learners.doc_to_lora.learner import (
    distill,
    generate,
    measure_document,
    take_target,
)
from d2l_lab.training.learners.forward import adapted, predict
from tests import tiny
from tests.hypernets import networks

GOLDENS = Path(__file__).parents[3] / "data" / "goldens" / "d2l"
PROMPTS = ((1, 10, 11, 12, 13), (1, 20, 21))
ANSWERS = ((30, 31, 2), (40, 41, 42, 43, 2))


def make_network(family: str, **changes: Any) -> DocToLora:
    config = tiny.make_doc_to_lora_config(family, **changes)
    return build(config, networks.make_tensors(config), device="cpu")


def read_chunks(network: DocToLora, causal: Any) -> list[torch.Tensor]:
    read = ActivationEncoder(causal.model, network.config.reading)
    return [read(ids).hidden for ids in ((1, 50, 51, 52, 53), (1, 60, 61))]


def test_losses_are_those_that_were_recorded() -> None:
    """fp32, sums in another order."""
    given = load_file(GOLDENS / "losses.safetensors")
    expected = json.loads((GOLDENS / "losses.json").read_text("utf-8"))
    logits, labels = given["logits"][0], given["labels"][0]
    starts = [*(given["position_ids"][0] == 0).nonzero()[:, 0].tolist(), len(labels)]
    answers, targets, n_read = [], [], 0
    for start, stop in pairwise(starts):
        places = [place for place in range(start, stop) if labels[place] >= 0]
        answers.append(logits[[place - 1 for place in places]])  # position i predicts i + 1
        rows = slice(n_read, n_read + len(places))
        targets.append((given["teacher_indices"][rows], given["teacher_logprobs"][rows]))
        n_read += len(places)
    assert n_read == len(given["teacher_indices"])
    for l1 in (0.0, 0.1):
        losses, first = [], 0
        for index, n_queries in enumerate(given["n_queries"].tolist()):
            generated = {"down_proj": (given["lora_A"][index], given["lora_B"][index])}
            chosen = slice(first, first + n_queries)
            loss, _ = measure_document(answers[chosen], targets[chosen], generated, l1=l1)
            losses.append(float(loss))
            first += n_queries
        assert sum(losses) / len(losses) == pytest.approx(
            expected[f"kl.per_ctx=True.l1={l1}"], abs=1e-5
        )


def test_the_loss_of_a_token_is_least_at_the_teachers_distribution() -> None:
    teacher = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
    target = take_target(teacher, k=2)
    chances = teacher.softmax(-1)[0]
    expected = -sum(float(p) * math.log(float(p)) for p in chances[:2])
    assert target[0].tolist() == [[0, 1]]
    assert distill(teacher, target).tolist() == pytest.approx([expected], abs=1e-6)
    assert float(distill(torch.zeros(1, 4), target)) == pytest.approx(
        float(chances[:2].sum()) * math.log(4), abs=1e-6
    )


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
@pytest.mark.parametrize("use_bias", [True, False])
def test_logits_are_those_of_the_exported_adapter_in_peft(
    family: str, use_bias: bool, with_peft: Callable[[Any, LoraWeights], Any]
) -> None:
    """PEFT runs each answer alone and unpadded."""
    causal, network = tiny.make_causal(family), make_network(family, use_bias=use_bias)
    chunks = read_chunks(network, causal)
    with torch.no_grad():
        before = predict(causal, PROMPTS, ANSWERS)
        with adapted(causal, generate(network, chunks), network.config.scale):
            got = predict(causal, PROMPTS, ANSWERS)
        after = predict(causal, PROMPTS, ANSWERS)
    parts = [network.generate(Activations(hidden), network.config.rank) for hidden in chunks]
    tuned = with_peft(causal, network.assemble(parts, MergeOptions()).weights)
    for prompt, answer, logits, plain, again in zip(
        PROMPTS, ANSWERS, got, before, after, strict=True
    ):
        with torch.no_grad():
            whole = tuned(input_ids=torch.tensor([[*prompt, *answer[:-1]]])).logits[0]
        expected = whole[len(prompt) - 1 :]
        assert expected.shape == logits.shape
        torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
        assert (logits - plain).abs().max() > 0.1  # the adapter does something
        assert torch.equal(plain, again)  # and is gone after the block


def test_every_parameter_learns_and_the_base_does_not() -> None:
    causal = tiny.make_causal("llama")
    network = make_network("llama").requires_grad_(True)
    generated = generate(network, read_chunks(network, causal))
    with torch.no_grad():
        targets = [
            take_target(row + torch.randn(row.shape)) for row in predict(causal, PROMPTS, ANSWERS)
        ]
    with adapted(causal, generated, network.config.scale):
        logits = predict(causal, PROMPTS, ANSWERS)
    loss, losses = measure_document(logits, targets, generated, l1=0.1)
    loss.backward()
    assert not losses.requires_grad
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().max()) > 0, name
    assert all(parameter.grad is None for parameter in causal.parameters())
