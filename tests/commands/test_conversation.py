"""A conversation on a terminal, while somebody types."""

import sys
from pathlib import Path

import pytest

from d2l.files.printable import printable
from tests import tiny
from tests.asking import N_TOKENS, QUESTIONS, ask, expect, one_line
from tests.command import Command, Outcome
from tests.compiled import Compile, Compiled, compile_tiny, generate, make_dense, write_prompt

pytestmark = pytest.mark.usefixtures("one_thread")


def talk(command: Command, done: Compiled, monkeypatch: pytest.MonkeyPatch, *lines: str) -> Outcome:
    """`d2l ask` without a question while somebody types these lines, then Ctrl-D."""
    waiting = iter(lines)

    def type_line(prompt: str) -> str:
        sys.stdout.write(prompt)
        try:
            return next(waiting)
        except StopIteration:
            raise EOFError from None

    monkeypatch.setattr("builtins.input", type_line)
    monkeypatch.setattr("d2l.commands.ask._is_terminal", lambda: True)
    return ask(command, done)


def test_on_a_terminal_questions_are_asked_in_turn(
    command: Command, compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compiled("seats")
    outcome = talk(command, done, monkeypatch, QUESTIONS[0], "", QUESTIONS[1], "And why?")
    first = expect("seats", done, QUESTIONS[0])["adapter"]
    second = expect("seats", done, QUESTIONS[1])["adapter"]  # it stands alone
    words = "".join(f" {word}" for word in tiny.WORDS)
    turns = write_prompt(QUESTIONS[1], tiny.SYSTEM + words) + second + "<|im_end|>\n"
    prompt = turns + write_prompt("And why?", "").partition("<|im_end|>\n")[2]
    third = generate(make_dense("seats", done.adapter), prompt, N_TOKENS)
    shown = [" ".join(part.split()) for part in outcome.out.split("> ")]
    assert shown == [
        "",
        one_line(first),
        "",
        *(printable(one_line(text)) for text in (second, third)),
        "",
    ]
    assert outcome.code == 0
    assert outcome.err.startswith("ask away; /help lists what else there is\n")


def test_commands_of_a_conversation(
    command: Command, compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compiled("llama")
    wanted = expect("llama", done, QUESTIONS[0])
    lines = ("/compare", "/what", "/help", QUESTIONS[0], "/compare", "/new", QUESTIONS[0], "/quit")
    outcome = talk(command, done, monkeypatch, *lines, "never reached")
    parts = [" ".join(part.split()) for part in outcome.out.split("> ")]
    answer, base = one_line(wanted["adapter"]), one_line(wanted["base"])
    assert parts[:3] == ["", "", ""]
    assert parts[3].startswith("/compare the last question")
    assert parts[4:] == [answer, f"adapter {answer} base alone {base}", "", answer, ""]
    assert "error: there is no question to compare\n" in outcome.err
    assert "error: /what: no such command\nhint: /help lists what there is\n" in outcome.err
    assert outcome.code == 0


def test_ctrl_c_stops_an_answer_and_not_the_conversation(
    command: Command, compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compiled("llama")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("d2l.answer.model.AdaptedModel.answer", interrupt)
        outcome = talk(command, done, patch, QUESTIONS[0], "/help")
    assert outcome.code == 0
    assert "/quit" in outcome.out


@pytest.mark.parametrize("parts", [False, True])
def test_old_turns_are_forgotten_where_the_window_is_full(
    parts: bool, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compile_tiny(tmp_path, "seats", parts=parts)
    outcome = talk(command, done, monkeypatch, *["How often? " * 30] * 6)
    assert outcome.code == 0
    assert "the first turns are left out" in outcome.err


def test_answers_of_a_conversation_cite_their_place(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = compile_tiny(tmp_path, "seats", parts=True)
    outcome = talk(command, done, monkeypatch, QUESTIONS[0], "And the tower?")
    assert outcome.code == 0
    assert outcome.err.count("(p. ") == 2
