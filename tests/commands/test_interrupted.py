"""An interrupted command: it ends with the signal's exit code, says so, and leaves nothing."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import tiny
from tests.processes import make_environment, run_python

NOTHING = "stopped; nothing was written\n"


def check_stops(program: str, said: str = NOTHING) -> None:
    """Run Python code in a process of its own, which an interruption ends."""
    done = run_python("-c", program)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", said)


@pytest.mark.parametrize(
    "error", ["D2LError('no module')", "RuntimeError('no name')", "SystemExit(0)"]
)
def test_an_interruption_that_became_something_else_is_one(error: str) -> None:
    program = f"""
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
from d2l.commands import main
from d2l.errors import D2LError

def lose(*_):
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise {error}

main._call = lose
main.main()
"""
    check_stops(program)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("None", "written before: a, b, c and 1 more"),
        ("'the same command goes on'", "the same command goes on"),
    ],
)
def test_an_interrupted_command_says_what_it_leaves(text: str, said: str, tmp_path: Path) -> None:
    """Its cache, which nobody asked for, is not told."""
    program = f"""
import os, signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it
from pathlib import Path
from d2l.commands import console, main
from d2l.files.atomic import write_file

def work(*_):
    console.set_stopping({text})
    for name in ("cache/entry", "a", "b", "c", "d"):
        write_file(Path(name), Path.touch)
    signal.raise_signal(signal.SIGINT)

os.chdir({str(tmp_path)!r})
os.environ["D2L_CACHE_DIR"] = "cache"
main._call = work
main.main()
"""
    check_stops(program, f"stopped; {said}\n")


@pytest.mark.parametrize("name", ["d2l", "t2l"])
def test_an_interruption_during_imports_ends_the_program(name: str) -> None:
    program = f"""
import builtins
real = builtins.__import__

def interrupted(name, *rest):
    if name.startswith("typer"):
        raise KeyboardInterrupt
    return real(name, *rest)

builtins.__import__ = interrupted
from d2l.commands.entry import {name}
{name}()
"""
    check_stops(program)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_command_leaves_nothing_behind(
    working_folder: Path, number: signal.Signals, code: int
) -> None:
    place = working_folder
    tiny.write_base(place / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(place / "seats")
    (place / "long.txt").write_text(tiny.DOCUMENT * 100, "utf-8")  # 700 chunks
    before = sorted(place.iterdir())
    words = ("compile", "long.txt", "-o", "long.lora")
    with subprocess.Popen(
        [sys.executable, "-m", "d2l", *words, "--checkpoint", "seats", "--device", "cpu"],
        cwd=place,
        env=make_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # background jobs ignore it
    ) as child:
        while child.poll() is None and not [*place.glob("cache/parts/*/*.safetensors")]:
            time.sleep(0.02)  # until a chunk is kept
        child.send_signal(number)
        out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (code, "")
    assert err.endswith(" of 700 chunks are kept: run it again to go on\n")
    assert [path for path in sorted(place.iterdir()) if path.name != "cache"] == before


def test_an_interrupted_compilation_says_what_is_kept() -> None:
    program = """
from d2l.commands import main
from d2l.commands.compile import _count_kept

def work(*_):
    for n in _count_kept(range(17), "compiling"):
        if n == 15:
            signal.raise_signal(signal.SIGINT)

main._call = work
main.main()
"""
    check_stops(
        f"import signal{program}",
        "stopped; 15 of 17 chunks are kept: run it again to go on\n",
    )
