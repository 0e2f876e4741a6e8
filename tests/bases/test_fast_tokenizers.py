"""The fast encoding against the tokenizers library on the model's own tokenizer.json."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
import tokenizers
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import BaseTokenizer, FastEncoding, make_encoding
from d2l.documents.document import Source
from d2l.documents.read import read_document
from d2l.errors import DocumentError
from tests import tiny
from tests.bases.hard_texts import HARD

DOCUMENTS = Path(__file__).parents[2].parent / "shared" / "docs"
RAW = (".txt", ".md", ".csv", ".html")  # taken as they are; the others through their readers
LARGEST_PDF = 500_000  # reading takes seconds beyond; the one beyond is there as an EPUB too


@pytest.fixture(autouse=True)
def _fast_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short texts would be left to the model's own tokenizer."""
    monkeypatch.setattr("d2l.bases.tokenizers._FEW_CHARACTERS", 0)


def make_reference(tokenizer_json: str) -> tokenizers.Tokenizer:
    """The model's own tokenizer, for ordinary text."""
    tokenizer = tokenizers.Tokenizer.from_str(tokenizer_json)
    tokenizer.encode_special_tokens = True
    return tokenizer


def encode(reference: tokenizers.Tokenizer, text: str) -> list[int]:
    return reference.encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module")
def smollm2(smollm2_files: BaseFiles) -> BaseTokenizer:
    return BaseTokenizer(smollm2_files.folder)


@pytest.fixture(scope="module")
def qwen(qwen_files: BaseFiles) -> BaseTokenizer:
    return BaseTokenizer(qwen_files.folder)


@pytest.fixture(scope="module")
def own(smollm2_files: BaseFiles) -> tokenizers.Tokenizer:
    return make_reference((smollm2_files.folder / "tokenizer.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def tiny_tokenizer(bases: Path) -> BaseTokenizer:
    return BaseTokenizer(bases / "llama-tiny")


def write_tokenizer(folder: Path, document: dict[str, Any]) -> BaseTokenizer:
    (folder / "tokenizer.json").write_text(json.dumps(document), "utf-8")
    return BaseTokenizer(folder)


def train(
    pre_tokenizer: Any = None, normalizer: Any = None, special: tuple[str, ...] = ()
) -> dict[str, Any]:
    """A byte-level tokenizer.json of 300 tokens, by the library's own trainer."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer or pre_tokenizers.ByteLevel(False)
    tokenizer.decoder = decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=list(special),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([tiny.DOCUMENT, *HARD[3:12]], trainer)
    return json.loads(tokenizer.to_str())


# ---- the fast encoding equals the model's own tokenizer -----------------------------------------


def test_built_in_base_has_a_fast_encoding(smollm2: BaseTokenizer) -> None:
    assert isinstance(smollm2.fast, FastEncoding)
    assert smollm2.fast.covers("An ordinary text, 12 words – é 日本 \U0001f600.")


@pytest.mark.parametrize("text", HARD, ids=lambda text: ascii(text[:12]))
def test_hard_text_has_the_ids_of_the_models_own_tokenizer(
    smollm2: BaseTokenizer, own: tokenizers.Tokenizer, text: str
) -> None:
    for variant in (text, f" {text}", f"{text} {text}", f"7{text}7", f"x{text}\n"):
        assert smollm2.encode(variant) == encode(own, variant)
        assert smollm2.encode_slow(variant) == encode(own, variant)


def test_random_text_has_the_ids_of_the_models_own_tokenizer(
    smollm2: BaseTokenizer, own: tokenizers.Tokenizer
) -> None:
    generator = random.Random(11)
    blocks = [(0, 0x80), (0x80, 0x250), (0x300, 0x700), (0x900, 0x1000), (0x2000, 0x2C00)]
    blocks += [(0x3000, 0x9FFF), (0xA000, 0xD7FF), (0xE000, 0xFFFF), (0x10000, 0x10FFFF)]
    n_fast = 0
    for _ in range(1500):
        chosen = generator.choices(blocks, k=generator.randint(1, 3))
        letters = [chr(generator.randrange(*generator.choice(chosen))) for _ in range(30)]
        letters += generator.choices(" \n\t7'.a", k=15)
        generator.shuffle(letters)
        text = "".join(letters)
        assert smollm2.fast is not None
        n_fast += smollm2.fast.covers(text)
        assert smollm2.encode(text) == encode(own, text)
    assert n_fast > 500  # the others are left to the model's own tokenizer


def list_characters(fast: FastEncoding) -> list[str]:
    """All that the fast encoding covers, of ideographs and Hangul every eighth."""
    uniform = [range(0x3400, 0xA000), range(0xAC00, 0xD7A4), range(0x20000, 0x40000)]
    numbers = [*range(0xD800), *range(0xE000, 0x10000), *range(0x1F000, 0x40000)]
    return [
        chr(number)
        for number in numbers
        if not (number % 8 and any(number in block for block in uniform))
        and fast.covers(chr(number))
    ]


def test_every_character_has_the_ids_of_the_models_own_tokenizer(
    smollm2: BaseTokenizer, own: tokenizers.Tokenizer
) -> None:
    """Each beside what its class decides on: a letter, digits, white space, an apostrophe."""
    assert smollm2.fast is not None
    characters = list_characters(smollm2.fast)
    assert len(characters) > 40_000
    for start in range(0, len(characters), 64):
        batch = characters[start : start + 64]
        text = "".join(f"a{c}1 {c}  {c}'{c}s\n{c} " for c in batch)
        assert smollm2.fast.covers(text)
        assert smollm2.encode(text) == encode(own, text), [hex(ord(c)) for c in batch]


@pytest.mark.slow
def test_documents_have_the_ids_of_the_models_own_tokenizer(
    smollm2: BaseTokenizer, own: tokenizers.Tokenizer
) -> None:
    if not DOCUMENTS.is_dir():
        pytest.skip("there are no documents beside the repository")
    seen = set()
    for path in sorted(DOCUMENTS.iterdir()):
        if path.suffix == ".pdf" and path.stat().st_size > LARGEST_PDF:
            continue
        try:
            text = (
                path.read_text("utf-8", "replace")
                if path.suffix in RAW
                else read_document(Source(path.name, path)).text
            )
        except DocumentError:  # encrypted, scanned or damaged on purpose
            continue
        assert smollm2.encode(text) == encode(own, text)
        seen.add(path.suffix)
    assert seen == {*RAW, ".pdf", ".docx", ".epub"}


@pytest.mark.parametrize("run", [99_999, 100_000, 1_100_000])
def test_endless_white_space_does_not_break_the_fast_encoding(
    tiny_tokenizer: BaseTokenizer, run: int
) -> None:
    """At a million characters tiktoken's own matcher would end the process with a panic."""
    text = "a" + " " * run + "b"
    expected = encode(make_reference(tiny.tokenizer_json()), text)
    assert tiny_tokenizer.encode(text) == expected


@pytest.mark.parametrize(
    ("pre_tokenizer", "normalizer"),
    [
        (pre_tokenizers.ByteLevel(False), None),
        (pre_tokenizers.ByteLevel(False), normalizers.NFC()),
        (
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Split(
                        tokenizers.Regex(
                            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
                            r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
                        ),
                        behavior="isolated",
                    ),
                    pre_tokenizers.ByteLevel(False, use_regex=False),
                ]
            ),
            normalizers.NFC(),
        ),
    ],
    ids=["plain", "NFC", "split"],
)
def test_other_byte_level_tokenizers_have_equal_fast_encodings(
    pre_tokenizer: Any, normalizer: Any, tmp_path: Path
) -> None:
    document = train(pre_tokenizer, normalizer)
    tokenizer = write_tokenizer(tmp_path, document)
    assert tokenizer.fast is not None
    reference = make_reference(json.dumps(document))
    for text in HARD:
        assert tokenizer.encode(text) == encode(reference, text)


