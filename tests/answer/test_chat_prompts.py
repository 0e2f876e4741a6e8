"""Prompts of adapters: d2l's own template starts no child, a stranger's is rendered in one."""

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from d2l.adapters.info import read_info
from d2l.answer import chat_prompts
from d2l.answer.chat_prompts import ChatPrompts, TokenizerFolder, find_chat, user_turn
from d2l.errors import D2LError, OptionError
from tests.compiled import Compile

TURNS = [{"role": "user", "content": "A question? <b> é"}]


@pytest.fixture
def adapter(compiled: Compile, tmp_path: Path) -> Path:
    return shutil.copytree(compiled("seats").adapter, tmp_path / "copy.lora")


@pytest.fixture
def find(compiled: Compile) -> Callable[[Path], ChatPrompts]:
    base = compiled("seats").base
    return lambda folder: find_chat(read_info(folder), TokenizerFolder(base))


def refuse(act: Callable[[], object]) -> str:
    with pytest.raises(D2LError) as caught:
        act()
    assert "\n" not in caught.value.message
    return caught.value.message


def test_the_template_that_d2l_wrote_starts_no_child(
    adapter: Path, find: Callable[[Path], ChatPrompts], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a child was started")

    monkeypatch.setattr("d2l.bases.chat_templates.ask_child", fail)
    assert find(adapter).encode(TURNS)


def test_a_strangers_template_gives_what_transformers_gives(
    adapter: Path, find: Callable[[Path], ChatPrompts]
) -> None:
    template = (
        "{{ bos_token }}{% for m in messages -%}\n  {% generation %}{{ m | tojson }}"
        "{% endgeneration %}{% if loop.first %}{% continue %}{% endif %}x\n{% endfor %}"
        "{% if add_generation_prompt %}{{ eos_token }}go{% endif %}{{ strftime_now('%%') }}"
    )
    (adapter / "chat_template.jinja").write_text(template)
    chat = find(adapter)
    assert chat.apart
    expected = chat.tokenizer.apply_chat_template(
        TURNS, add_generation_prompt=True, return_dict=False
    )
    assert chat.encode(TURNS) == list(expected)


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{% if %}", "TemplateSyntaxError: Expected an expression"),
        ("{{ 1 / 0 }}", "ZeroDivisionError: division by zero"),
        ("{{ '%09999999999d' % 1 }}", "it uses more than 1 GB of memory"),
        ("{{ raise_exception('no\n\x1b[2J') }}", r"TemplateError: no \x1b[2J"),
    ],
)
def test_what_a_template_raises_is_one_line(
    template: str, says: str, adapter: Path, find: Callable[[Path], ChatPrompts]
) -> None:
    path = adapter / "chat_template.jinja"
    path.write_text(template)
    message = refuse(lambda: find(adapter).encode(TURNS))
    assert message.startswith(f"{path}: the chat template cannot be used ({says}")


def test_a_tokenizer_that_panics_is_one_line(
    adapter: Path, find: Callable[[Path], ChatPrompts], capfd: pytest.CaptureFixture[str]
) -> None:
    """Its pattern takes more tries than the matcher has: that is no Exception in Python."""
    path = adapter / "tokenizer.json"
    values = json.loads(path.read_text("utf-8"))
    pattern = {"type": "Split", "pattern": {"Regex": "(?=(a+)+$)(a|a)*!"}, "invert": False}
    values["pre_tokenizer"] = pattern | {"behavior": "Isolated"}
    path.write_text(json.dumps(values), "utf-8")
    chat = find(adapter)
    turns = [{"role": "user", "content": "a" * 60 + "?"}]
    message = refuse(lambda: chat.encode(turns))
    assert "chat_template.jinja: the chat template cannot be used (" in message
    assert capfd.readouterr().err == ""


def test_a_panic_is_an_error_to_who_catches_those() -> None:
    class PanicException(BaseException):
        pass

    with pytest.raises(RuntimeError, match="gave up: at the disco"), (
        chat_prompts.panics_as_errors()
    ):  # fmt: skip
        raise PanicException("at the disco")
    with pytest.raises(KeyboardInterrupt), chat_prompts.panics_as_errors():
        raise KeyboardInterrupt


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("value", [[], {"model": {"type": "BPE"}}, {"a": 10**400}, 3])
def test_a_tokenizer_of_another_kind_is_one_line_or_taken(
    name: str, value: Any, adapter: Path, find: Callable[[Path], ChatPrompts]
) -> None:
    (adapter / name).write_text(json.dumps(value))
    with contextlib.suppress(D2LError):
        assert find(adapter).encode(TURNS)


@pytest.mark.parametrize("question", [["Who?", "Where?"], 42, None, "", " \n"])
def test_a_question_is_a_text(question: object) -> None:
    with pytest.raises(OptionError, match="the question is "):
        user_turn(question)  # type: ignore[arg-type]
