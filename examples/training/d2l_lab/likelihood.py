"""Answers of a causal language model to prompts: likelihoods of given answers, and its own.

Token ids in; log-probabilities and greedy answers out. Documents, questions and adapters are
unknown here: with a `peft.PeftModel` the caller switches the adapter on or off.

Prompts are read in batches, padded on the left, with position ids that do not count the padding,
so batches change nothing but speed. The common beginning of a batch is read once: put questions
about one document next to each other. Only answers go through the head, and distributions come
one item at a time, so memory does not grow with the batch.
"""

import copy
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from d2l.answer.forward import extend, read_logits
from d2l.answer.torch_engine import decode
from d2l.bases.models import batched
from d2l.parts.engine import Decoding

Ids = Sequence[int]


@dataclass(frozen=True)
class GenerationSettings:
    """Settings of greedy answers: at most `max_tokens` up to the token `end`.

    `batch` prompts are read at a time; `pad` is any token of the vocabulary. When at most the part
    `stragglers` of a batch is unfinished, its answers are cut off: a pass for two rows takes as
    long as a pass for thirty. `banned` tokens may not stand one behind another.
    """

    max_tokens: int
    batch: int
    end: int
    pad: int
    stragglers: float = 0.0
    banned: tuple[int, ...] = ()


@dataclass
class _Read:
    """Prompts that a model has read: their cache, its mask (rows, tokens; 0 for padding), and the
    logits after the last token (rows, vocabulary)."""

    cache: Any
    mask: Tensor
    logits: Tensor


def score_answers(
    model: Any, prompts: Sequence[Ids], answers: Sequence[Ids], settings: GenerationSettings
) -> list[tuple[Tensor, tuple[int, ...]]]:
    """Score given answers and answer greedily; every prompt is read only once, and none is empty.

    Returns, for each item, the log-probability of each token of the given answer, teacher-forced,
    fp32 (tokens,) on the CPU, and the model's own answer as `answer_greedily` gives it.
    """
    scored = []
    for chosen, wanted in _pair_up(prompts, answers, settings.batch):
        read = _read(model, chosen, settings.pad)
        rows = _force_and_restore(model, read, wanted, settings.pad)
        own = _continue(model, read, settings)
        scored += [
            (_pick(row, ids), answer) for row, ids, answer in zip(rows, wanted, own, strict=True)
        ]
    return scored


@torch.inference_mode()
def score_behind(
    model: Any, ids: Ids, cache: Any, answer: Ids, settings: GenerationSettings
) -> tuple[Tensor, tuple[int, ...], float]:
    """Score the ids behind a cache as `score_answers` does; the cache is used up.

    Also returns the time (`time.perf_counter`) of the first token.
    """
    n_read = 0 if cache is None else cache.get_seq_length()
    mask = torch.ones((1, n_read + len(ids)), dtype=torch.long, device=model.device)
    rest = torch.tensor([list(ids)], device=model.device)
    cache, hidden = extend(model, rest, mask=mask, cache=cache)
    read = _Read(cache, mask, read_logits(model, hidden[:, -1]))
    read.logits.argmax().item()  # waits for the device
    first = time.perf_counter()
    (row,) = _force_and_restore(model, read, [answer], settings.pad)
    (own,) = _continue(model, read, settings)
    return _pick(row, answer), own, first


def token_distributions(
    model: Any, prompts: Sequence[Ids], answers: Sequence[Ids], *, batch: int, pad: int
) -> Iterator[Tensor]:
    """Yield the distributions before the tokens of each answer: fp32 log-probabilities (tokens,
    vocabulary) on the CPU, one item at a time."""
    for chosen, wanted in _pair_up(prompts, answers, batch):
        for row in _force(model, _read(model, chosen, pad), wanted, pad):
            yield row.to(torch.float32).log_softmax(dim=-1).cpu()


def answer_greedily(
    model: Any, prompts: Sequence[Ids], settings: GenerationSettings
) -> list[tuple[int, ...]]:
    """Answer with the most likely tokens, without the end token."""
    answers: list[tuple[int, ...]] = []
    for chosen in batched(prompts, settings.batch):
        answers += _continue(model, _read(model, chosen, settings.pad), settings)
    return answers


def _pair_up(
    prompts: Sequence[Ids], answers: Sequence[Ids], size: int
) -> Iterator[tuple[Sequence[Ids], Sequence[Ids]]]:
    """Pair prompts with their answers, `size` at a time."""
    assert len(prompts) == len(answers)
    return zip(batched(prompts, size), batched(answers, size), strict=True)