def test_added_tokens_that_are_ordinary_text_keep_their_ids(tmp_path: Path) -> None:
    document = train(special=("<|end|>",))
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(document))
    tokenizer.add_tokens(["<table>", "\n\n\n"])
    tokenizer = write_tokenizer(tmp_path, json.loads(tokenizer.to_str()))
    assert tokenizer.fast is not None
    reference = make_reference((tmp_path / "tokenizer.json").read_text("utf-8"))
    for text in ("a <table> b", "<table>", "a\n\n\nb", "a\n\n\n\nb", "<tab le>", "<|end|>"):
        assert tokenizer.encode(text) == encode(reference, text)
    assert len(tokenizer.encode("<table>")) == 1


# ---- tokenizers without a fast encoding ---------------------------------------------------------


def change(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A tokenizer.json with fields of its model changed."""
    return document | {"model": document["model"] | changes}


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(DOCUMENTS.glob("*.txt")) + sorted(DOCUMENTS.glob("*.md")))
def test_qwen_counts_fast_what_it_counts_slowly(qwen: BaseTokenizer, path: Path) -> None:
    text = path.read_text("utf-8")[:20_000]
    assert qwen.fast is not None
    assert qwen.encode(text) == qwen.encode_slow(text)


@pytest.mark.slow
def test_qwen_counts_hard_texts_alike(qwen: BaseTokenizer) -> None:
    odd = [text for text in HARD if qwen.encode(text) != qwen.encode_slow(text)]
    assert odd == []


def test_unequal_tokenizers_have_no_fast_encoding() -> None:
    plain = train()
    assert make_encoding(plain) is not None
    vocab, merges = plain["model"]["vocab"], plain["model"]["merges"]
    unequal = {
        "lower case": plain | {"normalizer": {"type": "Lowercase"}},
        "NFKC": plain | {"normalizer": {"type": "NFKC"}},
        "prefix": train(pre_tokenizers.ByteLevel(add_prefix_space=True)),
        "no pattern": train(pre_tokenizers.ByteLevel(False, use_regex=False)),
        "no bytes": plain | {"pre_tokenizer": {"type": "Whitespace"}},
        "none": plain | {"pre_tokenizer": None},
        "grouped digits": train(
            pre_tokenizers.Sequence([pre_tokenizers.Digits(False), pre_tokenizers.ByteLevel(False)])
        ),
        "three steps": train(
            pre_tokenizers.Sequence(
                [
                    pre_tokenizers.Punctuation(),
                    pre_tokenizers.Digits(True),
                    pre_tokenizers.ByteLevel(False),
                ]
            )
        ),
        "byte fallback": change(plain, byte_fallback=True),
        "dropout": change(plain, dropout=0.1),
        "suffix": change(plain, end_of_word_suffix="</w>"),
        "prefix of parts": change(plain, continuing_subword_prefix="##"),
        "word pieces": change(plain, type="WordPiece"),
        "unigrams": change(plain, type="Unigram"),
        "merges out of order": change(plain, merges=[merges[1], merges[0], *merges[2:]]),
        "merge twice": change(plain, merges=[*merges, merges[-1]]),
        "merge of nothing known": change(plain, merges=[*merges, ["\u0120", "\u0121"]]),
        "letters": change(plain, vocab=vocab | {"日": max(vocab.values()) + 1}),
    }
    fast = [name for name, document in unequal.items() if make_encoding(document) is not None]
    assert fast == []


def test_tokens_that_no_merge_leads_to_are_never_made() -> None:
    """As of vocabularies that are filled up to a round size ("[PAD151665]")."""
    plain = train()
    merges, vocab = plain["model"]["merges"], plain["model"]["vocab"]
    filled = change(plain, merges=merges[:-1], vocab=vocab | {"[PAD9]": max(vocab.values()) + 1})
    fast = make_encoding(filled)
    assert fast is not None
    slow = tokenizers.Tokenizer.from_str(json.dumps(filled))
    last = "".join(merges[-1]).replace("\u0120", " ")
    for text in (f"a {last} and {last}{last}", "[PAD9] [PAD9]", *HARD):
        assert fast.encoding.encode_ordinary(text) == slow.encode(text).ids


def test_tokens_that_merges_do_not_reach_make_the_encoding_unequal(tmp_path: Path) -> None:
    """`ab` merges before `bc`, so no text becomes `abc`, though it is in the vocabulary."""
    vocab = {symbol: n for n, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    vocab |= {"ab": 256, "bc": 257, "abc": 258}
    merges = [["a", "b"], ["b", "c"], ["a", "bc"]]
    document = change(train(), vocab=vocab, merges=merges)
    assert make_encoding(document) is None
    assert write_tokenizer(tmp_path, document).encode("abc") == [256, vocab["c"]]


def test_merges_may_be_strings(tmp_path: Path) -> None:
    document = train()
    strings = change(document, merges=[" ".join(pair) for pair in document["model"]["merges"]])
    tokenizer = write_tokenizer(tmp_path, strings)
    assert tokenizer.fast is not None
    assert tokenizer.encode(tiny.DOCUMENT) == encode(
        make_reference(json.dumps(document)), tiny.DOCUMENT
    )


def test_without_a_fast_encoding_the_models_own_is_used(tmp_path: Path) -> None:
    document = train(normalizer=normalizers.Lowercase())
    tokenizer = write_tokenizer(tmp_path, document)
    assert tokenizer.fast is None
    assert tokenizer.encode("The PUMP") == encode(make_reference(json.dumps(document)), "the pump")


def test_two_tokens_of_one_id_have_no_counterpart_and_no_panic(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    document = json.loads(tiny.tokenizer_json())
    vocabulary = document["model"]["vocab"]
    first, second = [token for token in vocabulary if len(token) == 1][:2]
    vocabulary[first] = vocabulary[second]
    (tmp_path / "tokenizer.json").write_text(json.dumps(document), "utf-8")
    assert BaseTokenizer(tmp_path).fast is None
    assert capfd.readouterr().err == ""


def test_nothing_is_made_for_a_short_text_and_a_long_one_has_the_same_ids(
    tiny_tokenizer: BaseTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("d2l.bases.tokenizers._FEW_CHARACTERS", 1000)
    fresh, text = BaseTokenizer(tiny_tokenizer.folder), "The pump is rinsed every 14 days. "
    first = fresh.encode(text)
    assert "fast" not in vars(fresh)
    for _ in range(40):
        assert fresh.encode(text) == first
    assert vars(fresh)["fast"] is not None
