"""General prompts: the base's own answers, which a memory must not change.

A causal model in, exercises with the base's own distribution as their target out. The answers are
made once for a run and cached; the distributions, half a million bytes a token, are computed again
whenever an exercise is asked.
"""

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from d2l.bases.tokenizers import BaseTokenizer
from d2l.files.atomic import replace_file
from d2l.files.cache import cache_dir
from d2l.hypernets.seats.config import SeatsConfig
from d2l_lab.likelihood import GenerationSettings, answer_greedily
from d2l_lab.training.learners.document_data import Exercise
from d2l_lab.training.learners.forward import predict

_MAX_PROMPT_TOKENS = 64
_MAX_TOKENS = 32
_BATCH = 64
_TOP = 64  # tokens that are sampled from; a nucleus would sort the vocabulary at every token


def sample_prompts(
    causal: Any, number: int, *, tokenizer: BaseTokenizer, config: SeatsConfig, seed: int
) -> list[str]:
    """Let the base write distinct, finished user turns; fewer if it repeats itself.

    An instruction-tuned model, given the template up to the user's turn, writes prompts like those
    of its tuning ("Magpie", Xu et al. 2024, arXiv 2406.08464).
    """
    opening = torch.tensor([config.read_opening] * _BATCH, device=causal.device)
    texts: dict[str, None] = {}
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for _ in range(2 * number // _BATCH + 1 if number else 0):
            made = causal.generate(
                opening,
                attention_mask=torch.ones_like(opening),
                do_sample=True,
                top_k=_TOP,
                max_new_tokens=_MAX_PROMPT_TOKENS,
                eos_token_id=config.end_token,
                pad_token_id=config.end_token,
            )
            for ids in made[:, opening.shape[1] :].tolist():
                n_tokens = ids.index(config.end_token) if config.end_token in ids else 0
                text = tokenizer.decode(ids[:n_tokens], skip_special_tokens=True).strip()
                texts |= {text: None} if text else {}
            if len(texts) >= number:
                break
    return list(texts)[:number]


def make_general(
    causal: Any, prompts: Sequence[str], *, tokenizer: BaseTokenizer, config: SeatsConfig
) -> list[Exercise]:
    """Answer prompts greedily with the base, behind its default opening; see `add_references`."""
    afters = [
        (
            *config.after_opening,
            *tokenizer.encode(prompt)[:_MAX_PROMPT_TOKENS],
            *config.before_answer,
        )
        for prompt in prompts
    ]
    end = config.end_token
    settings = GenerationSettings(_MAX_TOKENS, _BATCH, end=end, pad=end)
    prompts_in_opening = [(*config.opening_head, *after) for after in afters]
    answers = answer_greedily(causal, prompts_in_opening, settings)
    return [
        Exercise(after, (*answer, end)[:_MAX_TOKENS], general=True)
        for after, answer in zip(afters, answers, strict=True)
    ]


@torch.no_grad()
def add_references(
    causal: Any, groups: Sequence[Sequence[Exercise]], *, config: SeatsConfig
) -> list[list[Exercise]]:
    """Add the base's distribution before every token to the general exercises.

    All go through the base in one pass: a pass for each memory took several times as long.
    """
    general = [exercise for group in groups for exercise in group if exercise.general]
    references = iter(
        predict(
            causal,
            [(*config.opening_head, *exercise.prompt) for exercise in general],
            [exercise.answer for exercise in general],
        )
        if general
        else ()
    )
    return [
        [
            replace(e, reference=next(references).float().log_softmax(dim=-1)) if e.general else e
            for e in group
        ]
        for group in groups
    ]


def keep_general(path: Path, make: Callable[[], Sequence[Exercise]]) -> list[Exercise]:
    """Load the exercises cached at `path`, or make and cache them if they are not there."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        pairs = json.loads(path.read_text("utf-8"))
        return [Exercise(tuple(p), tuple(a), general=True) for p, a in pairs]
    made = list(make())
    text = json.dumps([(exercise.prompt, exercise.answer) for exercise in made])
    with contextlib.suppress(OSError):  # without a cache it takes longer
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, lambda target: target.write_text(text, "utf-8"))
    return made


def general_path(prompts: Sequence[str], *, base: str, precision: str, config: SeatsConfig) -> Path:
    """Find the cached answers of a base, given by the digest of its weights, to these prompts; all
    runs share them."""
    openings = (config.opening_head, config.after_opening, config.before_answer)
    decisive = [base, precision, config.end_token, openings, prompts, _MAX_PROMPT_TOKENS]
    key = hashlib.sha256(json.dumps([*decisive, _MAX_TOKENS]).encode()).hexdigest()[:32]
    return cache_dir() / "general" / f"{key}.json"
