"""A command that loads says so on a terminal, before anything heavy is imported."""

import io
import logging
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from d2l.commands import console
from d2l.progress import announce, log_time
from tests import tiny
from tests.command import Terminal
from tests.processes import ROOT, make_environment
from tests.slow import slow_after

NOTE = ROOT / "tests/data/v0.1.0/seats-note.lora"
RANKS = ROOT / "tests/data/v0.1.0/docs-note.lora"
#: Stand-in for torch, whose import waits for a file, half a minute at most, and then fails.
WAITING = """
import pathlib, time
for _ in range(300):
    if pathlib.Path({go!r}).exists():
        break
    time.sleep(0.1)
raise ImportError("no torch today")
"""
COMMANDS: dict[str, tuple[object, ...]] = {
    "ask": ("ask", NOTE, "Who?"),
    "compile": ("compile", "a.txt", "-o", "a.lora"),
    "serve": ("serve", NOTE.parent),
    "merge": ("merge", RANKS, RANKS, "-o", "b.lora"),
    "edit": ("edit", NOTE, "-o", "b.lora", "--drop", "#1"),
    "check": ("check", NOTE),
    "export": ("export", NOTE, "--to", "gguf", "-o", "b.gguf"),
    "batch": ("batch", "a.txt", "--out-dir", "out"),
    "make": ("make", "Sort the words.", "-o", "c.lora"),
}
#: The line begins with its picture.
LINE = re.compile(rb"[-/|\\] (\w+)")


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:  # nobody writes to it any more
        return b""


@pytest.mark.parametrize("name", slow_after(3, *COMMANDS))
def test_a_word_comes_before_torch_is_there(name: str, tmp_path: Path) -> None:
    go = tmp_path / "go"
    (tmp_path / "slow").mkdir()
    (tmp_path / "slow/torch.py").write_text(WAITING.format(go=str(go)))
    (tmp_path / "a.txt").write_text(tiny.DOCUMENT)
    program = "t2l" if name == "make" else "d2l"
    start = f"from d2l.commands.entry import {program}; {program}()"
    paths = os.pathsep.join((str(tmp_path / "slow"), str(ROOT)))
    ours, theirs = pty.openpty()
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-c", start, *map(str, COMMANDS[name]), "--offline"],
        cwd=tmp_path,
        env=make_environment(COLUMNS="80", D2L_CACHE_DIR="cache") | {"PYTHONPATH": paths},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
    ):
        os.close(theirs)
        while data := read(ours):
            shown += data
            if LINE.search(shown):
                go.touch()
    os.close(ours)
    before, error, _ = shown.partition(b"no torch today")
    assert LINE.search(before)
    assert error
    assert b"no torch today" in shown


def pretend_terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Put a terminal behind stderr."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    return terminal


def wait_for(terminal: Terminal, text: str) -> None:
    for _ in range(2000):
        if text in terminal.getvalue():
            return
        time.sleep(0.01)
    pytest.fail(repr(terminal.getvalue()[-200:]))


def test_the_line_names_the_latest_work_and_makes_way(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = pretend_terminal(monkeypatch)
    console.begin_spinner()
    try:
        announce("loading the base\n" + "x" * 100)
        wait_for(terminal, "loading the base\\nxxx")
        assert "x" * 80 not in terminal.getvalue()  # a longer line could not be erased
        console.note("by the way")
        assert terminal.getvalue().endswith("\x1b[2Kby the way\n")
        console.stream("an answer")  # its line is not ended: nothing may stand there
        length = len(terminal.getvalue())
        announce("loading another")
        time.sleep(0.3)
        assert len(terminal.getvalue()) == length
        console.stream(" of mine\n")
        announce("answering")
        wait_for(terminal, "answering")
    finally:
        console.end_spinner()
    assert terminal.getvalue().endswith("\x1b[2K")
    assert capsys.readouterr().out == "an answer of mine\n"


def test_quiet_commands_and_those_off_a_terminal_have_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = pretend_terminal(monkeypatch)
    console.begin_spinner()
    announce("starting")
    wait_for(terminal, "starting")
    console.set_level(console.Level.QUIET)
    shown = terminal.getvalue()
    time.sleep(0.3)
    assert terminal.getvalue() == shown
    console.set_level(console.Level.USUAL)
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    console.begin_spinner()
    announce("loading")
    time.sleep(0.1)
    assert sys.stderr.getvalue() == ""  # type: ignore[attr-defined]


def test_off_a_terminal_verbose_commands_name_work_as_it_begins_and_when_it_is_done(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.set_level(console.Level.VERBOSE)
    announce("loading the base")
    with log_time(logging.getLogger("d2l.test"), "loaded %s", "it"):
        pass
    console.set_level(console.Level.USUAL)
    first, second = capsys.readouterr().err.splitlines()
    assert first.endswith(" s  loading the base")
    assert "loaded it (0.00 s)" in second


def test_progress_stands_in_the_line_and_only_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = pretend_terminal(monkeypatch)
    console.begin_spinner()
    for number in console.watch([1, 2, 3], "working"):
        wait_for(terminal, f" working: {number - 1} of 3")
    steps = console.ProgressBar("reading")
    wait_for(terminal, " reading")
    steps(1, 2, "reading page 7")
    wait_for(terminal, " reading page 7: 1 of 2")
    console.end_spinner()
    assert "about 0 s left" in terminal.getvalue()
    assert capsys.readouterr().out == ""
