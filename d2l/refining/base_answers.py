"""What the base itself says to general prompts: distributions that an adapter is held to.

States are computed once for a base and kept in a file; the head reads them out when they are asked,
since distributions are a hundred and more times as large.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from d2l.bases.batches import batched
from d2l.bases.models import read_out
from d2l.files.atomic import replace_file
from d2l.files.tensors import FILE_ERRORS, find_kept
from d2l.learners.document_data import Exercise
from d2l.learners.forward import predicting_states
from d2l.refining.kept_states import KeptStates, Key

_BATCH = 16


class BaseAnswers:
    """The base's own distributions before every token of answers; a prompt is read once."""

    def __init__(self, causal: Any) -> None:
        self._causal = causal
        self._kept = KeptStates(partial(read_out, causal))

    @torch.no_grad()
    def know(
        self, exercises: Sequence[Exercise], prompts: Sequence[Sequence[int]], path: Path
    ) -> None:
        """Have at hand what the base says to exercises behind these prompts: from the file at
        `path`, or computed, and kept there if that can be, where none or a damaged one is."""
        asked = _pair(exercises, prompts)
        lengths = [len(answer) for _, answer in asked]
        if not asked:
            return
        states = self._find(path, sum(lengths))
        if states is None:
            states = torch.cat(
                [rows for some in batched(asked, _BATCH) for rows in self._read(some)]
            )
            with contextlib.suppress(*FILE_ERRORS):
                path.parent.mkdir(parents=True, exist_ok=True)
                replace_file(path, partial(save_file, {"states": states.cpu()}))
        self._kept.keep(asked, torch.split(states.to(self._causal.device), lengths))

    @torch.no_grad()
    def refer(
        self, exercises: Sequence[Exercise], prompts: Sequence[Sequence[int]]
    ) -> list[Exercise]:
        """Exercises with log-probabilities (tokens, vocabulary) behind these prompts."""
        asked = _pair(exercises, prompts)
        new = [one for one in dict.fromkeys(asked) if one not in self._kept]
        if new:
            self._kept.keep(new, self._read(new))
        return [
            replace(one, reference=reference)
            for one, reference in zip(exercises, self._kept.refer(asked), strict=True)
        ]

    def _read(self, asked: Sequence[Key]) -> list[Tensor]:
        return predicting_states(self._causal, *zip(*asked, strict=True))

    def _find(self, path: Path, n_tokens: int) -> Tensor | None:
        """The states (tokens, hidden) at `path`, if they are what is looked for."""
        kept = find_kept(path)
        states = None if kept is None else kept[0].get("states")
        if states is None or states.shape != (n_tokens, self._causal.config.hidden_size):
            return None
        return states if states.dtype == self._causal.dtype else None


def _pair(exercises: Sequence[Exercise], prompts: Sequence[Sequence[int]]) -> list[Key]:
    return [(tuple(prompt), one.answer) for prompt, one in zip(prompts, exercises, strict=True)]
