"""The shortened tokenizer file: short, and the same tokenizer to everything that reads it."""

import json
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import transformers

from d2l.bases.models import find_base
from d2l.bases.tokenizer_files import compact_tokenizer, read_compact
from d2l.bases.tokenizers import BaseTokenizer
from d2l.errors import BaseModelError
from tests import tiny
from tests.bases.hard_texts import HARD
from tests.slow import slow_after

BASES = ("tiny", "HuggingFaceTB/SmolLM2-135M-Instruct", "Qwen/Qwen2.5-Coder-0.5B-Instruct")


def read_original(base: str) -> str:
    """The tokenizer.json of a base, as its folder has it."""
    if base == "tiny":
        return tokenizers.Tokenizer.from_str(tiny.tokenizer_json()).to_str(pretty=True)
    try:
        folder = find_base(base, offline=True).folder
    except BaseModelError:
        pytest.skip(f"{base} is not on this machine")
    return (folder / "tokenizer.json").read_text("utf-8")


def with_merges(merges: list[Any]) -> str:
    """The tiny tokenizer's file with other merges, whose texts are in its vocabulary."""
    document = json.loads(tiny.tokenizer_json())
    document["model"]["merges"] = merges
    vocab = document["model"]["vocab"]
    for pair in merges:
        for piece in (*pair, "".join(pair)):
            vocab.setdefault(piece, len(vocab))
    return json.dumps(document)


@pytest.mark.parametrize("base", slow_after(2, *BASES))
def test_it_encodes_as_the_original_and_is_much_shorter(base: str, tmp_path: Path) -> None:
    original = read_original(base)
    compact = compact_tokenizer(original)
    assert len(compact.encode()) < 0.8 * len(original.encode())
    assert "\n" not in compact[:-1]
    before, after = map(tokenizers.Tokenizer.from_str, (original, compact))
    assert before.to_str() == after.to_str()  # every field, vocabulary and merges among them
    (tmp_path / "tokenizer.json").write_text(compact, "utf-8")
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    loaded = transformers.AutoTokenizer.from_pretrained(tmp_path)
    own = BaseTokenizer(tmp_path)  # takes merges apart itself, for its counterpart in tiktoken
    for text in HARD:
        ids = before.encode(text, add_special_tokens=False).ids
        assert loaded(text, add_special_tokens=False)["input_ids"] == ids, text
        before.encode_special_tokens = True
        assert own.encode(text) == before.encode(text, add_special_tokens=False).ids, text
        before.encode_special_tokens = False


def test_doing_it_twice_changes_nothing() -> None:
    once = compact_tokenizer(tiny.tokenizer_json())
    assert compact_tokenizer(once) == once
    assert isinstance(json.loads(once)["model"]["merges"][0], str)


@pytest.mark.parametrize(
    "pair", [["a b", "c"], ["a", "b "], ["#version", "c"]], ids=["within", "behind", "comment"]
)
def test_merges_that_one_string_could_not_say_stay_pairs(pair: list[str]) -> None:
    """Spelled as one string, tokenizers refuses the first two, and passes the last one over."""
    original = with_merges([pair, ["t", "h"]])
    compact = compact_tokenizer(original)
    assert json.loads(compact)["model"]["merges"] == [pair, ["t", "h"]]
    same = (tokenizers.Tokenizer.from_str(text).to_str() for text in (original, compact))
    assert len(set(same)) == 1


def test_tokenizers_without_merges_lose_their_white_space_only() -> None:
    model = {"type": "WordLevel", "vocab": {"é": 0, "[UNK]": 1}, "unk_token": "[UNK]"}
    original = json.dumps({"version": "1.0", "model": model}, indent=2)
    compact = compact_tokenizer(original)
    assert json.loads(compact) == json.loads(original)
    assert '"é":0' in compact


def test_what_was_made_is_kept_and_a_damaged_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("D2L_CACHE_DIR", str(tmp_path / "cache"))
    file = tmp_path / "tokenizer.json"
    file.write_text(tokenizers.Tokenizer.from_str(tiny.tokenizer_json()).to_str(pretty=True))
    expected = compact_tokenizer(file.read_text("utf-8"))
    assert read_compact(file) == expected
    (kept,) = (tmp_path / "cache" / "tokenizers").iterdir()
    whole = kept.read_bytes()
    with monkeypatch.context() as patch:
        name = "d2l.bases.tokenizer_files.compact_tokenizer"
        patch.setattr(name, lambda _: pytest.fail("was made again"))
        assert read_compact(file) == expected
    for damaged in (b"", whole[:-9], whole[:70] + b"#" + whole[71:], b"\xff" * 80):
        kept.write_bytes(damaged)
        assert read_compact(file) == expected
        assert kept.read_bytes() == whole
    file.write_text(file.read_text("utf-8").replace("  ", " "), "utf-8")  # another file
    assert read_compact(file) == expected
    assert len(list(kept.parent.iterdir())) == 2
