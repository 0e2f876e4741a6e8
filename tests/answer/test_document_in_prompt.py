"""The document in the prompt of the base alone: whole or cut."""

import shutil
from pathlib import Path

import pytest

from d2l.answer.chat_prompts import fit_document
from tests import tiny
from tests.compiled import Compile, generate, write_prompt
from tests.loaded import N_TOKENS, QUESTION, WINDOW, change_json, load, record_prompts

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_document_that_fits_stands_whole_before_the_question(compiled: Compile) -> None:
    done = compiled("qwen3")
    asker = load(done)
    prompts = record_prompts(asker)
    answer, left_out = asker.ask_with_document(QUESTION, tiny.DOCUMENT)
    prompt = write_prompt(f"{tiny.DOCUMENT}\n\n{QUESTION}")
    assert prompts == [tiny.encode(prompt)]
    assert left_out == 0
    assert answer == generate(tiny.make_causal("qwen3"), prompt, N_TOKENS)


@pytest.mark.parametrize(
    ("text", "max_tokens"),
    [(tiny.DOCUMENT, 1), ("🏔☃é", 300), ("1234567890", N_TOKENS), ("\n \n\t", N_TOKENS)],
)
def test_a_longer_document_is_cut_at_its_end_to_fill_the_window(
    text: str, max_tokens: int, compiled: Compile, capfd: pytest.CaptureFixture[str]
) -> None:
    document = text * 200
    asker = load(compiled("llama"), max_new_tokens=max_tokens)
    prompts = record_prompts(asker)
    _, left_out = asker.ask_with_document(QUESTION, document)
    (ids,) = prompts
    room = WINDOW - max_tokens
    assert room - 12 <= len(ids) <= room  # no character is cut in two, and the cut may join tokens
    shown = tiny.load_tokenizer().decode(ids, skip_special_tokens=False)
    before, after = write_prompt("@").split("@")
    kept = shown.removeprefix(before).removesuffix(f"\n\n{QUESTION}{after}")
    assert len(kept) < len(shown) - len(before)
    assert document.startswith(kept)
    n_tokens = len(tiny.encode(document))
    assert left_out == pytest.approx(n_tokens - len(tiny.encode(kept)), abs=2)
    assert capfd.readouterr().err == ""  # transformers would warn of the long text


def test_without_any_room_the_question_is_asked_alone(compiled: Compile) -> None:
    asker = load(compiled("llama"), max_new_tokens=WINDOW - 10)
    prompts = record_prompts(asker)
    _, left_out = asker.ask_with_document(QUESTION, tiny.DOCUMENT)
    assert prompts == [tiny.encode(write_prompt(f"\n\n{QUESTION}"))]
    assert left_out == len(tiny.encode(tiny.DOCUMENT))


@pytest.mark.parametrize(("window", "kept"), [(99, "abcdef"), (10, "abcdef"), (7, "abc"), (2, "")])
def test_a_document_is_cut_at_its_end_until_the_prompt_fits(window: int, kept: str) -> None:
    def render(document: str) -> list[int]:
        return [1, 2, *map(ord, document), 3, 4]  # a token a character

    prompt, left_out = fit_document("abcdef", range(6), render, window=window)
    assert prompt == render(kept)
    assert left_out == 6 - len(kept)


def test_an_answer_ends_where_the_bases_template_does(compiled: Compile, tmp_path: Path) -> None:
    done = compiled("llama")
    assert load(done).end_token() == tiny.CONTROL.index("<|im_end|>")
    base = shutil.copytree(done.base, tmp_path / "llama-tiny")
    other = tiny.CHAT_TEMPLATE.replace("<|im_end|>' + '\n'", "<end_of_turn>\n'")
    change_json(base / "tokenizer_config.json", chat_template=other)
    assert load(done, base=str(base)).end_token() == tiny.CONTROL.index("<end_of_turn>")
    bare = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    change_json(base / "tokenizer_config.json", chat_template=bare, eos_token="</s>")
    assert load(done, base=str(base)).end_token() == tiny.CONTROL.index("</s>")
