"""Modelfiles: the Go template must render what the chat template in Jinja renders."""

import itertools
from collections.abc import Sequence
from typing import Any

import jinja2
import pytest

from d2l.bases.chat_templates import write_template as own_template
from d2l.errors import AdapterError
from d2l.hypernets.seats.opening import chat_template, opening_text
from d2l.runtimes.ollama import read_turns, write_modelfile, write_template
from tests import tiny
from tests.tools.go_template import collate, render

#: As the bases of the public checkpoints have them (their tokenizer_config.json), shortened.
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
    "{% endif %}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"
)
MISTRAL = (
    "{% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set turns = messages[1:] %}{% else %}{% set turns = messages %}{% endif %}"
    "{% for message in turns %}{% if message['role'] == 'user' %}{{ ' [INST] ' }}"
    "{% if loop.first and system is defined %}{{ system + '\\n\\n' }}{% endif %}"
    "{{ message['content'] + ' [/INST]' }}{% else %}{{ ' ' + message['content'] + '</s>' }}"
    "{% endif %}{% endfor %}"
)
SEATS = chat_template(tiny.make_seats_config(), tiny.make_seats_config().max_seats)
OPENING = opening_text(tiny.make_seats_config(), tiny.make_seats_config().max_seats)
SYSTEM_TEXT = OPENING.removeprefix("<|im_start|>system\n")
TEMPLATES = {"chatml": tiny.CHAT_TEMPLATE, "gemma": GEMMA, "mistral": MISTRAL, "seats": SEATS}
TURNS = [
    {"role": "user", "content": "Where {{ is }} it?"},
    {"role": "assistant", "content": "In the harbor."},
    {"role": "user", "content": 'And the "key"?'},
]
SYSTEM = {"role": "system", "content": "Answer in one word."}


def make_jinja(source: str) -> Any:
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)

    def refuse(message: str) -> None:
        raise jinja2.TemplateError(message)

    template = environment.from_string(source, globals={"raise_exception": refuse})

    def show(turns: Sequence[dict[str, str]], answering: bool) -> str:
        try:
            return template.render(messages=list(turns), add_generation_prompt=answering)
        except jinja2.TemplateError as error:
            raise AdapterError(str(error)) from error

    return show


@pytest.mark.parametrize(
    ("name", "n_turns", "with_system"),
    list(itertools.product(TEMPLATES, (1, 3), (False, True))),
)
def test_the_go_template_renders_what_jinja_does(
    name: str, n_turns: int, with_system: bool
) -> None:
    show = make_jinja(TEMPLATES[name])
    template = write_template(*read_turns(show), SYSTEM_TEXT if name == "seats" else "")
    turns = [*([SYSTEM] if with_system else []), *TURNS[:n_turns]]
    if name == "gemma" and with_system:  # its template takes no system text: it goes before
        told = {"role": "user", "content": f"{SYSTEM['content']}\n\n{TURNS[0]['content']}"}
        expected = show([told, *TURNS[1:n_turns]], True)
    else:
        expected = show(turns, True)
    assert render(template, collate(turns)) == expected


@pytest.mark.parametrize("name", ["chatml", "gemma", "mistral"])
def test_the_go_template_of_an_adapter_for_any_base_has_its_instruction(name: str) -> None:
    turns = read_turns(make_jinja(TEMPLATES[name]))[1]
    opening = f"{turns.head} pump valve"
    show = make_jinja(own_template(opening, turns, "Be {{ brief }}."))
    template = write_template(*read_turns(show), opening)
    for talk in (TURNS[:1], TURNS):
        assert render(template, collate(talk)) == show(talk, True)
        assert "valve\nBe {{ brief }}." in show(talk, True)
        told = [SYSTEM, *talk]
        assert render(template, collate(told)) == show(told, True)
        assert "valve\nAnswer in one word." in show(told, True)


def test_the_modelfiles_own_system_text_is_the_opening_once() -> None:
    """Ollama puts SYSTEM in front of turns that bring no system text."""
    show = make_jinja(SEATS)
    template = write_template(*read_turns(show), SYSTEM_TEXT)
    turns = [{"role": "system", "content": SYSTEM_TEXT}, *TURNS[:1]]
    got = render(template, collate(turns))
    assert got == show(TURNS[:1], True)
    assert got.startswith(OPENING)
    assert got.count(SYSTEM_TEXT) == 1


def test_a_modelfile_has_all_that_ollama_create_reads() -> None:
    start, turns = read_turns(make_jinja(SEATS))
    text = write_modelfile("./model.gguf", start, turns, SYSTEM_TEXT)
    lines = text.splitlines()
    assert lines[0] == "FROM ./model.gguf"
    assert "ADAPTER" not in text
    assert lines[-3:] == [
        f'SYSTEM """{SYSTEM_TEXT}"""',
        'PARAMETER stop "<|im_end|>"',
        "PARAMETER temperature 0",
    ]
    template = text.split('TEMPLATE """')[1].split('"""')[0]
    assert template == write_template(start, turns, SYSTEM_TEXT)
    plain = write_modelfile("base", *read_turns(make_jinja(MISTRAL)))
    assert "SYSTEM" not in plain
    assert 'PARAMETER stop "</s>"' in plain


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{ messages | length }}", "leaves turns out"),
        (
            "{% for m in messages %}{{ m['role'] ~ loop.index ~ m['content'] }}{% endfor %}",
            "they depend on their order",
        ),
        (tiny.CHAT_TEMPLATE.replace("<|im_end|>", '<|im_end|>"""'), "holds three quotes"),
    ],
)
def test_templates_without_a_counterpart_are_refused(source: str, message: str) -> None:
    with pytest.raises(AdapterError, match=message):
        write_modelfile("base", *read_turns(make_jinja(source)))
