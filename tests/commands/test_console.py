"""What is printed where: results on stdout, the rest on stderr, nothing moving off a terminal."""

import json
import logging
import math
import re
from types import SimpleNamespace

import pytest

from d2l.commands import console
from d2l.errors import D2LError
from d2l.progress import TOLD, log_time


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


HOSTILE = "a\x1b[2J\x9b31m\u202eb\x07\rc\udcff\u2067\u2028d\u2029"
SPELLED = r"a\x1b[2J\x9b31m\u202eb\x07\x0dc\udcff\u2067\u2028d\u2029"


def test_strangers_text_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_error(D2LError(f"{HOSTILE}\nerror: more", hint=HOSTILE))
    console.warn(HOSTILE)
    console.note(HOSTILE)
    console.result(f"é\t{HOSTILE}\n日本")
    console.stream(HOSTILE)
    console.result("")
    console.show_rows([("name", f"{HOSTILE}\nb")])
    console.show_table(("file",), [[f"[red]{HOSTILE}[/link]\n"]])
    captured = capsys.readouterr()
    assert captured.err == (
        f"error: {SPELLED}\\nerror: more\nhint: {SPELLED}\nwarning: {SPELLED}\n{SPELLED}\n"
    )
    assert captured.out == (
        f"é\t{SPELLED}\n日本\n{SPELLED}\nname  {SPELLED}\\nb\n"
        f"file\n{'─' * (len(SPELLED) + 14)}\n[red]{SPELLED}[/link]\\n\n"
    )


def test_json_is_json_and_steers_no_terminal_either(capsys: pytest.CaptureFixture[str]) -> None:
    values = {"text": HOSTILE, "rows": [(math.nan, 1.5), {"deep": -math.inf}], "n": 10**400}

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    console.result_json(values)
    printed = capsys.readouterr().out
    assert printed.rstrip("\n").isprintable()
    read = json.loads(printed, parse_constant=refuse)
    assert read == {"text": HOSTILE, "rows": [[None, 1.5], {"deep": None}], "n": 10**400}


