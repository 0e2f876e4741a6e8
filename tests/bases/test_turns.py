"""The texts around the turns of a base's chat template, for every family's form."""

from pathlib import Path

import pytest

from d2l.bases.tokenizers import BaseTokenizer
from d2l.bases.turns import TurnTexts, read_turns
from d2l.errors import BaseModelError
from tests.bases.family_templates import QWEN2, TEMPLATES, write_tokenizer
from tests.refusals import refuse

QUESTION = {"role": "user", "content": "Who?"}
TALK = [QUESTION, {"role": "assistant", "content": "Me."}, {"role": "user", "content": "Why?"}]
THOUGHT = "<think>\n\n</think>\n\n"
CHATML = TurnTexts(
    head="<|im_start|>system\n",
    behind_system="<|im_end|>\n<|im_start|>user\n",
    question_start="<|im_start|>user\n",
    question_end="<|im_end|>\n",
    answer_start="<|im_start|>assistant\n",
    past_start="<|im_start|>assistant\n",
    answer_end="<|im_end|>\n",
)


def read(tmp_path: Path, name: str) -> tuple[BaseTokenizer, TurnTexts]:
    """The tokenizer with a family's template, and the texts of it."""
    tokenizer = BaseTokenizer(write_tokenizer(tmp_path / "base", TEMPLATES[name], name))
    return tokenizer, read_turns(tokenizer)


def test_chatml_has_its_system_turn(tmp_path: Path) -> None:
    assert read(tmp_path, "qwen2")[1] == CHATML


def test_an_empty_thought_is_where_an_answer_is_asked_for(tmp_path: Path) -> None:
    _, turns = read(tmp_path, "qwen3")
    assert turns.before_answer == f"<|im_end|>\n<|im_start|>assistant\n{THOUGHT}"
    assert turns.after_answer == "<|im_end|>\n<|im_start|>user\n"
    assert turns.rest(TALK).count(THOUGHT) == 1


def test_the_head_is_the_same_on_every_day(tmp_path: Path) -> None:
    tokenizer, turns = read(tmp_path, "llama")
    assert turns.head == "<bos>[system]\n\nToday Date: 26 Jul 2024\n\n"
    assert turns.behind_system == "[end][user]\n\n"
    today = tokenizer.chat.apply_chat_template([QUESTION], tokenize=False)
    assert turns.head not in today


@pytest.mark.parametrize(
    ("name", "head", "end"),
    [
        ("gemma2", "<bos><start_of_turn>user\n", "<end_of_turn>\n<start_of_turn>model\n"),
        ("mistral", "<s>[INST] ", " [/INST]"),
        ("mistral, moved", "<s>[INST] ", "[/INST]"),
        ("mistral, first", "<s>[INST] ", "[/INST]"),
        ("dropped", "<|im_start|>user\n", f"<|im_end|>\n<|im_start|>assistant\n{THOUGHT}"),
    ],
)
def test_a_system_text_begins_the_first_question_else(
    tmp_path: Path, name: str, head: str, end: str
) -> None:
    _, turns = read(tmp_path, name)
    assert (turns.head, turns.behind_system, turns.before_answer) == (head, "\n\n", end)
    assert turns.lead("Be brief.") + turns.rest([QUESTION]) == f"{head}Be brief.\n\nWho?{end}"


@pytest.mark.parametrize("name", TEMPLATES)
def test_prompts_are_those_of_the_template(tmp_path: Path, name: str) -> None:
    tokenizer, turns = read(tmp_path, name)
    told = {"role": "system", "content": "Be brief."}
    first = {"role": "user", "content": "Be brief.\n\nWho?"}
    settings = {"date_string": "26 Jul 2024", "enable_thinking": False}

    def render(*messages: dict[str, str]) -> str:
        chat = tokenizer.chat
        text = chat.apply_chat_template(
            list(messages), tokenize=False, add_generation_prompt=True, **settings
        )
        assert isinstance(text, str)
        return text

    for talk in (TALK[:1], TALK):
        own_turn = turns.behind_system != "\n\n"
        expected = render(told, *talk) if own_turn else render(first, *talk[1:])
        assert turns.lead("Be brief.") + turns.rest(talk) == expected
        assert render(*talk).endswith(turns.rest(talk))


def test_a_base_that_cannot_chat_is_refused(tmp_path: Path) -> None:
    folder = write_tokenizer(tmp_path / "base", None)
    assert refuse(BaseModelError, read_turns, BaseTokenizer(folder)) == (
        f"{folder}: has no chat template, so it cannot be asked",
        "name the base's instruction-tuned version with --base",
    )


@pytest.mark.parametrize(
    "template",
    [
        QWEN2.replace("m.content", "loop.index|string + m.content"),  # turns are counted
        QWEN2.replace("for m in messages if", "for m in messages[-1:] if"),  # only the last is kept
        QWEN2.replace("m.content +", "m.content[1:] +"),
    ],
)
def test_turns_that_depend_on_their_place_are_refused(tmp_path: Path, template: str) -> None:
    folder = write_tokenizer(tmp_path / "base", template)
    assert refuse(BaseModelError, read_turns, BaseTokenizer(folder)) == (
        f"{folder}: the chat template does not write every turn in the same way",
        "name another base of the same family with --base",
    )
