"""Rank and scale of each module of a PEFT adapter, by its config; and what is not plain LoRA.

A parsed `adapter_config.json` and a module's name in, numbers out; opens no file, needs no torch.
"""

import math
import re
from collections.abc import Mapping
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
        try:
            if re.match(rf"(.*\.)?({key})$", module):
                return value
        except re.error as error:
            raise AdapterError(f"{CONFIG}: {field} has {key!r}, no pattern") from error
    return default
