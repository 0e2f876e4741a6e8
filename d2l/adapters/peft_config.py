"""Rank and scale of each module of a PEFT adapter, by its config; refusals of other than plain
LoRA.

A parsed `adapter_config.json` and module names in, numbers out; opens no file, needs no torch.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from d2l.adapters.info import CONFIG, WEIGHTS, AdapterInfo
from d2l.adapters.module_names import PREFIX
from d2l.adapters.patterns import match_keys
from d2l.errors import AdapterError

#: Values of --max-lora-rank (vllm 0.32.0, config/lora.py: MaxLoRARanks).
VLLM_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
#: Config fields that make an adapter more than b @ a on linear layers, with their names for people
#: (PEFT 0.21, tuners/lora/config.py: LoraConfig).
_EXTRAS = {
    "use_dora": "DoRA's magnitudes",
    "lora_bias": "biases on lora_B",
    "modules_to_save": "whole modules",
    "layer_replication": "replicated layers",
    "fan_in_fan_out": "transposed weights",
    "alora_invocation_tokens": "an invocation string (aLoRA)",
    "trainable_token_indices": "new token embeddings",
    "target_parameters": "LoRA on bare parameters",
    "use_qalora": "inputs pooled in groups (QALoRA)",
    "use_bdlora": "factors of blocks (BD-LoRA)",
    "monteclora_config": "sampled factors (MonteCLoRA)",
    "arrow_config": "a router over other adapters (Arrow)",
    "kasa_config": "a base that was changed first (KaSA)",
}
#: Fields of adapters that `ask` refuses: PEFT changes the base for them, or needs other folders.
_UNASKED = (
    "layer_replication",
    "target_parameters",
    "use_qalora",
    "use_bdlora",
    "monteclora_config",
    "arrow_config",
    "kasa_config",
)
#: Ways to start training that leave the base's weights as they are, so that a saved adapter is
#: plain LoRA (vllm 0.32.0, lora/peft_helper.py: PEFTHelper._init_is_supported).
PLAIN_STARTS = ("gaussian", "eva", "orthogonal", "mica", "lora_ga")
#: Types of stored factors.
FLOATS = ("F16", "BF16", "F32", "F64")
#: The letter of a factor of a linear layer or an embedding, in a tensor's name.
_LETTER = re.compile(r"\.lora_(embedding_)?[AB](?=\.|$)")
_AGAIN = "the adapter is damaged, or was cut short: get it again, or compile the document again"
_MAX_RANK, _MAX_ALPHA = 10**9, 1e300  # larger ones overflow floats


def module_ranks(config: Mapping[str, Any], modules: Sequence[str]) -> dict[str, Any]:
    """Find the rank of each module in the config: `rank_pattern`, else `r`. Values are not
    checked."""
    return _by_pattern(config, "rank_pattern", modules, config.get("r", 0))


def module_scales(config: Mapping[str, Any], modules: Sequence[str]) -> dict[str, float]:
    """Compute the factor of b @ a for each module: alpha / rank, or alpha / √rank if
    rank-stabilized.

    Patterns match as in PEFT (peft 0.21, tuners/lora/model.py: LoraModel._create_and_replace).
    Raises AdapterError for an invalid alpha or rank.
    """
    ranks = module_ranks(config, modules)
    alphas = _by_pattern(config, "alpha_pattern", modules, config.get("lora_alpha", 8))
    stabilized = config.get("use_rslora", False)
    if stabilized not in (True, False, None):
        raise AdapterError(f"{CONFIG}: use_rslora is {_show(stabilized)}, expected true or false")
    return {m: _scale(ranks[m], alphas[m], stabilized=bool(stabilized)) for m in modules}


def _scale(rank: Any, alpha: Any, *, stabilized: bool) -> float:
    if type(rank) is not int or not 1 <= rank <= _MAX_RANK:
        raise AdapterError(f"{CONFIG}: r is {_show(rank)}, expected a positive rank")
    if type(alpha) not in (int, float) or not abs(alpha) <= _MAX_ALPHA:  # NaN is not, either
        raise AdapterError(f"{CONFIG}: lora_alpha is {_show(alpha)}, expected a number")
    return float(alpha / (math.sqrt(rank) if stabilized else rank))


def _show(value: Any) -> str:
    """Show a value in a message; Python refuses to write very large numbers."""
    try:
        return repr(value)[:80]
    except ValueError:
        return "a number of thousands of digits"


def find_extras(info: AdapterInfo) -> list[str]:
    """List an adapter's extras beside b @ a on linear layers, for people; empty for plain LoRA."""
    extras = [extra for key, extra in _EXTRAS.items() if info.config.get(key)]
    extras += _describe_start(info.config)
    if info.config.get("bias", "none") != "none":
        extras.append("biases of the base")
    known = (".lora_A.", ".lora_B.", ".lora_magnitude_vector")
    odd = [name for name in info.tensors if not any(word in name for word in known)]
    if odd and not extras:
        extras.append(f"tensors that are no LoRA, for example {min(odd)}")
    return extras


