"""Loss of a Doc-to-LoRA network, and its LoRA of a document, differentiable.

Tensors in, tensors out: the LoRA of a document's chunks goes onto the frozen base (`forward`); its
answers are trained towards those of the base with the document in its prompt. Source of the loss:
SakanaAI/doc-to-lora: distillation from the teacher's 16 likeliest tokens, means by document, L1 on
the generated values.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from d2l.hypernets.doc_to_lora.network import DocToLora
from d2l.training.learners.forward import Generated

TEACHER_TOKENS = 16


#: A teacher's likeliest tokens at each token of an answer, and their log-probabilities, (tokens, k)
#: each. Not normalized again: other tokens have no gradient.
Target = tuple[Tensor, Tensor]


def take_target(logits: Tensor, k: int = TEACHER_TOKENS) -> Target:
    """Take a target from a teacher's logits (tokens, vocabulary)."""
    best = logits.to(torch.float32).log_softmax(dim=-1).topk(min(k, logits.shape[-1]), dim=-1)
    return best.indices, best.values


def distill(logits: Tensor, target: Target) -> Tensor:
    """Compute the loss of each token: −Σ_j p_j · log q_j over the teacher's k tokens: (tokens,).

    `logits`: (tokens, vocabulary); q is the softmax over all of them. The minimum, with q the
    teacher's distribution, is its entropy: so this is about the KL divergence plus a constant.
    """
    log_probs = logits.to(torch.float32).log_softmax(dim=-1)
    ids, wanted = target
    weights = wanted.to(torch.float32).exp()
    return -(weights * log_probs.gather(-1, ids)).sum(dim=-1)


def generate(network: DocToLora, chunks: Sequence[Tensor]) -> Generated:
    """Generate the LoRA of a document, chunks stacked along rank and the bias last, as `concat`
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
    """Measure a document's loss, and that of each answer, without a gradient: (), (answers,).

    Mean over an answer's tokens, then over answers; plus `l1` times the mean over modules of mean
    |A| + mean |B|. A batch's loss is the mean over its documents.
    """
    answers = torch.stack([distill(*pair).mean() for pair in zip(logits, targets, strict=True)])
    sizes = torch.stack([a.abs().mean() + b.abs().mean() for a, b in generated.values()])
    return answers.mean() + l1 * sizes.mean(), answers.detach()
