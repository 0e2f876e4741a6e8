"""What refining must leave alone: the base's own answers to general prompts, made once for a base.

A causal base in, exercises out: some for steps, others to judge by. They are kept in the cache. The
prompts that harm is measured with (`datasets.read_harm_prompts`) are not among them.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from d2l.datasets.prompts import read_prompts
from d2l.files.cache import cache_dir
from d2l.inference.likelihood import answer_greedily
from d2l.learners.document_data import Asked, Exercise
from d2l.learners.general_prompts import keep_general
from d2l.refining.subjects import Subject

_IN_STEPS, _HELD = 48, 12
_MAX_TOKENS = 32
_BATCH = 32


def choose_prompts() -> tuple[list[str], list[str]]:
    """(prompts for steps, prompts to judge by), spread over the shipped ones, none in both."""
    prompts = read_prompts()
    spread = prompts[:: max(len(prompts) // (_IN_STEPS + _HELD), 1)][: _IN_STEPS + _HELD]
    held = spread[:: len(spread) // _HELD][:_HELD]
    return [prompt for prompt in spread if prompt not in held], held


def take_general(
    causal: Any, subject: Subject, *, base: str
) -> tuple[list[Exercise], list[Exercise]]:
    """General exercises for steps, and those to judge by. Their references come when they are
    asked, of what the subject then knows. `base` is the digest of the base's weights."""
    steps, held = choose_prompts()
    asked = [subject.ask(Asked(prompt, "")) for prompt in (*steps, *held)]
    bare = subject.bare([one.prompt for one in asked])
    end = asked[0].answer[-1]

    def make() -> list[Exercise]:
        answers = answer_greedily(
            causal, bare, max_tokens=_MAX_TOKENS, batch=_BATCH, end=end, pad=end
        )
        return [
            Exercise(one.prompt, (*answer, end)[:_MAX_TOKENS], general=True)
            for one, answer in zip(asked, answers, strict=True)
        ]

    path = _path(bare, base=base, precision=str(causal.dtype), end=end)
    found = keep_general(path, make)
    subject.know(found, path.with_stem(f"{path.stem}-states-{causal.device.type}"))
    return found[: len(steps)], found[len(steps) :]


def _path(bare: Sequence[Sequence[int]], *, base: str, precision: str, end: int) -> Path:
    decisive = json.dumps([base, precision, end, _MAX_TOKENS, [list(ids) for ids in bare]])
    key = hashlib.sha256(decisive.encode()).hexdigest()[:32]
    return cache_dir() / "general" / f"{key}.safetensors"
