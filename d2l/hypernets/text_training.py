"""A Text-to-LoRA network in training: new weights, its standardized input, and its loss.

Tensors in, tensors out. In training the network reads standardized embeddings; a checkpoint reads
them as they are, so the standardization is folded into its first layer. Knows no files or steps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from d2l.errors import CheckpointError
from d2l.hypernets.doc_to_lora_training import Generated, adapted, predict
from d2l.hypernets.text_to_lora import TextToLora, TextToLoraConfig

_FIRST = "task_encoder.mlp.0"
_LEAST_DEVIATION = 1e-3  # of embeddings of length √embedding_size


@dataclass(frozen=True)
class Standard:
    """Mean and deviation of training descriptions' embeddings, (embedding_size,) fp32 each."""

    mean: Tensor
    deviation: Tensor

    def apply(self, embeddings: Tensor) -> Tensor:
        """(..., embedding_size) to the same, each coordinate with mean 0 and deviation 1."""
        return (embeddings - self.mean) / self.deviation


def take_standard(embeddings: Tensor) -> Standard:
    """The statistics of embeddings (descriptions, embedding_size); at least one."""
    exact = embeddings.double()
    deviation = exact.std(dim=0, correction=0).clamp(min=_LEAST_DEVIATION)
    return Standard(exact.mean(dim=0).float(), deviation.float())


def draw_tensors(config: TextToLoraConfig, *, seed: int) -> dict[str, Tensor]:
    """New weights whose first adapters do nothing; raises CheckpointError.

    Heads begin at zero and the offset of A as PEFT begins a LoRA's (tuners/lora/layer.py,
    reset_lora_parameters), as in SakanaAI/text-to-lora, where the heads' biases are the offset.
    """
    if not config.adds_offset:
        raise CheckpointError("new weights need adds_offset: adapters begin at the offset")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = TextToLora(config)
        for head in network.heads.values():
            assert isinstance(head, nn.Linear)
            nn.init.zeros_(head.weight)
            if head.bias is not None:
                nn.init.zeros_(head.bias)
        offsets = network.AB_offset["A"]
        for name in config.module_order:
            for layer in offsets.get_parameter(name):  # (rank, d_in)
                nn.init.kaiming_uniform_(layer, a=math.sqrt(5))
    return {name: tensor.detach() for name, tensor in network.state_dict().items()}


def fold_standard(tensors: Mapping[str, Tensor], standard: Standard) -> dict[str, Tensor]:
    """Weights that read embeddings as they are, from weights that read standardized ones."""
    weight, bias = tensors[f"{_FIRST}.weight"], tensors[f"{_FIRST}.bias"]
    mean, deviation = standard.mean.to(weight.device), standard.deviation.to(weight.device)
    folded = weight.double() / deviation
    shifted = bias.double() - folded @ mean.double()
    return {
        **tensors,
        f"{_FIRST}.weight": folded.to(weight.dtype),
        f"{_FIRST}.bias": shifted.to(bias.dtype),
    }


def unfold_standard(tensors: Mapping[str, Tensor], standard: Standard) -> dict[str, Tensor]:
    """The inverse of `fold_standard`."""
    weight, bias = tensors[f"{_FIRST}.weight"].double(), tensors[f"{_FIRST}.bias"].double()
    shifted = bias + weight @ standard.mean.to(weight.device).double()
    return {
        **tensors,
        f"{_FIRST}.weight": (weight * standard.deviation.to(weight.device)).float(),
        f"{_FIRST}.bias": shifted.float(),
    }


@dataclass(frozen=True)
class TaskLoss:
    """Mean over a task's answers, differentiable; and without a gradient, of each answer its loss
    and the share of its tokens that were the most likely: (answers,)."""

    total: Tensor
    losses: Tensor
    right: Tensor


def measure_task(
    network: TextToLora,
    causal: Any,
    embedding: Tensor,
    exercises: Sequence[tuple[Sequence[int], Sequence[int]]],
    *,
    seed: int,
) -> TaskLoss:
    """Cross-entropy of a task's answers, nats a token, with the LoRA that the network writes.

    `embedding`: (embedding_size,), standardized; `exercises`: ids of prompt and answer each.
    Gradients flow to the network. `seed` decides its dropout, so that a step can be taken again.
    """
    device = embedding.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        written = network(embedding)
    # b as the hooks of `adapted` take it: (layers, rank, d_out).
    generated: Generated = {name: (a, b.transpose(1, 2)) for name, (a, b) in written.items()}
    prompts, answers = zip(*exercises, strict=True)
    with adapted(causal, generated, network.config.scale):
        rows = predict(causal, prompts, answers)
    losses, right = [], []
    for logits, answer in zip(rows, answers, strict=True):
        wanted = torch.tensor(answer, device=logits.device)
        losses.append(cross_entropy(logits.float(), wanted))
        right.append((logits.detach().argmax(dim=-1) == wanted).float().mean())
    stacked = torch.stack(losses)
    return TaskLoss(stacked.mean(), stacked.detach(), torch.stack(right))
