"""What the same drills and steps make of an empty LoRA, as fine-tuning begins with one.

It is there to be compared with and is not written: the base is asked the input alone.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from d2l.adapters.weights import LoraFactors, LoraWeights
from d2l.bases.chat import make_chat
from d2l.bases.models import read_out
from d2l.bases.tokenizers import BaseTokenizer
from d2l.refining.drills import Drills
from d2l.refining.loop import Budget, Drilled, Exercises, Settings, take_steps
from d2l.refining.references import References
from d2l.refining.subjects import TASK_TOKENS, MovableLora

#: Of all linear layers, as QLoRA has it (Dettmers et al., 2023); alpha is twice the rank.
_RANK, _SCALE = 16, 2.0
#: Of AdamW; examples/recipes/LOG.md has the rates that were tried.
_RATE = 3e-4


def drill_empty(
    causal: Any, tokenizer: BaseTokenizer, drills: Drills, *, settings: Settings, steps: int
) -> Drilled:
    """Take so many steps with an empty LoRA on a base, drilled as the settings have it. The best
    that was judged counts here, too; harm is not judged."""
    start = make_empty(causal, seed=drills.seed)
    subject = MovableLora(start, causal, make_chat(tokenizer), most=TASK_TOKENS, scaled=False)
    course = Exercises(drills, (), (), References(lambda states: read_out(causal, states)))
    optimizer = torch.optim.AdamW(subject.parameters, lr=_RATE, weight_decay=0.0)
    settings = replace(settings, patience=steps)
    return take_steps(subject, course, Budget(steps), settings=settings, optimizer=optimizer)


def make_empty(causal: Any, *, seed: int) -> LoraWeights:
    """LoRA weights as PEFT begins with them: A uniform within ±1/√d_in, B zero."""
    chance = torch.Generator().manual_seed(seed)
    factors = {}
    for name, module in causal.named_modules():
        if isinstance(module, nn.Linear) and name.endswith("_proj"):
            bound = 1 / math.sqrt(module.in_features)
            a = torch.empty(_RANK, module.in_features).uniform_(-bound, bound, generator=chance)
            factors[name] = LoraFactors(a, torch.zeros(module.out_features, _RANK))
    return LoraWeights("", _SCALE, factors)
