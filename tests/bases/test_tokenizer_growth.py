"""How far a tokenizer's rules lengthen a text: the bound holds of what they really do."""

import base64
import json
import struct
from collections.abc import Sequence
from typing import Any

import pytest
import tokenizers

from d2l.bases.tokenizer_growth import MOST_GROWTH, find_growth
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


def make_table(*texts: bytes) -> Rule:
    """A table of normal forms with an empty trie."""
    table = struct.pack("<I", 4) + bytes(4) + b"\0".join(texts) + b"\0"
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(table).decode()}


def build(part: str, rules: Sequence[Rule]) -> tokenizers.Tokenizer:
    keys = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
    document = json.loads(tiny.tokenizer_json()) | {"pre_tokenizer": None, "decoder": None}
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
    table = make_table("\ufdfa".encode() * 18)  # as long as the longest of the usual one
    albert = [{"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}, table]
    squeezed = replacing({"Regex": " {2,}"}, " ")
    assert (
        1_000 < find_growth(build("normalizer", [*albert, squeezed])) < MOST_GROWTH / 2
    )  # for Metaspace
    clip = [{"type": "NFC"}, replacing({"Regex": r"\s+"}, " "), {"type": "Lowercase"}]
    assert find_growth(build("normalizer", clip)) < 100


def test_a_table_counts_by_its_longest_text() -> None:
    assert find_growth(build("normalizer", [make_table(b"x" * 40, b"y")])) == 40
    assert find_growth(build("normalizer", [make_table(b"y", b"x")] * 3)) == 1


@pytest.mark.parametrize(
    ("part", "rule", "number"),
    [
        ("normalizer", replacing({"String": "a"}, "aa"), 15),
        ("normalizer", replacing({"Regex": ""}, "a"), 15),
        ("normalizer", {"type": "ByteLevel"}, 8),
        ("normalizer", replacing({"String": "a"}, "b" * 300), 2),
        ("normalizer", {"type": "NFKD"}, 3),
        ("normalizer", make_table(b"a" * 40), 3),
        ("pre_tokenizer", BYTES, 8),
        ("decoder", replacing({"String": "a"}, "aa"), 15),
    ],
)
def test_rules_in_a_row_are_refused(part: str, rule: Rule, number: int) -> None:
    assert find_growth(build(part, [rule])) <= MOST_GROWTH
    assert find_growth(build(part, [rule] * number)) > MOST_GROWTH


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
    document["pre_tokenizer"] = BYTES
    assert find_growth(tokenizers.Tokenizer.from_str(json.dumps(document))) == 5 * 2**15