def refuse_extras(info: AdapterInfo, *, purpose: str) -> None:
    """Raise AdapterError unless an adapter is plain LoRA, which alone can be exported or merged."""
    _refuse(info, find_extras(info), purpose)


def refuse_unasked(info: AdapterInfo) -> None:
    """Raise AdapterError unless an adapter is LoRA, plain or with extras that are all in its file:
    others need more than file and base to answer."""
    extras = [_EXTRAS[key] for key in _UNASKED if info.config.get(key)]
    _refuse(info, extras + _describe_start(info.config), "asked")


def _refuse(info: AdapterInfo, extras: list[str], purpose: str) -> None:
    """Refuse other kinds than LoRA (AdaLoRA has the same tensors, but multiplies them differently),
    and these extras."""
    kind = info.config.get("peft_type", "LORA")
    if kind != "LORA":
        raise AdapterError(
            f"{info.folder / CONFIG}: peft_type is {_show(kind)}: this is no LoRA adapter",
            hint="name a LoRA adapter",
        )
    if extras:
        raise AdapterError(
            f"{info.folder}: has {', '.join(extras)}, which cannot be {purpose}",
            hint="merge it into its base with PEFT (merge_and_unload), or train it as plain LoRA",
        )


def _describe_start(config: Mapping[str, Any]) -> list[str]:
    """Describe a change of the base at the start of training, for people; PEFT would repeat it at
    any cost. Empty if the base stayed the same."""
    start = config.get("init_lora_weights", True)
    if start is None or isinstance(start, bool):
        return []
    if isinstance(start, str) and start.lower() in PLAIN_STARTS:
        return []
    return [f"a base that was changed first (init_lora_weights: {_show(start)})"]


def refuse_odd_factors(info: AdapterInfo) -> dict[str, tuple[int, int]]:
    """Check an adapter's factors, and return the size of each changed weight by its module's name
    in the base: (d_out, d_in), of an embedding (tokens, d).

    Raises AdapterError unless each module has two matrices of numbers, lora_A (rank, d_in) and
    lora_B (d_out, rank), with the rank of the config, and unless there is a module.
    """
    sizes, ranks = {}, {}
    for name in info.tensors:
        match = _LETTER.search(name)
        if match is None or name.endswith(".bias"):
            continue
        module, at = name[: match.start()].removeprefix(PREFIX), match.end() - 1
        a, b = (info.tensors.get(f"{name[:at]}{letter}{name[at + 1 :]}") for letter in "AB")
        if a is None or b is None or (len(a.shape), len(b.shape)) != (2, 2):
            raise AdapterError(
                f"{info.folder}: {module} does not have two matrices, lora_A and lora_B",
                hint=_AGAIN,
            )
        odd = {a.dtype, b.dtype} - set(FLOATS)
        if odd:
            raise AdapterError(
                f"{info.folder / WEIGHTS}: {module} is stored as {min(odd)}",
                hint="store it in bf16, fp16 or fp32",
            )
        size = (b.shape[0], a.shape[1])
        sizes[module] = size[::-1] if match[1] else size
        ranks[module] = (a.shape[0], b.shape[1])
    if not sizes:
        raise AdapterError(f"{info.folder / WEIGHTS}: no LoRA tensors", hint=_AGAIN)
    for module, declared in module_ranks(info.config, list(ranks)).items():
        if type(declared) is not int or ranks[module] != (declared, declared):
            stored = " and ".join(map(str, dict.fromkeys(ranks[module])))
            raise AdapterError(
                f"{info.folder / CONFIG}: {module} has rank {_show(declared)} there, and {stored} "
                f"in {WEIGHTS}",
                hint="correct r or rank_pattern in it, or get the adapter again",
            )
    return sizes


def refuse_odd_tokens(config: Mapping[str, Any]) -> None:
    """Raise AdapterError for invalid invocation tokens in a config, with which PEFT would fail when
    it generates."""
    tokens = config.get("alora_invocation_tokens")
    if tokens is not None and not (
        isinstance(tokens, list) and all(type(token) is int and token >= 0 for token in tokens)
    ):
        raise AdapterError(
            f"{CONFIG}: alora_invocation_tokens is {_show(tokens)}, expected ids of tokens",
            hint="the file is damaged: get the adapter again",
        )


def _by_pattern(
    config: Mapping[str, Any], field: str, modules: Sequence[str], default: Any
) -> dict[str, Any]:
    """Find the value of each module by PEFT's rule: the first key that matches its name counts."""
    pattern = config.get(field) or {}
    if not isinstance(pattern, Mapping):
        raise AdapterError(f"{CONFIG}: {field} is not an object")
    keys = match_keys(field, list(pattern), modules)
    return {
        module: default if key is None else pattern[key]
        for module, key in zip(modules, keys, strict=True)
    }
