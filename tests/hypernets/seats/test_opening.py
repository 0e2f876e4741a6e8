from collections.abc import Sequence
from dataclasses import replace

import pytest
import transformers

from d2l.errors import CheckpointError
from d2l.hypernets.seats.config import SeatsConfig
from d2l.hypernets.seats.opening import chat_template, opening_text
from tests import tiny

CONFIG = tiny.make_seats_config()
WORDS = " pump valve filter pressure harbor lantern copper meadow"
FREE = CONFIG.min_seats  # seats on the head's own tokens

Turns = Sequence[dict[str, str]]


def render(turns: Turns, n_seats: int, *, ask: bool = True, config: SeatsConfig = CONFIG) -> str:
    """What transformers makes of the template and a conversation."""
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tiny.load_tokenizer())
    tokenizer.chat_template = chat_template(config, n_seats)
    return tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=ask)


def say(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


# ---- the opening's text -------------------------------------------------------------------------


@pytest.mark.parametrize("n_seats", range(FREE, CONFIG.max_seats + 1))
def test_openings_text_encodes_to_its_ids(n_seats: int) -> None:
    ids = tiny.encode(opening_text(CONFIG, n_seats))
    assert ids == list(CONFIG.opening(n_seats))
    assert len(ids) == n_seats + 1  # the sink is no seat


@pytest.mark.parametrize("words", ["pump valve", WORDS + " extra", WORDS.strip(), " pump"])
def test_words_that_are_not_one_a_token_are_refused(words: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        opening_text(replace(CONFIG, opening_words_text=words), FREE + 2)
    assert "does not hold one word for each token of opening_words" in caught.value.message


def test_a_head_that_is_no_chatml_system_turn_is_refused() -> None:
    config = replace(CONFIG, opening_head_text="[INST] <<SYS>>\nYou are kind")
    with pytest.raises(CheckpointError) as caught:
        chat_template(config, FREE)
    said = "the opening does not begin with a ChatML system turn: '[INST] <<SYS>>\\nYou are kind'"
    assert caught.value.message == said


# ---- the chat template --------------------------------------------------------------------------


def test_with_the_free_seats_only_the_prompt_is_the_bases_own() -> None:
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=tiny.load_tokenizer())
    tokenizer.chat_template = tiny.CHAT_TEMPLATE
    turns = [say("user", "How?"), say("assistant", "So."), say("user", "Why?")]
    own = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert render(turns, FREE) == own


@pytest.mark.parametrize("system", ["", "You are kind pump"])
def test_an_empty_system_message_or_the_openings_own_adds_nothing(system: str) -> None:
    question = say("user", "How?")
    with_system = render([say("system", system), question], FREE + 1)
    assert with_system == render([question], FREE + 1)


def test_white_space_and_braces_of_a_message_stay_as_they_are() -> None:
    text = "  two\n\n\tlines {{ 1 + 1 }} {% raw %} \\n ' \"  "
    assert render([say("user", text)], FREE).endswith(
        f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
    )


@pytest.mark.parametrize("sentence", ["It's \\n \\' a \"test\"", "Say {{ x }} {% y %} {# z #}"])
def test_openings_text_is_never_read_as_a_template(sentence: str) -> None:
    config = replace(CONFIG, opening_head_text=f"<|im_start|>system\n{sentence}")
    rendered = render([say("system", "")], FREE, ask=False, config=config)
    assert rendered == f"<|im_start|>system\n{sentence}<|im_end|>\n"
