import fcntl
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from d2l.files.leftovers import open_workshop, recover
from tests.files.test_atomic import fill, list_all

BACK = "{}: was being replaced when the process was killed; the old one is back"


@pytest.fixture(scope="module")
def dead_pid() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(parent: Path, name: str, pid: int, role: str, text: str = "x") -> Path:
    """What a killed process leaves for NAME."""
    return fill(parent / f".{name}.{pid}.abcd_123.{role}", text)


def test_what_was_moved_aside_comes_back_with_a_line(
    dead_pid: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    leave(tmp_path, "out", dead_pid, "old", "old")
    leave(tmp_path, "out", dead_pid, "new", "new")
    leave(tmp_path, "out", dead_pid, "gone", "half")
    with caplog.at_level(logging.WARNING):
        recover(tmp_path / "out")
        recover(tmp_path / "out")
    assert list_all(tmp_path) == {"out": None, "out/mark": "old"}
    assert [record.getMessage() for record in caplog.records] == [BACK.format(tmp_path / "out")]


def test_what_stands_at_the_place_is_left_and_left_overs_go(
    dead_pid: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path / "out", "there")
    for role in ("old", "new", "gone"):
        leave(tmp_path, "out", dead_pid, role)
    recover(tmp_path / "out")
    assert list_all(tmp_path) == {"out": None, "out/mark": "there"}
    assert not caplog.records


def test_those_of_living_processes_and_of_other_paths_stay(dead_pid: int, tmp_path: Path) -> None:
    kept = [
        leave(tmp_path, "out", os.getpid(), "new"),  # made a moment ago, by one that lives
        leave(tmp_path, "out", os.getpid(), "old"),
        leave(tmp_path, "other", dead_pid, "old"),
        leave(tmp_path, "out.2", dead_pid, "old"),
        fill(tmp_path / ".out.old", "a name of the user's own"),
    ]
    locked = leave(tmp_path, "out", dead_pid, "new")
    handle = os.open(locked, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        recover(tmp_path / "out")
        assert locked.exists()  # another container's: its number says nothing here
    finally:
        os.close(handle)
    assert all(path.exists() for path in kept)
    assert not (tmp_path / "out").exists()
    recover(tmp_path / "out")
    assert not locked.exists()


def test_a_number_that_was_given_out_again_does_not_keep_a_left_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = leave(tmp_path, "out", os.getpid(), "old", "old")
    now = left.stat().st_ctime
    monkeypatch.setattr("time.time", lambda: now + 30)
    recover(tmp_path / "out")
    assert left.exists()
    monkeypatch.setattr("time.time", lambda: now + 90)
    recover(tmp_path / "out")
    assert list_all(tmp_path) == {"out": None, "out/mark": "old"}


def test_a_workshop_is_hidden_names_its_process_and_is_locked(tmp_path: Path) -> None:
    with open_workshop(tmp_path / ("long " * 30)) as (new, _):
        (new / "mark").write_text("x")
        assert new.name.startswith(".long ")
        assert f".{os.getpid()}." in new.name
        recover(tmp_path / ("long " * 30))
        assert (new / "mark").exists()
        handle = os.open(new, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(handle)
    assert list_all(tmp_path) == {}


def test_long_names_with_one_beginning_are_told_apart(dead_pid: int, tmp_path: Path) -> None:
    first, second = tmp_path / ("n" * 60 + "1"), tmp_path / ("n" * 60 + "2")
    with open_workshop(first) as (new, _):
        hidden = new.name.replace(str(os.getpid()), str(dead_pid))
    fill((tmp_path / hidden).with_suffix(".old"), "first")
    recover(second)
    assert not second.exists()
    recover(first)
    assert (first / "mark").read_text() == "first"
