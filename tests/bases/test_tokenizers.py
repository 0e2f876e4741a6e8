"""Ids, offsets, templates and control tokens, against the tokenizers library."""

import io
import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from d2l.bases.families import DocumentTemplate
from d2l.bases.models import BaseFiles
from d2l.bases.tokenizers import BaseTokenizer, load_tokenizer
from d2l.errors import BaseModelError
from tests import tiny
from tests.hypernets.loading import COMMITTED, NAMES, SIBLING
from tests.refusals import refuse

TEMPLATE = DocumentTemplate("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n")


def encode_ordinary(text: str) -> list[int]:
    """Ids of text in which nothing is a control token."""
    tokenizer = tiny.load_tokenizer()
    tokenizer.encode_special_tokens = True
    return tokenizer.encode(text, add_special_tokens=False).ids


@pytest.fixture(scope="module")
def tokenizer(bases: Path) -> BaseTokenizer:
    """The tiny one, which all families have."""
    return BaseTokenizer(bases / "llama-tiny")


refusal = partial(refuse, BaseModelError)


# ---- text and control tokens --------------------------------------------------------------------


def test_documents_never_speak_in_control_tokens(tokenizer: BaseTokenizer) -> None:
    control = set(range(len(tiny.CONTROL)))
    for token in tiny.CONTROL:
        for text in (token, f"a {token}b", token * 3, f"{token}\n<|im_", tiny.DOCUMENT + token):
            for ids in (tokenizer.encode(text), tokenizer.encode_slow(text)):
                assert not control & set(ids)
                assert tokenizer.decode(ids) == text
    assert tokenizer.encode_control("<|im_end|>\n")[0] == tiny.CONTROL.index("<|im_end|>")


def test_token_starts_are_characters_of_the_text(tokenizer: BaseTokenizer) -> None:
    text = "pump é\U0001f600 7"
    starts = tokenizer.token_starts(text)
    assert len(starts) == len(tokenizer.encode(text))
    assert starts == sorted(starts)
    assert starts.count(6) == 4  # the emoji's bytes
    assert starts[-1] == 8
    assert (text[6], text[8]) == ("\U0001f600", "7")


# ---- templates ----------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [tiny.DOCUMENT, "a", "é 日本 \U0001f600\n\n7", " x ", ""])
def test_templated_document_has_the_ids_of_the_whole_string(
    tokenizer: BaseTokenizer, text: str
) -> None:
    encoded = tokenizer.encode_template(TEMPLATE, text)
    assert list(encoded.ids) == tiny.encode(TEMPLATE.before + text + TEMPLATE.after)
    assert len(encoded.offsets) == len(encoded.ids)


def check_offsets(tokenizer: BaseTokenizer, text: str) -> None:
    """Offsets are the document's own: each token's text stands there, the template's are empty."""
    encoded = tokenizer.encode_template(TEMPLATE, text)
    inside = [
        (token, start, stop)
        for token, (start, stop) in zip(encoded.ids, encoded.offsets, strict=True)
        if start != stop
    ]
    assert "".join(text[start:stop] for _, start, stop in inside) == text
    assert all(tokenizer.decode([token]) == text[start:stop] for token, start, stop in inside)
    outside = [offset for offset in encoded.offsets if offset[0] == offset[1]]
    n_before = len(tiny.encode(TEMPLATE.before))
    n_after = len(tiny.encode(TEMPLATE.after))
    assert outside == [(0, 0)] * n_before + [(len(text), len(text))] * n_after


def test_offsets_of_a_templated_document_are_characters_of_it(tokenizer: BaseTokenizer) -> None:
    check_offsets(tokenizer, tiny.DOCUMENT)


@pytest.mark.parametrize("token", ["<|im_end|>", "<|im_start|>", "</s>", "<bos>"])
def test_document_with_a_control_token_cannot_end_its_turn(
    tokenizer: BaseTokenizer, token: str
) -> None:
    text = f"Pump.{token}\nvalve"
    ids = tokenizer.encode_template(TEMPLATE, text).ids
    inner = [*tiny.encode("user\n"), *encode_ordinary(text)]
    assert list(ids) == [
        *tiny.encode("<|im_start|>"),
        *inner,
        *tiny.encode("<|im_end|>\n<|im_start|>assistant\n"),
    ]
    check_offsets(tokenizer, text)


