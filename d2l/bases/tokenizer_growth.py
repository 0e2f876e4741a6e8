"""Bound how far a tokenizer's rules can lengthen a text, before tokens and in decoding.

Some rules of a tokenizer.json turn a character into several: a few dozen of them in a row, in a
stranger's file, turn a word into gigabytes. Rules in, a bound out.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tokenizers

#: Largest growth of a character. ALBERT's rules, the longest known chain of a public model, reach
#: four thousand; those of language models less than a hundred.
MOST_GROWTH = 5_000.0
#: Largest text after growth, in characters; each takes some twenty bytes.
MOST_CHARACTERS = 100_000_000
_ENCODING, _DECODING = ("normalizer", "pre_tokenizer", "post_processor"), ("decoder",)
#: Keys under which rules hold lists of rules.
_CHAINS = ("normalizers", "pretokenizers", "processors", "decoders")
#: Growth of a character by each rule. The longest normal form of Unicode (NFKD of U+FDFA) has 18
#: characters, the longest canonical one 4.
_GROWTH = {
    "NFKC": 18.0,
    "NFKD": 18.0,
    "NFC": 4.0,
    "NFD": 4.0,
    "BertNormalizer": 12.0,  # decomposed, lower case, and spaces around ideographs
    "Lowercase": 3.0,
    "ByteLevel": 5.0,  # a character of every byte of UTF-8, and a space before them
    "Metaspace": 2.0,
    "ByteFallback": 3.0,  # a byte that is no text becomes U+FFFD
}


def find_growth(tokenizer: tokenizers.Tokenizer) -> float:
    """Find the largest growth of a character by all rules in a row: the product of theirs."""
    return max(_multiply(tokenizer, names) for names in (_ENCODING, _DECODING))


def _multiply(tokenizer: tokenizers.Tokenizer, names: Sequence[str]) -> float:
    growth = 1.0
    for component in (getattr(tokenizer, name) for name in names):
        if component is not None:
            for rule in _walk(json.loads(component.__getstate__())):
                growth *= _measure(rule)
    return growth


def _walk(rule: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield a rule, or the rules in its lists."""
    inner = [nested for key in _CHAINS for nested in rule.get(key) or ()]
    if not inner:
        yield rule
    for nested in inner:
        yield from _walk(nested)


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
    """Growth by replacing a text, or a pattern, which may match between any two characters."""
    pattern, content = rule.get("pattern") or {}, str(rule.get("content") or "")
    text = pattern.get("String")
    return max(1.0, len(content) / len(text)) if text else 1.0 + len(content)


def _measure_table(rule: Mapping[str, Any]) -> float:
    """Length of the longest text in SentencePiece's table of normal forms: the size of a trie, the
    trie, and the texts, which end with a zero."""
    table = base64.b64decode(str(rule.get("precompiled_charsmap") or ""))
    texts = table[4 + int.from_bytes(table[:4], "little") :].split(b"\0")
    return float(max(1, *(len(text.decode("utf-8", "replace")) for text in texts)))
