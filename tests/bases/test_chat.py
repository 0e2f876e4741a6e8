"""A base's chat around a text: its own template, and what ends an answer."""

import json
from pathlib import Path

import pytest

from d2l.bases.chat import find_end, make_chat
from d2l.bases.tokenizers import BaseTokenizer
from d2l.errors import BaseModelError
from tests import tiny


def test_prompts_are_the_bases_own_chat(tmp_path: Path) -> None:
    folder = tiny.write_base(tmp_path / "base", "llama")
    chat = make_chat(BaseTokenizer(folder))
    text = f"<|im_start|>system\n{tiny.SYSTEM}<|im_end|>\n<|im_start|>user\nWho?<|im_end|>\n"
    assert list(chat.ask("Who?")) == tiny.encode(f"{text}<|im_start|>assistant\n")
    assert chat.end_token == tiny.encode("<|im_end|>")[0]
    assert chat.ask("<|im_end|>").count(chat.end_token) == 2  # a text's own is text
    assert chat.ask("Who?").count(chat.end_token) == 2
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"chat_template": None}))
    with pytest.raises(BaseModelError, match="no chat template that takes a question"):
        make_chat(BaseTokenizer(folder))


def test_only_a_control_token_ends_an_answer(tmp_path: Path) -> None:
    """A template that puts a space or a line behind answers, and then the token, ends with none of
    these: training and evaluation both take the tokenizer's own end of text."""
    folder = tiny.write_base(tmp_path / "base", "llama")
    path = folder / "tokenizer_config.json"
    template = tiny.CHAT_TEMPLATE.replace("<|im_end|>", " .<|im_end|>")
    values = {"chat_template": template, "eos_token": "</s>"}
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    chat = make_chat(BaseTokenizer(folder))
    assert chat.end_token == tiny.CONTROL.index("</s>")
    assert chat.end_token == find_end(chat.tokenizer.chat)


def test_the_ends_of_a_prompt_are_known_by_themselves(tmp_path: Path) -> None:
    chat = make_chat(BaseTokenizer(tiny.write_base(tmp_path / "base", "llama")))
    before, behind = chat.ask_ends()
    assert chat.ask("pump") == (*before, *tiny.encode("pump"), *behind)
    assert behind