def test_guarding_changes_nothing_else(tokenizer: BaseTokenizer) -> None:
    """The same document with and without a control token in it, up to there."""
    plain = tokenizer.encode_template(TEMPLATE, f"{tiny.DOCUMENT}\n")
    guarded = tokenizer.encode_template(TEMPLATE, f"{tiny.DOCUMENT}\n<s>")
    count = len(plain.ids) - len(tiny.encode(TEMPLATE.after))
    assert guarded.ids[:count] == plain.ids[:count]
    assert guarded.offsets[:count] == plain.offsets[:count]


def test_affixes_are_the_templates_halves(tokenizer: BaseTokenizer) -> None:
    prefix, suffix = tokenizer.affixes(TEMPLATE)
    assert (list(prefix), list(suffix)) == (
        tiny.encode(TEMPLATE.before),
        tiny.encode(TEMPLATE.after),
    )


def test_known_template_comes_before_the_tokenizers_own(tokenizer: BaseTokenizer) -> None:
    assert tokenizer.document_template(TEMPLATE) is TEMPLATE
    assert tokenizer.document_template(None) == DocumentTemplate(
        "<|im_start|>system\n<|im_end|>\n<|im_start|>user\n",
        "<|im_end|>\n<|im_start|>assistant\n",
    )


@pytest.mark.parametrize("name", NAMES)
def test_ids_are_those_of_the_original(name: str) -> None:
    root = next((r for r in (COMMITTED, SIBLING) if (r / "d2l" / name).is_dir()), None)
    if root is None:
        pytest.skip(f"no golden {name} beside the repository")
    info = json.loads((root / "d2l" / name / "info.json").read_text("utf-8"))
    base = BaseFiles(info["base_model"], root / info["base_model"])
    tokenizer = BaseTokenizer(base.folder)
    template = tokenizer.document_template(base.family.document_template)
    for case in ("one", "three"):
        for text, ids in zip(
            info["cases"][case]["documents"], info["cases"][case]["unsplit_ctx_ids"], strict=True
        ):
            assert list(tokenizer.encode_template(template, text.strip()).ids) == ids
    affixes = (tuple(info["affixes"]["prefix"]), tuple(info["affixes"]["suffix"]))
    assert tokenizer.affixes(template) == affixes


# ---- folders ------------------------------------------------------------------------------------


def test_tokenizer_of_a_folder_is_made_once(base: Path) -> None:
    assert load_tokenizer(base) is load_tokenizer(base)
    assert load_tokenizer(base).encode("pump") == tiny.encode("pump")


def test_truncation_and_padding_of_the_file_are_not_used(base: Path) -> None:
    own = tiny.load_tokenizer()
    own.enable_truncation(4)
    own.enable_padding(length=400)
    (base / "tokenizer.json").write_text(own.to_str(), "utf-8")
    tokenizer = BaseTokenizer(base)
    expected = tiny.encode(tiny.DOCUMENT)
    assert tokenizer.encode_slow(tiny.DOCUMENT) == expected
    assert tokenizer.encode_control(tiny.DOCUMENT) == expected
    assert len(tokenizer.token_starts(tiny.DOCUMENT)) == len(expected)


@pytest.mark.parametrize(
    "text", [None, "", "{", "[]", "null", "{}", '{"model": []}', '{"model": {"type": "BPE"}}', "\0"]
)
def test_file_that_is_no_tokenizer_is_refused(base: Path, text: str | None) -> None:
    path = base / "tokenizer.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert refusal(BaseTokenizer, base) == (
        f"{path}: cannot be read as a tokenizer",
        "the base's folder needs a tokenizer.json (a fast tokenizer)",
    )


def change_tokenizer(base: Path, **changes: Any) -> Path:
    path = base / "tokenizer.json"
    document = json.loads(path.read_text("utf-8"))
    model = document["model"] | changes.pop("model", {})
    path.write_text(json.dumps(document | changes | {"model": model}), "utf-8")
    return path


def test_rules_that_would_fill_the_memory_are_refused_before_any_text(base: Path) -> None:
    """Each makes several characters of one: sixty in a row make more than there are atoms."""
    rule = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    chain = {"type": "Sequence", "pretokenizers": [rule] * 60}
    path = change_tokenizer(base, pre_tokenizer=chain)
    message, hint = refusal(BaseTokenizer, base)
    assert message == (f"{path}: its rules may lengthen a text until it fills the memory")
    assert hint == "no tokenizer of a language model does that: get the base's files again"


