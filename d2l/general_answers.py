"""The base's own answers to general prompts: what a memory must leave alone.

A causal model in, exercises with the base's own distribution as their target out. Made once for a
run and kept beside it, since a prompt takes seconds.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from d2l.bases.tokens import BaseTokenizer
from d2l.errors import RecipeError
from d2l.folders import replace_file
from d2l.hypernets.seats_config import SeatsConfig
from d2l.hypernets.seats_training import Exercise

_PROMPTS = Path(__file__).parent / "builtin" / "general_prompts.txt"
_MAX_TOKENS = 20


def read_prompts() -> list[str]:
    """The prompts that are shipped for training, one a line."""
    lines = _PROMPTS.read_text("utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def answer_prompt(
    causal: Any, prompt: str, *, tokenizer: BaseTokenizer, config: SeatsConfig
) -> Exercise:
    """The base's greedy answer behind its own default opening, with its log-probabilities."""
    after = (*config.after_opening, *tokenizer.encode(prompt), *config.before_answer)
    ids = torch.tensor([[*config.opening_head, *after]], device=causal.device)  # (1, tokens)
    with torch.inference_mode():
        made = causal.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=_MAX_TOKENS,
            eos_token_id=config.end_token,
            pad_token_id=config.end_token,
            output_logits=True,
            return_dict_in_generate=True,
        )
    answer = tuple(made.sequences[0, ids.shape[1] :].tolist())
    logits = torch.cat(made.logits).to("cpu", torch.float32)  # (tokens, vocabulary)
    return Exercise(after, answer, logits.log_softmax(dim=-1).to(torch.bfloat16).clone())


def load_general(
    path: Path,
    causal: Any,
    prompts: Sequence[str],
    *,
    tokenizer: BaseTokenizer,
    config: SeatsConfig,
) -> list[Exercise]:
    """The exercises kept at `path`, or made and kept there; raises RecipeError."""
    if not path.is_file():
        tensors = {}
        for index, prompt in enumerate(prompts):
            made = answer_prompt(causal, prompt, tokenizer=tokenizer, config=config)
            assert made.reference is not None
            tensors[f"{index:04}.prompt"] = torch.tensor(made.prompt)
            tensors[f"{index:04}.answer"] = torch.tensor(made.answer)
            tensors[f"{index:04}.reference"] = made.reference
        replace_file(path, lambda target: save_file(tensors, target))
    try:
        kept = load_file(path)
        return [
            Exercise(
                tuple(kept[f"{index:04}.prompt"].tolist()),
                tuple(kept[f"{index:04}.answer"].tolist()),
                kept[f"{index:04}.reference"],
            )
            for index in range(len(kept) // 3)
        ]
    except (OSError, SafetensorError, KeyError) as error:
        raise RecipeError(f"{path}: cannot be read", hint="delete it to make it anew") from error
