"""How far a tokenizer's own rules can lengthen a text before it becomes tokens, or behind them.

Rules of a stranger's tokenizer.json follow one another, and some make several characters of one: a
few dozen of them in a row make gigabytes of a word. Rules in, a bound out; no text is needed.
"""

import base64
import json
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import tokenizers

#: The most that one character may become; the usual rules of public models, one of each kind, come
#: to about a hundred.
_MOST_GROWTH = 300.0
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
#: Keys under which rules hold others, which run one behind the other.
_CHAINS = ("normalizers", "pretokenizers", "processors", "decoders")
#: Rules of Unicode. One behind the other they do not grow by their product: what has a normal form
#: keeps it. The longest, NFKD of U+FDFA, has 18 characters; lower case makes up to three of one.
_UNICODE = {"NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt", "Precompiled"}
_UNICODE_GROWTH = 54.0
#: Characters that one character can become by other rules.
_GROWTH = {
    "BertNormalizer": 12.0,  # decomposed, lower case, and spaces around ideographs
    "ByteLevel": 5.0,  # a character of every byte of UTF-8, and a space before them
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
    for unicode, rules in groupby(_walk(rule), lambda one: one.get("type") in _UNICODE):
        for one in rules:
            growth *= _measure(one)
        growth *= _UNICODE_GROWTH if unicode else 1.0
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
    if kind == "Precompiled":
        return _measure_table(rule)
    return _GROWTH.get(kind, 1.0)


def _measure_replacing(rule: Mapping[str, Any]) -> float:
    """What is put in for a text; for a pattern, which may match between any two characters."""
    pattern, content = rule.get("pattern") or {}, str(rule.get("content") or "")
    text = pattern.get("String")
    return max(1.0, len(content) / len(text)) if text else 1.0 + len(content)


def _measure_table(rule: Mapping[str, Any]) -> float:
    """SentencePiece's table of normal forms: the size of a trie, the trie, and texts that end with
    a zero. 1 where it holds none that is longer than Unicode's own."""
    table = base64.b64decode(str(rule.get("precompiled_charsmap") or ""))
    texts = table[4 + int.from_bytes(table[:4], "little") :].split(b"\0")
    return max(1.0, max(map(len, texts)) / _UNICODE_GROWTH)