@torch.inference_mode()
def _read(model: Any, prompts: Sequence[Ids], pad: int) -> _Read:
    """Read a batch of prompts: their common beginning once, the rests side by side."""
    n_shared = count_shared(model, prompts)
    longest = max(map(len, prompts))
    rests, masks = [], []
    for ids in prompts:
        n_pads = longest - len(ids)
        rests.append([pad] * n_pads + list(ids[n_shared:]))
        masks.append([1] * n_shared + [0] * n_pads + [1] * (len(ids) - n_shared))
    mask = torch.tensor(masks, device=model.device)  # (rows, tokens)
    cache = None
    if n_shared:
        whole = torch.ones((1, n_shared), dtype=mask.dtype, device=mask.device)
        first = torch.tensor([list(prompts[0][:n_shared])], device=model.device)
        cache, _ = extend(model, first, mask=whole, cache=None)
        cache.batch_repeat_interleave(len(prompts))
    rest = torch.tensor(rests, device=model.device)
    cache, hidden = extend(model, rest, mask=mask, cache=cache)
    return _Read(cache, mask, read_logits(model, hidden[:, -1]))


def count_shared(model: Any, prompts: Sequence[Ids]) -> int:
    """Count the tokens that all prompts begin with; each prompt keeps at least its last token.

    0 if layers see a window only: the window would count the padding after the shared tokens.
    """
    if len(prompts) < 2 or _has_windows(model):
        return 0
    n_most = min(map(len, prompts)) - 1
    first = prompts[0]
    for position in range(n_most):
        if any(ids[position] != first[position] for ids in prompts):
            return position
    return n_most


def _has_windows(model: Any) -> bool:
    return bool(getattr(model.config, "sliding_window", None))


@torch.inference_mode()
def _force(model: Any, read: _Read, answers: Sequence[Ids], pad: int) -> list[Tensor]:
    """Compute logits (tokens, vocabulary) for each answer's tokens, teacher-forced."""
    longest = max(map(len, answers))
    logits = read.logits[:, None]  # (rows, tokens, vocabulary)
    if longest > 1:
        n_pads = [longest - max(len(ids), 1) for ids in answers]
        inputs = [[*ids[:-1], *[pad] * n] for ids, n in zip(answers, n_pads, strict=True)]
        counted = [[1] * (longest - 1 - n) + [0] * n for n in n_pads]
        mask = torch.cat([read.mask, torch.tensor(counted, device=read.mask.device)], dim=1)
        ids = torch.tensor(inputs, device=read.mask.device)
        _, hidden = extend(model, ids, mask=mask, cache=read.cache)
        logits = torch.cat([logits, read_logits(model, hidden)], dim=1)
    return [row[: len(ids)] for row, ids in zip(logits, answers, strict=True)]


def _force_and_restore(model: Any, read: _Read, answers: Sequence[Ids], pad: int) -> list[Tensor]:
    """Run `_force` and restore the cache: a copy of it would double its memory."""
    if _has_windows(model):  # its layers drop old keys, so a crop restores nothing
        return _force(model, copy.deepcopy(read), answers, pad)
    rows = _force(model, read, answers, pad)
    n_read = max(map(len, answers)) - 1
    if n_read > 0:  # transformers 4 takes 0 for a size
        read.cache.crop(-n_read)  # negative: so many tokens off the end
    return rows


def _pick(row: Tensor, ids: Ids) -> Tensor:
    """Select log-probabilities (tokens,) of the tokens `ids` from logits (tokens, vocabulary)."""
    log_probs = row.to(torch.float32).log_softmax(dim=-1)
    columns = torch.tensor(list(ids), dtype=torch.long, device=row.device)
    return log_probs.gather(1, columns[:, None])[:, 0].cpu()


def _continue(model: Any, read: _Read, settings: GenerationSettings) -> list[tuple[int, ...]]:
    """Answer all rows greedily."""
    answers: list[list[int]] = [[] for _ in range(len(read.logits))]
    unfinished = set(range(len(answers)))
    n_stragglers = int(settings.stragglers * len(answers))
    decoding = Decoding(settings.max_tokens, banned=settings.banned)
    steps = decode(model, read.cache, read.mask, read.logits, decoding, ends=(settings.end,))
    for step in steps:
        for row, token in step.items():
            if token.is_end:
                unfinished.discard(row)
            else:
                answers[row].append(token.id)
        if len(unfinished) <= n_stragglers:
            break
    return [tuple(answer) for answer in answers]
