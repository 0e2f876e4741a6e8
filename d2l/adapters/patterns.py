"""Match patterns of an adapter's config, which are a stranger's, with module names.

Plain names are matched here; patterns that repeat or branch in a child process under limits.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from d2l.adapters.info import CONFIG
from d2l.errors import AdapterError
from d2l.files.child import Limits, Stopped, ask_child

#: Usual patterns take milliseconds on all modules of a model; the child's start takes most time.
LIMITS = Limits(seconds=5.0, memory_bytes=1_000_000_000, reply_bytes=1 << 26)
_WORKER = "d2l.adapters.pattern_worker"
_HINT = "name the modules in it, or their layers"
#: Patterns that match any text in one step a character.
_PLAIN = re.compile(r"(?:[\w.-]|\\\.)*")
#: Patterns of PEFT for the fields of its config (peft 0.21, utils/other.py: get_pattern_key and
#: match_target_against_key; tuners/tuners_utils.py: check_target_module_exists).
_KEY, _WHOLE = r"(.*\.)?({})$", r"(?:{})\Z"
_FORMS = {
    "rank_pattern": _KEY,
    "alpha_pattern": _KEY,
    "target_modules": _WHOLE,
    "exclude_modules": _WHOLE,
    "layers_pattern": r"(?:^|.*?\.){}\.(?P<idx>\d+)\.",
    "modules_to_save": r"(^|.*\.){}($|\..*)",
}


def match_keys(field: str, keys: Sequence[str], names: Sequence[str]) -> list[str | None]:
    """Match each module name with the first key that PEFT takes, or None; raises AdapterError."""
    matched: list[str | None] = [None] * len(names)
    hits = _match(field, [_form(field, key) for key in keys], list(names), keys)
    for key, indices in zip(keys, hits, strict=True):
        for n in indices:
            matched[n] = key if matched[n] is None else matched[n]
    return matched


def refuse_slow(config: Mapping[str, Any], names: Sequence[str]) -> None:
    """Raise AdapterError if a config's patterns take long on a model's module names: PEFT matches
    them in this process."""
    for field in _FORMS:
        value = config.get(field)
        if isinstance(value, str):
            value = [value]
        elif field in ("target_modules", "exclude_modules") or not value:
            continue  # lists of these are names, not patterns
        if not isinstance(value, list | dict) or not all(isinstance(key, str) for key in value):
            raise AdapterError(f"{CONFIG}: {field} does not name modules", hint=_HINT)
        keys = list(value)
        _match(field, [_form(field, key) for key in keys], list(names), keys)


def _form(field: str, key: str) -> str:
    return _FORMS[field].replace("{}", key)


def _match(
    field: str, patterns: Sequence[str], names: list[str], keys: Sequence[str]
) -> list[list[int]]:
    """Match each pattern with names, by their indices."""
    if all(_PLAIN.fullmatch(key) for key in keys):
        compiled = [re.compile(pattern) for pattern in patterns]
        return [[n for n, name in enumerate(names) if regex.match(name)] for regex in compiled]
    try:
        reply = ask_child(_WORKER, {"patterns": list(patterns), "names": names}, LIMITS)
    except Stopped as stopped:
        reason = {
            "time": f"that take more than {LIMITS.seconds:g} seconds",
            "memory": f"that use more than {LIMITS.memory_bytes / 1e9:g} GB of memory",
        }.get(stopped.why, f"that cannot be matched ({stopped.cause or stopped.why})")
        raise AdapterError(f"{CONFIG}: {field} has patterns {reason}", hint=_HINT) from None
    if "bad" in reply:
        bad = keys[list(patterns).index(reply["bad"])]
        raise AdapterError(f"{CONFIG}: {field} has {bad[:80]!r}, no pattern", hint=_HINT)
    matches: list[list[int]] = reply["matches"]
    return matches
