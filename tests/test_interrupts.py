"""An interruption is heeded although what its handler raised was lost."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from d2l import interrupts
from d2l.files.atomic import building, write_file
from tests.processes import run_python

#: A callback in which Python ignores what is raised, interrupted; then work of a minute.
IGNORED = """
import signal, time, weakref
from d2l import interrupts

class Thing: pass

def interrupted(_):
    signal.raise_signal(signal.{name})
    for _ in range(9): pass

signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
with interrupts.listening():
    thing = Thing()
    reference = weakref.ref(thing, interrupted)
    del thing
    try:
        for _ in range(600): time.sleep(0.1)
    except {error} as raised:
        print("heeded", interrupts.last_signal(), *raised.args)
"""


@pytest.fixture
def _lost() -> Iterator[None]:
    """An interruption whose exception went nowhere."""
    with interrupts.listening():
        with contextlib.suppress(KeyboardInterrupt):
            interrupts.end(signal.SIGINT)
        yield


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [("SIGINT", "KeyboardInterrupt", "heeded 2"), ("SIGTERM", "SystemExit", "heeded 15 143")],
)
def test_what_python_ignores_is_raised_again(name: str, error: str, said: str) -> None:
    program = IGNORED.format(name=name, error=error)
    done = run_python("-c", program)
    assert (done.stdout.strip(), done.stderr) == (said, "")


def test_other_things_that_python_ignores_are_told() -> None:
    program = IGNORED.format(name="SIGINT", error="KeyboardInterrupt").replace(
        "signal.raise_signal(signal.SIGINT)", "raise ValueError('odd')"
    )
    done = run_python("-c", program.replace("range(600)", "range(0)"))
    assert (done.returncode, "ValueError: odd" in done.stderr) == (0, True)


@pytest.mark.usefixtures("_lost")
def test_nothing_takes_its_place_after_an_interruption(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "file", lambda target: target.write_text("whole"))
    with pytest.raises(KeyboardInterrupt), building(tmp_path / "folder") as folder:
        (folder / "file").write_text("whole")
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("_lost")
def test_whoever_answers_an_interruption_goes_on(tmp_path: Path) -> None:
    interrupts.clear()
    interrupts.check()
    write_file(tmp_path / "file", lambda target: target.write_text("whole"))
    assert (tmp_path / "file").read_text() == "whole"


def test_a_program_that_does_not_listen_is_left_alone(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
    with contextlib.suppress(SystemExit), interrupts.listening():
        interrupts.end(signal.SIGTERM)
    with contextlib.suppress(KeyboardInterrupt):
        interrupts.end(signal.SIGINT)
    assert interrupts.last_signal() is None
    write_file(tmp_path / "file", lambda target: target.write_text("whole"))
    after = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), sys.unraisablehook
    assert after == before