def test_no_progress_is_drawn_where_stderr_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert list(console.watch([1, 2, 3], "working")) == [1, 2, 3]
    steps = console.ProgressBar("reading")
    steps(1, 2)
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_lines_about_strangers_files_are_not_endless(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_error(D2LError(f"base '{'a' * 100_000}': not found", hint="b" * 100_000))
    console.warn("c" * 100_000)
    console.show_rows([("base", "d" * 100_000)])
    printed = capsys.readouterr()
    first, *rest = printed.err.splitlines() + printed.out.splitlines()
    assert first.startswith("error: base 'aaa")
    assert first.endswith("aaa': not found")
    assert max(map(len, [first, *rest])) < 6_100


def test_tables_are_as_wide_as_their_content(capsys: pytest.CaptureFixture[str]) -> None:
    console.show_table(("name", "n"), [("long name", "1"), ("b", "22")])
    assert capsys.readouterr().out.splitlines() == [
        "name        n",
        "──────────────",
        "long name   1",
        "b           22",
    ]


def test_long_work_says_now_and_then_how_far_it_is_where_stderr_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = iter(range(0, 1000, 8))  # a step of work takes 8 seconds
    monkeypatch.setattr("d2l.commands.console.time.monotonic", lambda: next(clock))
    list(console.watch(range(8), "asking"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "asking: 1 of 8, about 56 s left"
    assert len(lines) < 8  # not at every step
    pattern = r"asking: [1-7] of 8, about (\d m )?\d+ s left"
    assert all(re.fullmatch(pattern, line) for line in lines)
    steps = console.ProgressBar("reading")
    for done in range(3, 9):
        steps(done, 9, "page")  # goes on where something was stopped before
    assert "page: 4 of 9, about 40 s left\n" in capsys.readouterr().err
    steps = console.ProgressBar("loading")
    for _ in range(4):
        steps(0, 6)  # before the first step is done no time can be told
    assert "loading: 0 of 6\n" in capsys.readouterr().err


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that a test sets."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr("d2l.commands.console.time.monotonic", lambda: clock.now)
    return clock


def run_chunks(clock: SimpleNamespace, *seconds: float, hint: str = "") -> None:
    """Read chunks in so many seconds each, as a base of nine layers does."""
    for length in console.watch(seconds, "compiling", hint):
        for layer in range(1, 10):
            clock.now += length / 10
            TOLD.get()(layer, 9)
        clock.now += length / 10


def test_long_work_tells_within_ten_seconds_how_long_it_takes(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run_chunks(clock, 40, 40, 40)
    first, *lines = capsys.readouterr().err.splitlines()
    assert first == "compiling: 0 of 3, about 1 m 52 s left"  # after 8 seconds
    assert lines[:2] == [
        "compiling: 0 of 3, about 1 m 32 s left",
        "compiling: 1 of 3, about 1 m 12 s left",
    ]
    run_chunks(clock, *[1] * 25)
    assert "compiling" not in capsys.readouterr().err.partition("compiling: 2")[0]
    run_chunks(clock, *[1] * 15)
    assert capsys.readouterr().err == ""


def test_cached_chunks_say_nothing_of_the_pace(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run_chunks(clock, *[0.01] * 30, *[10] * 10)
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "compiling: 30 of 40, about 1 m 35 s left"


def test_a_phase_is_timed_from_its_own_first_step(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = console.ProgressBar("fetching")
    for now, done, label in (
        (0, 0, "wheel"),
        (100, 0, "joining"),  # 100 s say nothing about it
        (110, 2, "joining"),
        (125, 5, "joining"),
        (130, 5, "checking"),
        (140, 6, "checking"),
        (150, 0, "checking"),  # another one
        (160, 5, "checking"),
    ):
        clock.now = now
        steps(done, 10, label)
    assert capsys.readouterr().err.splitlines() == [
        "joining: 2 of 10, about 40 s left",
        "checking: 6 of 10, about 40 s left",
    ]


def test_a_long_time_brings_one_hint(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    run_chunks(clock, *[20] * 10, hint="take less")
    assert "hint" not in capsys.readouterr().err
    run_chunks(clock, *[20] * 30, hint="take less")
    first, second, *lines = capsys.readouterr().err.splitlines()
    assert first == "compiling: 0 of 30, about 9 m 54 s left"
    assert second == "hint: take less"
    assert "hint: take less" not in lines


def test_steps_of_a_room_have_a_line_of_their_own(
    clock: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    console.listen()
    told = TOLD.get()
    for done in range(4):
        told(done * 100, 900, "unpacking a.gguf")
        told(3, 9)  # of nothing that is watched
        clock.now += 6
    assert capsys.readouterr().err == "unpacking a.gguf: 100 of 900, about 48 s left\n"
    assert list(console.watch([1], "working")) == [1]
    assert TOLD.get() == told


def test_levels_change_what_is_said_beside_the_result(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logger = logging.getLogger("d2l.some.room")

    def say() -> tuple[str, str]:
        console.warn("odd")
        console.note("by the way")
        console.result("the result")
        console.show_error(D2LError("wrong", hint="do this"))
        with log_time(logger, "loaded %s", "the base\nfrom there"):
            pass
        return capsys.readouterr()

    usual = "warning: odd\nby the way\nerror: wrong\nhint: do this\n"
    try:
        assert say() == ("the result\n", usual)
        console.set_level(console.Level.QUIET)
        assert say() == ("the result\n", "warning: odd\nerror: wrong\nhint: do this\n")
        console.set_level(console.Level.VERBOSE)
        out, err = say()
        assert (out, err[: len(usual)]) == ("the result\n", usual)
        assert re.fullmatch(
            r" +0\.0 s  loaded the base\\nfrom there \(0\.00 s\)\n", err[len(usual) :]
        )
    finally:
        console.set_level(console.Level.USUAL)
    assert say() == ("the result\n", usual)
