"""The chat templates that d2l writes: for any base, with an instruction, known by their form."""

from pathlib import Path
from typing import Any

import pytest

from d2l.bases.chat_templates import is_own, write_template
from d2l.bases.tokenizers import BaseTokenizer
from d2l.bases.turns import TurnTexts, read_turns
from tests.bases.family_templates import TEMPLATES, write_tokenizer

Turn = dict[str, str]
WORDS = " pump valve"
INSTRUCTION = "Answer in 'a few' words.\nSay \\n so {{ 1 + 1 }} {% endfor %} {# no #} $opening."
QUESTION: Turn = {"role": "user", "content": "  Who?\n"}
TALK = [QUESTION, {"role": "assistant", "content": "It's me."}, {"role": "user", "content": "Why?"}]


def say_system(text: str) -> Turn:
    return {"role": "system", "content": text}


def open_base(tmp_path: Path, name: str) -> tuple[BaseTokenizer, TurnTexts]:
    """A family's tokenizer, and the texts of its template."""
    tokenizer = BaseTokenizer(write_tokenizer(tmp_path / "base", TEMPLATES[name], name))
    return tokenizer, read_turns(tokenizer)


def encode(tokenizer: BaseTokenizer, template: str, *turns: Turn) -> Any:
    """What transformers makes of a template and a conversation."""
    chat = tokenizer.chat
    chat.chat_template = template
    return chat.apply_chat_template(list(turns), add_generation_prompt=True, return_dict=False)


@pytest.mark.parametrize("talk", [TALK[:1], TALK], ids=["one", "several"])
@pytest.mark.parametrize("name", TEMPLATES)
def test_every_familys_prompt_has_the_opening_in_place(
    tmp_path: Path, name: str, talk: list[Turn]
) -> None:
    tokenizer, turns = open_base(tmp_path, name)
    template = write_template(turns.head + WORDS, turns, INSTRUCTION)

    def expect(told: str) -> list[int]:
        return tokenizer.encode_control(turns.lead(WORDS + told) + turns.rest(talk))

    instructed = expect(f"\n{INSTRUCTION}")
    assert encode(tokenizer, template, *talk) == instructed
    for system in ("", WORDS):  # no message, and what Ollama's SYSTEM repeats
        assert encode(tokenizer, template, say_system(system), *talk) == instructed
    assert encode(tokenizer, template, say_system("Be brief."), *talk) == expect("\nBe brief.")
    plain = write_template(turns.head + WORDS, turns)
    assert encode(tokenizer, plain, *talk) == expect("")
    assert encode(tokenizer, plain, say_system("Be brief."), *talk) == expect("\nBe brief.")


def test_an_answer_at_the_end_is_ended(tmp_path: Path) -> None:
    tokenizer, turns = open_base(tmp_path, "gemma2")
    tokenizer.chat.chat_template = write_template(turns.head + WORDS, turns)
    text = tokenizer.chat.apply_chat_template(TALK[:2], tokenize=False)
    assert text.endswith("<end_of_turn>\n<start_of_turn>model\nIt's me.<end_of_turn>\n")


@pytest.mark.parametrize("instruction", ["", INSTRUCTION])
@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_of_any_base_are_known_by_their_form(
    tmp_path: Path, name: str, instruction: str
) -> None:
    _, turns = open_base(tmp_path, name)
    opening = turns.head + WORDS
    template = write_template(opening, turns, instruction)
    assert is_own(template, opening)
    assert not is_own(template, opening + " filter")
    assert not is_own(template, None)
    assert not is_own({"default": template}, opening)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("for message in turns", "for message in turns * 9"),
        ("pump valve'", "pump valve' * 9"),
        ("pump valve'", "pump valve\\'"),
        ("{{- 'Be brief.' -}}\n", "{{- 'Be brief.' -}}{{- 'Be brief.' -}}\n"),
        ("'<|im_end|>\\n' -}}\n{%- elif", "'<|im_end|>' + bos_token -}}\n{%- elif"),
        ("\\n' -}}{%- endif -%}\n", "\\n' -}}{%- endif -%}\n{{ 1 }}"),
    ],
)
def test_a_changed_template_is_a_strangers(tmp_path: Path, old: str, new: str) -> None:
    _, turns = open_base(tmp_path, "qwen2")
    template = write_template(turns.head + WORDS, turns, "Be brief.").replace("\\nBe", "Be")
    assert is_own(template, turns.head + WORDS)
    changed = template.replace(old, new)
    assert changed != template
    assert not is_own(changed, turns.head + WORDS)


def test_texts_that_every_turn_repeats_may_not_be_long(tmp_path: Path) -> None:
    _, turns = open_base(tmp_path, "qwen2")
    opening = turns.head + WORDS * 9000
    assert is_own(write_template(opening, turns), opening)
    template = write_template(turns.head + WORDS, turns).replace("assistant\\n", "a" * 21_000)
    assert not is_own(template, turns.head + WORDS)
