"""The short version of `tests/tools/kill_writes.py`: processes are killed while they write."""

import sys

import pytest

from tests.processes import run_python
from tests.tools.kill_writes import TRIALS


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")
def test_nothing_is_lost_where_writers_are_killed_or_the_disk_is_full() -> None:
    done = run_python("-m", "tests.tools.kill_writes", "--repetitions", "8", "--seed", "5")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(": ")[0] for line in lines] == list(TRIALS)
    assert all("8 repetitions, nothing lost" in line for line in lines)


@pytest.mark.skipif(sys.platform == "win32", reason="forks and kills")
def test_a_kill_between_the_two_renames_loses_nothing() -> None:
    name = "adapter, between the two renames"
    done = run_python("-m", "tests.tools.kill_writes", name, "--repetitions", "5")
    assert done.stdout.startswith(f"{name}: 5 repetitions, nothing lost: killed 5, old 5 (")
