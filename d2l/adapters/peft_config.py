"""Rank and scale of each module of a PEFT adapter, by its config; and what is not plain LoRA.

A parsed `adapter_config.json` and a module's name in, numbers out; opens no file, needs no torch.
"""

import math
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

from d2l.adapters.info import CONFIG, AdapterInfo
from d2l.errors import AdapterError

#: Config fields that make an adapter more than b @ a on linear layers, and what they are called.
#: Values of PEFT 0.21, tuners/lora/config.py: LoraConfig.
_EXTRAS = {
    "use_dora": "DoRA's magnitudes",
    "lora_bias": "biases on lora_B",
    "modules_to_save": "whole modules",
    "layer_replication": "replicated layers",
    "fan_in_fan_out": "transposed weights",
    "alora_invocation_tokens": "an invocation string (aLoRA)",
    "trainable_token_indices": "new token embeddings",
    "target_parameters": "LoRA on bare parameters",
}
#: Bounds of patterns out of a config, which anybody may have written. Three repeats on names of
#: this length take milliseconds; real names have about 60 characters.
_MAX_PATTERN, _MAX_REPEATS, _MAX_NAME = 200, 3, 128


def module_rank(config: Mapping[str, Any], module: str) -> int:
    """Rank that the config declares for a module: `rank_pattern`, else `r`."""
    rank: int = _by_pattern(config, "rank_pattern", module, config.get("r", 0))
    return rank


def module_scale(config: Mapping[str, Any], module: str) -> float:
    """Factor of b @ a for a module: alpha / rank, or alpha / √rank where rank-stabilized.

    Patterns as PEFT reads them (peft 0.21, tuners/lora/model.py: LoraModel._create_and_replace).
    Raises AdapterError where alpha or rank is no number that can be used.
    """
    rank = module_rank(config, module)
    alpha = _by_pattern(config, "alpha_pattern", module, config.get("lora_alpha", 8))
    if type(rank) is not int or rank < 1:
        raise AdapterError(f"{CONFIG}: r is {rank}, expected a positive rank")
    if type(alpha) not in (int, float) or not math.isfinite(alpha):
        raise AdapterError(f"{CONFIG}: lora_alpha is {alpha!r}, expected a number")
    return float(alpha / (math.sqrt(rank) if config.get("use_rslora") else rank))


def find_extras(info: AdapterInfo) -> list[str]:
    """What an adapter holds besides b @ a on linear layers, for people; empty for plain LoRA."""
    found = [what for key, what in _EXTRAS.items() if info.config.get(key)]
    if info.config.get("bias", "none") != "none":
        found.append("biases of the base")
    known = (".lora_A.", ".lora_B.", ".lora_magnitude_vector")
    odd = [name for name in info.tensors if not any(word in name for word in known)]
    if odd and not found:
        found.append(f"tensors that are no LoRA, for example {min(odd)}")
    return found


def refuse_extras(info: AdapterInfo, *, purpose: str) -> None:
    """Raise AdapterError unless an adapter is plain LoRA, which alone can be exported or merged."""
    extras = find_extras(info)
    if extras:
        raise AdapterError(
            f"{info.folder}: has {', '.join(extras)}, which cannot be {purpose}",
            hint="merge it into its base with PEFT (merge_and_unload), or train it as plain LoRA",
        )


def _by_pattern(config: Mapping[str, Any], field: str, module: str, default: Any) -> Any:
    """PEFT's rule: the first key that is the end of the module's name, from a dot on, counts
    (peft 0.21, utils/other.py: get_pattern_key)."""
    pattern = config.get(field) or {}
    if not isinstance(pattern, Mapping):
        raise AdapterError(f"{CONFIG}: {field} is not an object")
    for key, value in pattern.items():
        plain = module == key or module.endswith(f".{key}")
        if plain or re.match(_compile(field, key), _bound(module)):
            return value
    return default


def _bound(module: str) -> str:
    if len(module) > _MAX_NAME:
        raise AdapterError(f"{module[:_MAX_NAME]}…: is no name of a module", hint="it is too long")
    return module


@cache
def _compile(field: str, key: str) -> re.Pattern[str]:
    """The pattern of one key; raises AdapterError where it is none, or may take time without end:
    a repeated group that can be divided in more than one way, or too many repeats."""
    if len(key) > _MAX_PATTERN or _is_slow(key):
        raise AdapterError(
            f"{CONFIG}: {field} has {key[:_MAX_PATTERN]!r}, a pattern that may take for ever",
            hint="name the modules in it, or their layers: no repeat inside a repeated group, and "
            f"no more than {_MAX_REPEATS} repeats",
        )
    try:
        return re.compile(rf"(.*\.)?({key})$")
    except re.error as error:
        raise AdapterError(f"{CONFIG}: {field} has {key!r}, no pattern") from error


def _is_slow(key: str) -> bool:
    """Whether a pattern repeats a group that holds a repeat or a choice, or repeats too often."""
    # Escapes and sets stand for one character each.
    signs = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "x", key)
    n_repeats = 0
    groups = [False]  # open groups, the pattern first: whether each holds a repeat or a choice
    # Not strict: the first has one sign more, which is that of the last itself.
    for before, sign, after in zip(" " + signs, signs, signs[1:] + " ", strict=False):
        if sign == "(":
            groups.append(False)
        elif sign == ")" and len(groups) > 1:
            varies = groups.pop()
            if varies and after in "*+{":
                return True
            groups[-1] |= varies
        elif sign == "|":
            groups[-1] = True
        elif sign in "*+{?" and before not in "(*+?}":
            groups[-1] = True
            n_repeats += 1
    return n_repeats > _MAX_REPEATS
