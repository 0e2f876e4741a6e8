"""Rank and scale of each module of a PEFT adapter, by its config; and what is not plain LoRA.

A parsed `adapter_config.json` and a module's name in, numbers out; opens no file, needs no torch.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from d2l.adapters.info import CONFIG, AdapterInfo
from d2l.adapters.patterns import match_keys
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
_MAX_RANK, _MAX_ALPHA = 10**9, 1e300  # beyond, floats do not hold what is made of them


def module_ranks(config: Mapping[str, Any], modules: Sequence[str]) -> dict[str, Any]:
    """Rank that the config declares for each module: `rank_pattern`, else `r`. What stands there
    may be no number."""
    return _by_pattern(config, "rank_pattern", modules, config.get("r", 0))


def module_scales(config: Mapping[str, Any], modules: Sequence[str]) -> dict[str, float]:
    """Factor of b @ a for each module: alpha / rank, or alpha / √rank where rank-stabilized.

    Patterns as PEFT reads them (peft 0.21, tuners/lora/model.py: LoraModel._create_and_replace).
    Raises AdapterError where alpha or rank is no number that can be used.
    """
    ranks = module_ranks(config, modules)
    alphas = _by_pattern(config, "alpha_pattern", modules, config.get("lora_alpha", 8))
    stabilized = bool(config.get("use_rslora"))
    return {m: _scale(ranks[m], alphas[m], stabilized=stabilized) for m in modules}


def _scale(rank: Any, alpha: Any, *, stabilized: bool) -> float:
    if type(rank) is not int or not 1 <= rank <= _MAX_RANK:
        raise AdapterError(f"{CONFIG}: r is {_show(rank)}, expected a positive rank")
    if type(alpha) not in (int, float) or not abs(alpha) <= _MAX_ALPHA:  # NaN is not, either
        raise AdapterError(f"{CONFIG}: lora_alpha is {_show(alpha)}, expected a number")
    return float(alpha / (math.sqrt(rank) if stabilized else rank))


def _show(value: Any) -> str:
    """A value in a message: Python refuses to spell the largest numbers."""
    try:
        return repr(value)[:80]
    except ValueError:
        return "a number of thousands of digits"


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


def refuse_odd_tokens(config: Mapping[str, Any]) -> None:
    """Raise AdapterError where PEFT would stumble over a config's invocation tokens when it
    generates: it takes them as they are."""
    tokens = config.get("alora_invocation_tokens")
    if tokens is not None and not (
        isinstance(tokens, list) and all(type(one) is int and one >= 0 for one in tokens)
    ):
        raise AdapterError(
            f"{CONFIG}: alora_invocation_tokens is {_show(tokens)}, expected ids of tokens",
            hint="the file is damaged: get the adapter again",
        )


def _by_pattern(
    config: Mapping[str, Any], field: str, modules: Sequence[str], default: Any
) -> dict[str, Any]:
    """PEFT's rule: the first key that is the end of the module's name, from a dot on, counts."""
    pattern = config.get(field) or {}
    if not isinstance(pattern, Mapping):
        raise AdapterError(f"{CONFIG}: {field} is not an object")
    keys = match_keys(field, list(pattern), modules)
    return {
        module: default if key is None else pattern[key]
        for module, key in zip(modules, keys, strict=True)
    }
