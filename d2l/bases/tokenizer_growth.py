"""How far a tokenizer's own rules can lengthen a text before it becomes tokens, or behind them.

Rules of a stranger's tokenizer.json follow one another, and some make several characters of one: a
few dozen of them in a row make gigabytes of a word. Rules in, a bound out; no text is needed.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import tokenizers

#: The most that one character may become. Tokenizers of public models stay below a thousand.
_MOST_GROWTH = 20_000.0
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
#: Keys under which rules hold others, which run one behind the other.
_CHAINS = ("normalizers", "pretokenizers", "processors", "decoders")
#: Characters that one character can become. The longest decomposition of Unicode (NFKD of U+FDFA)
#: has 18, a canonical one 4; ByteLevel makes a character of every byte of UTF-8.
_GROWTH = {
    "NFKC": 18.0,
    "NFKD": 18.0,
    "NFC": 4.0,
    "NFD": 4.0,
    "BertNormalizer": 12.0,  # decomposed, lower case, and spaces around ideographs
    "Lowercase": 3.0,
    "ByteLevel": 5.0,  # and a space before it
    "Metaspace": 2.0,
    "ByteFallback": 3.0,  # a byte that is no text becomes U+FFFD
}


def find_growth(tokenizer: tokenizers.Tokenizer) -> float:
    """The most characters that one becomes by rules of the tokenizer that follow one another."""
    growth = 1.0
    for part in _PARTS:
        component = getattr(tokenizer, part)
        if component is not None:
            growth = max(growth, _multiply(json.loads(component.__getstate__())))
    return growth


def grows_too_far(tokenizer: tokenizers.Tokenizer) -> bool:
    """Whether a text could become so long that memory ends: no tokenizer of a model does that."""
    return not find_growth(tokenizer) <= _MOST_GROWTH


def _multiply(rule: Mapping[str, Any]) -> float:
    growth = 1.0
    for one in _walk(rule):
        growth *= _measure(one)
    return growth


def _walk(rule: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A rule, or those that it holds."""
    held = [one for key in _CHAINS for one in rule.get(key) or ()]
    if not held:
        yield rule
    for one in held:
        yield from _walk(one)


def _measure(rule: Mapping[str, Any]) -> float:
    kind = str(rule.get("type"))
    if kind == "Replace":
        return _measure_replacing(rule)
    if kind == "TemplateProcessing":
        texts = [piece for piece in rule.get("single") or () if "Sequence" in piece]
        return float(max(len(texts), 1))
    if kind == "Precompiled":  # a table of a stranger's may hold anything; NFKC's is the usual one
        return max(_GROWTH["NFKC"], 1e-6 * len(rule.get("precompiled_charsmap") or ()))
    return _GROWTH.get(kind, 1.0)


def _measure_replacing(rule: Mapping[str, Any]) -> float:
    """What is put in for a text; for a pattern, which may match between any two characters."""
    pattern, content = rule.get("pattern") or {}, str(rule.get("content") or "")
    text = pattern.get("String")
    return max(1.0, len(content) / len(text)) if text else 1.0 + len(content)
