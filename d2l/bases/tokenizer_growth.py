"""How far a tokenizer's own rules can lengthen a text before it becomes tokens, or behind them.

Rules of a stranger's tokenizer.json follow one another, and some make several characters of one: a
few dozen of them in a row make gigabytes of a word. Rules in, a bound out; no text is needed.
"""

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tokenizers

#: The most that one character may become. ALBERT's rules, the longest chain that is known of public
#: models, come to four thousand, those of language models to less than a hundred.
MOST_GROWTH = 5_000.0
#: The most that a text may become, in characters; each takes some twenty bytes.
MOST_CHARACTERS = 100_000_000
_ENCODING, _DECODING = ("normalizer", "pre_tokenizer", "post_processor"), ("decoder",)
#: Keys under which rules hold others, which run one behind the other.
_CHAINS = ("normalizers", "pretokenizers", "processors", "decoders")
#: Characters that one character can become. The longest normal form of Unicode (NFKD of U+FDFA) has
#: 18, the longest canonical one 4.
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
    """The most characters that one becomes by rules of the tokenizer that follow one another: the
    product of what each of them makes of one."""
    return max(_multiply(tokenizer, parts) for parts in (_ENCODING, _DECODING))


def _multiply(tokenizer: tokenizers.Tokenizer, parts: Sequence[str]) -> float:
    growth = 1.0
    for component in (getattr(tokenizer, part) for part in parts):
        if component is not None:
            for rule in _walk(json.loads(component.__getstate__())):
                growth *= _measure(rule)
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
    """The longest text of SentencePiece's table of normal forms: the size of a trie, the trie, and
    the texts, each with a zero behind it."""
    table = base64.b64decode(str(rule.get("precompiled_charsmap") or ""))
    texts = table[4 + int.from_bytes(table[:4], "little") :].split(b"\0")
    return float(max(1, *(len(text.decode("utf-8", "replace")) for text in texts)))
