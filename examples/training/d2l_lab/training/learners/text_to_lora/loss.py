"""Loss of a Text-to-LoRA network, its new weights, and its standardized input.

Tensors in, tensors out. In training the network reads standardized embeddings; a checkpoint reads
them unchanged, so the standardization is folded into its first layer. Needs no files or steps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from d2l.bases import devices
from d2l.errors import CheckpointError
from d2l.hypernets.text_to_lora.network import TextToLora, TextToLoraConfig
from d2l_lab.training.learners.forward import Generated, adapted, predict

_FIRST = "task_encoder.mlp.0"
_LEAST_DEVIATION = 1e-3  # of embeddings of length √embedding_size


@dataclass(frozen=True)
class Standardization:
    """Mean and deviation of training descriptions' embeddings, (embedding_size,) fp32 each."""

    mean: Tensor
    deviation: Tensor

    def apply(self, embeddings: Tensor) -> Tensor:
        """Standardize (..., embedding_size): each coordinate gets mean 0 and deviation 1."""
        return (embeddings - self.mean) / self.deviation


def measure_embeddings(embeddings: Tensor) -> Standardization:
    """Measure the statistics of embeddings (descriptions, embedding_size), one or more."""
    exact = embeddings.double()
    deviation = exact.std(dim=0, correction=0).clamp(min=_LEAST_DEVIATION)
    return Standardization(exact.mean(dim=0).float(), deviation.float())


def draw_tensors(config: TextToLoraConfig, *, seed: int) -> dict[str, Tensor]:
    """Draw new weights whose first adapters change nothing; raises CheckpointError.

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


def fold_standardization(
    tensors: Mapping[str, Tensor], standardization: Standardization
) -> dict[str, Tensor]:
    """Turn weights that read standardized embeddings into weights that read unchanged ones."""
    weight, bias = tensors[f"{_FIRST}.weight"], tensors[f"{_FIRST}.bias"]
    mean, deviation = (
        standardization.mean.to(weight.device),
        standardization.deviation.to(weight.device),
    )
    folded = weight.double() / deviation
    shifted = bias.double() - folded @ mean.double()
    return {
        **tensors,
        f"{_FIRST}.weight": folded.to(weight.dtype),
        f"{_FIRST}.bias": shifted.to(bias.dtype),
    }


def unfold_standardization(
    tensors: Mapping[str, Tensor], standardization: Standardization
) -> dict[str, Tensor]:
    """Invert `fold_standardization`."""
    weight, bias = tensors[f"{_FIRST}.weight"].double(), tensors[f"{_FIRST}.bias"].double()
    shifted = bias + weight @ standardization.mean.to(weight.device).double()
    return {
        **tensors,
        f"{_FIRST}.weight": (weight * standardization.deviation.to(weight.device)).float(),
        f"{_FIRST}.bias": shifted.float(),
    }


@dataclass(frozen=True)
class TaskBatch:
    """Task: the standardized embedding of its description (embedding_size,), and ids of prompt and
    answer of each exercise. `seed`: of the network's dropout, so that a step can be repeated."""

    embedding: Tensor
    exercises: Sequence[tuple[Sequence[int], Sequence[int]]]
    seed: int


def measure_tasks(
    network: TextToLora, causal: Any, batches: Sequence[TaskBatch]
) -> tuple[Tensor, Tensor, Tensor]:
    """Measure the cross-entropy of several tasks' answers, each with its task's LoRA, in one pass
    of the base. Gradients flow to the network.

    Returns the sum of the tasks' losses, each the mean over its answers, in nats a token; and
    without a gradient, for each answer, its loss and the share of its tokens that were the most
    likely: (answers,) each.
    """
    written = [_write(network, batch) for batch in batches]
    n_lines = [len(batch.exercises) for batch in batches]
    lines = torch.repeat_interleave(torch.arange(len(batches)), torch.tensor(n_lines))
    generated: Generated = {  # a task's factors are repeated for each of its lines
        name: (_stack(written, name, 0)[:, lines], _stack(written, name, 1)[:, lines])
        for name in network.config.module_order
    }
    prompts, answers = zip(*(pair for batch in batches for pair in batch.exercises), strict=True)
    with adapted(causal, generated, network.config.scale):
        rows = predict(causal, prompts, answers)
    losses, right = [], []
    for logits, answer in zip(rows, answers, strict=True):
        wanted = torch.tensor(answer, device=logits.device)
        losses.append(cross_entropy(logits.float(), wanted))
        right.append((logits.detach().argmax(dim=-1) == wanted).float().mean())
    total = sum(part.mean() for part in torch.split(torch.stack(losses), n_lines))
    assert isinstance(total, Tensor)  # there is at least one batch
    return total, torch.stack(losses).detach(), torch.stack(right)


def _write(network: TextToLora, batch: TaskBatch) -> Generated:
    """Write a task's LoRA, b as `adapted` takes it: (layers, rank, d_out)."""
    device = batch.embedding.device
    with torch.random.fork_rng(devices=[device] if devices.is_cuda(device) else []):
        torch.manual_seed(batch.seed)
        written = network(batch.embedding)
    return {name: (a, b.transpose(1, 2)) for name, (a, b) in written.items()}


def _stack(written: Sequence[Generated], name: str, which: int) -> Tensor:
    """Stack a module's a or b of all tasks: (layers, tasks, rank, d)."""
    return torch.stack([lora[name][which] for lora in written], dim=1)
