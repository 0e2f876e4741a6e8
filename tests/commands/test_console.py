"""What is printed where: results on stdout, the rest on stderr, nothing moving off a terminal."""

import io
import sys

import pytest

from d2l.commands import console
from d2l.errors import D2LError


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_errors_and_remarks_go_to_stderr_and_results_to_stdout(
    capsys: pytest.CaptureFixture[str],
) -> None:
    console.show_error(D2LError("it is broken", hint="mend it"))
    console.show_error(D2LError("no way out"))
    console.warn("careful")
    console.note("by the way")
    console.result("done")
    console.result_json({"answer": "Grüße", "n": 1})
    captured = capsys.readouterr()
    assert captured.err == (
        "error: it is broken\nhint: mend it\nerror: no way out\nwarning: careful\nby the way\n"
    )
    assert captured.out == 'done\n{"answer": "Grüße", "n": 1}\n'


def test_no_progress_is_drawn_where_stderr_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(console.watch([1, 2, 3], "working")) == [1, 2, 3]
    with console.Steps("reading") as steps:
        steps(1, 2)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_progress_is_drawn_on_a_terminal_and_only_on_stderr(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert list(console.watch([1, 2, 3], "working")) == [1, 2, 3]
    with console.Steps("reading") as steps:
        steps(1, 2)
    assert "working" in terminal.getvalue()
    assert "reading" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_bars_are_scaled_to_the_longest(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_bars("norms", [("a", 2.0), ("bc", 1.0), ("d", 0.0)], width=4)
    assert capsys.readouterr().out == ("norms\n  a   ████  2\n  bc  ██··  1\n  d   ····  0\n")
    console.show_bars("none", [("a", 0.0)], width=4)
    assert capsys.readouterr().out == "none\n  a  ····  0\n"


def test_tables_are_as_wide_as_their_content(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_table(("name", "n"), [("long name", "1"), ("b", "22")])
    assert capsys.readouterr().out.splitlines() == [
        "name        n",
        "──────────────",
        "long name   1",
        "b           22",
    ]
