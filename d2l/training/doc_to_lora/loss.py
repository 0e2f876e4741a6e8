"""The loss that a Doc-to-LoRA network is trained with, and its LoRA in the loop, differentiable.

Tensors in, tensors out: what the network writes for a document's chunks is put on the frozen base
as PEFT would, and its answers are drawn to those of the base with the document in its prompt.
Knows nothing of files, prompts or steps. Source of the loss: SakanaAI/doc-to-lora, distillation
from the teacher's 16 most likely tokens, means by document, L1 on what is generated.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from d2l.bases.families import module_path
from d2l.hypernets.doc_to_lora.network import DocToLora

TEACHER_TOKENS = 16

#: A and B by module's short name: (layers, rank, d_in) and (layers, rank, d_out). Where every line
#: of a batch has a LoRA of its own, the batch stands behind the layers.
Generated = Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Target:
    """What a teacher says of each token of an answer: its most likely tokens and their
    log-probabilities, (tokens, k) each. Not normalized again: what is left out pulls nowhere."""

    ids: Tensor
    log_probs: Tensor


def take_target(logits: Tensor, k: int = TEACHER_TOKENS) -> Target:
    """A target from a teacher's logits (tokens, vocabulary)."""
    kept = logits.to(torch.float32).log_softmax(dim=-1).topk(min(k, logits.shape[-1]), dim=-1)
    return Target(kept.indices, kept.values)


def distill(logits: Tensor, target: Target) -> Tensor:
    """Loss of each token of an answer: −Σ_j p_j · log q_j over the teacher's k tokens: (tokens,).

    `logits`: (tokens, vocabulary); q is the softmax over all of them. At its least, where q is the
    teacher's own distribution, this is that one's entropy: about the KL divergence plus a constant.
    """
    log_probs = logits.to(torch.float32).log_softmax(dim=-1)
    weights = target.log_probs.to(torch.float32).exp()
    return -(weights * log_probs.gather(-1, target.ids)).sum(dim=-1)


def generate(network: DocToLora, chunks: Sequence[Tensor]) -> Generated:
    """The LoRA of a document, chunks stacked along rank and the learned part last, as `concat`
    merges them; gradients flow to the network. `chunks`: hidden (layers, tokens, hidden) each."""
    # A clone: the reader's tensors come from inference mode, which autograd refuses.
    parts: list[Generated] = [network(hidden.clone()) for hidden in chunks]
    if network.config.use_bias:
        names = network.config.target_modules
        parts.append({name: (network.bias_A[name], network.bias_B[name]) for name in names})
    return {
        name: (
            torch.cat([part[name][0] for part in parts], dim=1),
            torch.cat([part[name][1] for part in parts], dim=1),
        )
        for name in network.config.target_modules
    }


def measure_document(
    logits: Sequence[Tensor], targets: Sequence[Target], generated: Generated, *, l1: float
) -> tuple[Tensor, Tensor]:
    """A document's loss, and that of each of its answers, without a gradient: (), (answers,).

    Mean over an answer's tokens, then over answers; plus `l1` times the mean over modules of mean
    |A| + mean |B|. A batch's loss is the mean over its documents.
    """
    answers = torch.stack([distill(*pair).mean() for pair in zip(logits, targets, strict=True)])
    sizes = torch.stack([a.abs().mean() + b.abs().mean() for a, b in generated.values()])
    return answers.mean() + l1 * sizes.mean(), answers.detach()


@contextmanager
def adapted(causal: nn.Module, generated: Generated, scale: float) -> Iterator[None]:
    """A block in which the base's linear layers give W x + scale · B (A x), as PEFT's do.

    A x and B are computed in their own precision, the sum in it too, and then rounded to the
    base's: peft, tuners/lora/layer.py, Linear.forward.
    """
    hooks = []
    try:
        for name, (a, b) in generated.items():
            for layer in range(a.shape[0]):
                linear = causal.get_submodule(module_path(layer, name))
                hook = _make_hook(a[layer], b[layer], scale)
                hooks.append(linear.register_forward_hook(hook))
        yield
    finally:
        for handle in hooks:
            handle.remove()


def _make_hook(a: Tensor, b: Tensor, scale: float) -> Any:
    """A forward hook that adds a LoRA's part; a: (rank, d_in), b: (rank, d_out), or both with the
    lines of a batch before them."""

    def add(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        added = (inputs[0].to(a.dtype) @ a.mT) @ b
        return (output + scale * added).to(output.dtype)

    return add


def predict(
    causal: Any, prompts: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]
) -> list[Tensor]:
    """Logits (tokens, vocabulary) that predict each answer behind its prompt, padded right.

    Nothing is masked: tokens see only what precedes them, so padding is seen by none that counts.
    """
    lines = [(*p, *a[:-1]) for p, a in zip(prompts, answers, strict=True)]
    longest = max(map(len, lines))
    device = next(causal.parameters()).device
    ids = torch.tensor([[*line, *[0] * (longest - len(line))] for line in lines], device=device)
    hidden = causal.model(input_ids=ids, use_cache=False).last_hidden_state
    rows = [
        hidden[index, len(prompt) - 1 : len(line)]
        for index, (prompt, line) in enumerate(zip(prompts, lines, strict=True))
    ]
    logits = _read_out(causal, torch.cat(rows))
    return list(torch.split(logits, [len(row) for row in rows]))


def _read_out(causal: Any, hidden: Tensor) -> Tensor:
    """The head's logits (tokens, vocabulary), with Gemma's soft cap where the base has one."""
    logits: Tensor = causal.lm_head(hidden)
    cap = getattr(causal.config, "final_logit_softcapping", None)
    return logits if cap is None else cap * torch.tanh(logits / cap)