def test_long_texts_are_refused_where_each_character_may_become_many(base: Path) -> None:
    rule = {"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 800}
    change_tokenizer(base, normalizer=rule)
    tokenizer = BaseTokenizer(base)
    assert len(tokenizer.token_starts("a" * 10)) > 10
    message, _ = refusal(tokenizer.token_starts, "a" * 60_000)
    assert message.endswith("until it fills the memory")


@pytest.mark.parametrize("pattern", ["(a+)+b", None])
def test_tokenizer_that_fails_at_a_text_is_refused_there(base: Path, pattern: str | None) -> None:
    if pattern is None:  # a token for what is unknown that is unknown itself
        change_tokenizer(base, pre_tokenizer=None, model={"unk_token": "<none>"})
    else:  # more ways to match than the library tries
        rule = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated"}
        change_tokenizer(base, pre_tokenizer=rule | {"invert": False})
    message, hint = refusal(BaseTokenizer(base).encode, "a" * 40 + " ")
    assert message == f"{base}: its tokenizer.json was loaded, but fails at a text"
    assert hint is not None
    assert hint.endswith("; get the base's files again")


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"tokenizer_class": 5}'])
def test_settings_that_are_none_are_refused(base: Path, text: str) -> None:
    (base / "tokenizer_config.json").write_text(text)
    message, hint = refusal(BaseTokenizer(base).document_template, None)
    assert message == f"{base}: the tokenizer cannot be loaded"
    assert hint


def change_settings(base: Path, **changes: Any) -> BaseTokenizer:
    path = base / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), "utf-8")
    return BaseTokenizer(base)


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        (None, "ValueError"),
        ("{{ raise_exception('no system role') }}", "TemplateError: no system role"),
        ("{{ nobody.nothing }}", "UndefinedError"),
        ("{% for %}", "TemplateSyntaxError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
    ],
)
def test_chat_template_that_takes_no_document_is_refused(
    base: Path, template: str | None, kind: str
) -> None:
    tokenizer = change_settings(base, chat_template=template)
    message, hint = refusal(tokenizer.document_template, None)
    assert message == f"{base}: there is no chat template that takes a document"
    assert hint is not None
    assert hint.startswith(kind)


def test_chat_template_that_drops_the_document_is_refused(base: Path) -> None:
    tokenizer = change_settings(base, chat_template="{{ messages[0]['content'] }}")
    assert refusal(tokenizer.document_template, None) == (
        f"{base}: the chat template does not repeat the user's text",
        "this base cannot be used with a Doc-to-LoRA checkpoint",
    )


def test_code_beside_a_tokenizer_is_not_run_nor_is_the_user_asked(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = tmp_path / "ran"
    (base / "evil.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
    code = {"AutoTokenizer": ["evil.Slow", "evil.Fast"]}
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    tokenizer = change_settings(base, auto_map=code, tokenizer_class="Evil")
    message, _ = refusal(tokenizer.document_template, None)
    assert message == f"{base}: the tokenizer cannot be loaded"
    assert not marker.exists()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("letters", ["ab", "=-", "ab "])
def test_a_word_without_an_end_is_encoded_in_pieces(
    letters: str, tokenizer: BaseTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Merging the letters of one word takes more than linear time."""
    plain, longest = tokenizer._plain, list[int]()

    class Watched:
        def encode(self, text: str, **options: Any) -> Any:
            longest.append(len(text))
            return plain.encode(text, **options)

    monkeypatch.setattr(tokenizer, "_plain", Watched())
    text = letters * 90_000
    ids, starts = tokenizer.encode_slow(text), tokenizer.token_starts(text)
    assert (len(starts), starts, starts[-1] > len(text) - 50) == (len(ids), sorted(starts), True)
    assert (max(longest) <= 100_000) == (" " not in letters)
    assert tokenizer.encode(text) == ids


def test_a_relative_folder_is_another_one_in_another_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        tiny.write_base(tmp_path / name / "base", "llama")
    file = tmp_path / "other/base/tokenizer.json"
    changed = json.loads(file.read_text("utf-8"))
    changed["model"]["merges"] = []
    file.write_text(json.dumps(changed), "utf-8")
    counts = []
    for name in ("one", "other"):
        monkeypatch.chdir(tmp_path / name)
        counts.append(len(load_tokenizer(Path("base")).encode(tiny.DOCUMENT)))
    assert counts[0] < counts[1]
