"""Distributions that exercises are answered with: the base's own, or those of a teacher.

Only the states behind them are kept. The head makes a distribution from them when it is needed: it
is a hundred times as large, and cheap. States of general prompts are kept for each base, on disk.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from d2l.bases.models import batched
from d2l.datasets.prompts import read_prompts
from d2l.files.cache import cache_dir, keep_tensors
from d2l.files.tensors import find_kept
from d2l.inference.likelihood import answer_greedily
from d2l.refining.subjects import Refinable
from d2l.training.learners.document_data import Asked, Exercise
from d2l.training.learners.forward import predicting_states

_IN_STEPS, _HELD = 48, 12  # general prompts
_MAX_TOKENS = 32
_ANSWER_BATCH, _STATE_BATCH = 32, 16


class References:
    """States (tokens, hidden) before every token of answers; `read_out` makes logits from them."""

    def __init__(self, read_out: Callable[[Tensor], Tensor]) -> None:
        self._read_out = read_out
        self._states: dict[Exercise, Tensor] = {}

    def __contains__(self, exercise: Exercise) -> bool:
        return exercise in self._states

    def keep(self, exercises: Sequence[Exercise], states: Iterable[Tensor]) -> None:
        """Keep the states of exercises."""
        # A copy: a slice would keep its whole batch in memory.
        rows = zip(exercises, states, strict=True)
        self._states |= {exercise: own.clone() for exercise, own in rows}

    @torch.no_grad()
    def refer(self, exercises: Sequence[Exercise]) -> list[Exercise]:
        """Add log-probabilities (tokens, vocabulary) to exercises whose states are kept."""
        known = [one for one in dict.fromkeys(exercises) if one in self._states]
        if not known:
            return list(exercises)
        states = [self._states[one] for one in known]
        rows = self._read_out(torch.cat(states)).float().log_softmax(dim=-1)
        found = dict(zip(known, torch.split(rows, list(map(len, states))), strict=True))
        return [replace(one, reference=found.get(one)) for one in exercises]


def ask_general(
    causal: Any, subject: Refinable, references: References, *, base: str
) -> tuple[list[Exercise], list[Exercise]]:
    """General exercises for steps, and others to judge harm by, with the base's own answers.

    Their references are the base's own, too. `base` is the digest of the base's weights. The
    prompts that harm is measured with (`datasets.read_harm_prompts`) are not among them.
    """
    steps, held = choose_prompts()
    asked = [subject.ask(Asked(prompt, "")) for prompt in (*steps, *held)]
    bare = subject.bare([one.prompt for one in asked])
    end = asked[0].answer[-1]
    decisive = [base, str(causal.dtype), causal.device.type, end, _MAX_TOKENS, bare]
    key = hashlib.sha256(json.dumps(decisive).encode()).hexdigest()[:32]
    path = cache_dir() / "general" / f"{key}.safetensors"
    answers, states = _take_answers(causal, bare, end, path)
    exercises = [
        Exercise(one.prompt, answer, general=True)
        for one, answer in zip(asked, answers, strict=True)
    ]
    references.keep(exercises, states)
    return exercises[: len(steps)], exercises[len(steps) :]


def choose_prompts() -> tuple[list[str], list[str]]:
    """(prompts for steps, prompts to judge by), evenly spread over the shipped ones, disjoint."""
    prompts = read_prompts()
    spread = prompts[:: max(len(prompts) // (_IN_STEPS + _HELD), 1)][: _IN_STEPS + _HELD]
    held = spread[:: len(spread) // _HELD][:_HELD]
    return [prompt for prompt in spread if prompt not in held], held


@torch.no_grad()
def _take_answers(
    causal: Any, prompts: Sequence[tuple[int, ...]], end: int, path: Path
) -> tuple[list[tuple[int, ...]], list[Tensor]]:
    """The base's answers to prompts, and the states before each token: from the file, or computed
    and kept there."""
    kept = find_kept(path)
    if kept is None:
        found = answer_greedily(
            causal, prompts, max_tokens=_MAX_TOKENS, batch=_ANSWER_BATCH, end=end, pad=end
        )
        answers = [(*answer, end)[:_MAX_TOKENS] for answer in found]
        pairs = batched(list(zip(prompts, answers, strict=True)), _STATE_BATCH)
        states = [
            rows for some in pairs for rows in predicting_states(causal, *zip(*some, strict=True))
        ]
        tokens = [torch.tensor(answer) for answer in answers]
        tensors = {
            "lengths": torch.tensor(list(map(len, answers))),
            "tokens": torch.cat(tokens),
            "states": torch.cat(states).cpu(),
        }
        keep_tensors(path, tensors)
    else:
        tensors = kept[0]
    lengths = tensors["lengths"].tolist()
    return (
        [tuple(ids.tolist()) for ids in torch.split(tensors["tokens"], lengths)],
        list(torch.split(tensors["states"].to(causal.device), lengths)),
    )
