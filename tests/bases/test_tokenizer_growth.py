"""How far a tokenizer's rules lengthen a text: the bound holds of what they really do."""

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

import pytest
import tokenizers

from d2l.bases.tokenizer_growth import find_growth, grows_too_far
from tests import tiny

Rule = dict[str, Any]
BYTES: Rule = {
    "type": "ByteLevel",
    "add_prefix_space": True,
    "trim_offsets": True,
    "use_regex": True,
}
META: Rule = {"type": "Metaspace", "replacement": "_", "prepend_scheme": "always", "split": True}


def replacing(pattern: Rule, content: str) -> Rule:
    return {"type": "Replace", "pattern": pattern, "content": content}


def build(part: str, rules: Sequence[Rule]) -> tokenizers.Tokenizer:
    keys = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
    document = json.loads(tiny.tokenizer_json())
    document |= {part: {"type": "Sequence", keys[part]: list(rules)}}
    return tokenizers.Tokenizer.from_str(json.dumps(document))


@pytest.mark.parametrize(
    ("rules", "text"),
    [
        ([{"type": "NFKD"}], "\ufdfa"),
        ([{"type": "NFD"}], "\u1f82"),
        ([{"type": "Lowercase"}], "\u0130"),
        ([replacing({"String": "a"}, "bcd")], "aa"),
        ([replacing({"String": "ab"}, "a")], "ab"),
        ([replacing({"Regex": "(?=a)"}, "xyz")], "aaaa"),
        ([{"type": "ByteLevel"}], "\u20ac"),
        (
            [{"type": "Sequence", "normalizers": [{"type": "NFKD"}]}, {"type": "Lowercase"}],
            "\u3300",
        ),
    ],
)
def test_normalizers_make_no_more_of_a_text_than_is_said(rules: list[Rule], text: str) -> None:
    tokenizer = build("normalizer", rules)
    made = tokenizer.normalizer.normalize_str(text)
    assert len(made) <= find_growth(tokenizer) * len(text)


@pytest.mark.parametrize("rules", [[BYTES], [META], [META, BYTES], [BYTES, BYTES, BYTES]])
@pytest.mark.parametrize("text", ["a", "\u00e9", "\U0001f600", "a b \u00e9", "\u20ac1 x"])
def test_splitting_makes_no_more_of_a_text_than_is_said(rules: list[Rule], text: str) -> None:
    tokenizer = build("pre_tokenizer", rules)
    pieces = tokenizer.pre_tokenizer.pre_tokenize_str(text)
    made = sum(len(piece) for piece, _ in pieces)
    assert made <= find_growth(tokenizer) * len(text)


def test_usual_tokenizers_are_far_from_the_bound() -> None:
    assert find_growth(tiny.load_tokenizer()) < 10
    bert = {
        "type": "BertNormalizer",
        "clean_text": True,
        "handle_chinese_chars": True,
        "strip_accents": None,
        "lowercase": True,
    }
    spaces = replacing({"String": " "}, "\u2581")
    assert find_growth(build("normalizer", [bert])) < 100
    assert find_growth(build("normalizer", [{"type": "Prepend", "prepend": "_"}, spaces])) < 100
    unicode = [{"type": kind} for kind in ("NFKD", "StripAccents", "Lowercase", "NFC")]
    squeezed = replacing({"Regex": " {2,}"}, " ")  # as ALBERT's
    assert find_growth(build("normalizer", [spaces, *unicode, make_table(b"ab"), squeezed])) < 200


def make_table(*texts: bytes) -> Rule:
    """A table of normal forms with an empty trie."""
    table = struct.pack("<I", 4) + bytes(4) + b"\0".join(texts) + b"\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def test_a_table_counts_by_its_longest_text() -> None:
    assert not grows_too_far(build("normalizer", [make_table(b"x" * 40, b"y")]))
    assert grows_too_far(build("normalizer", [make_table(b"y", b"x" * 40_000)]))


@pytest.mark.parametrize(
    ("part", "rule", "number"),
    [
        ("normalizer", replacing({"String": "a"}, "aa"), 15),
        ("normalizer", replacing({"Regex": ""}, "a"), 15),
        ("normalizer", {"type": "ByteLevel"}, 8),
        ("normalizer", replacing({"String": "a"}, "b" * 300), 2),
        ("pre_tokenizer", BYTES, 8),
        ("decoder", replacing({"String": "a"}, "aa"), 15),
    ],
)
def test_rules_in_a_row_are_refused(part: str, rule: Rule, number: int) -> None:
    assert not grows_too_far(build(part, [rule]))
    assert grows_too_far(build(part, [rule] * number))


def test_unicode_rules_grow_again_behind_others() -> None:
    """U+FDFA has three spaces in its normal form, and each becomes U+FDFA once more."""
    rules = [replacing({"String": " "}, "\ufdfa"), {"type": "NFKD"}]
    assert not grows_too_far(build("normalizer", rules))
    assert grows_too_far(build("normalizer", rules * 4))
    tokenizer = build("normalizer", rules * 4)
    assert len(tokenizer.normalizer.normalize_str(" ")) <= find_growth(tokenizer)
    assert not grows_too_far(build("normalizer", [{"type": "NFKD"}] * 60))


def test_templates_that_repeat_a_text_are_counted() -> None:
    text = {"Sequence": {"id": "A", "type_id": 0}}
    rule = {
        "type": "TemplateProcessing",
        "single": [text] * 2,
        "pair": [text],
        "special_tokens": {},
    }
    document = json.loads(tiny.tokenizer_json())
    document["post_processor"] = {"type": "Sequence", "processors": [rule] * 15}
    assert grows_too_far(tokenizers.Tokenizer.from_str(json.dumps(document)))
