"""The ways of the commands through the rooms, as they are walked in a run.

A stop is a call out of the command room's own code into another room; stops in one room after each
other are one. Attributes, values that are built, and the console do not count. A climb, over
all calls of the run, is a pair of modules of which the lower one calls the higher one: that
happens only through a function or an object that was handed down, as a tokenizer that counts.
"""

import inspect
import json
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import d2l
from tests import tiny
from tests.command import Command
from tests.test_layers import FLOORS, ROOMS

pytestmark = pytest.mark.usefixtures("one_thread")

PACKAGE = Path(d2l.__file__).parent
HEIGHT = {room: height for height, floor in enumerate(FLOORS) for room in floor}
MOST_ROOMS = 6
MOST_CLIMBS = 2
NETWORK = ("--checkpoint", "seats", "--offline")


@pytest.fixture(autouse=True)
def place(working_folder: Path, command: Command) -> Path:
    """A working folder with all that the commands below need, an adapter of two notes among it."""
    tiny.write_base(working_folder / "tiny-org" / "llama-tiny", "llama")
    tiny.write_seats(working_folder / "seats", repeats=3)
    (working_folder / "a.txt").write_text(tiny.DOCUMENT)
    (working_folder / "b.txt").write_text("The valve is copper.")
    row = {"doc": tiny.DOCUMENT, "question": "Where is the pump?", "answers": ["the harbor"]}
    (working_folder / "set.jsonl").write_text(json.dumps(row) + "\n")
    done = command("compile", "a.txt", "b.txt", "-o", "both.lora", *NETWORK)
    assert done.code == 0, done.err
    return working_folder


def find_module(frame: FrameType) -> str | None:
    """The path of a frame's module below the package; None outside, and while it is imported."""
    path, code = Path(frame.f_code.co_filename), frame.f_code
    if code.co_name == "<module>" or not path.is_relative_to(PACKAGE):
        return None
    return path.relative_to(PACKAGE).as_posix()


def find_callers(frame: FrameType) -> Iterator[str]:
    above = frame.f_back
    while above is not None:
        module = find_module(above)
        if module is not None:
            yield module
        above = above.f_back


def goes_somewhere(frame: FrameType) -> bool:
    """Whether a call is of a function by its name: no attribute is read, and no value is built."""
    code = frame.f_code
    if not code.co_flags & inspect.CO_OPTIMIZED:  # the body of a class
        return False
    if code.co_name.startswith(("_", "<")) and code.co_name != "__call__":
        return False
    owner: Any = frame.f_locals.get("self")
    found = inspect.getattr_static(type(owner), code.co_name, None)
    return owner is None or found is None or inspect.isfunction(found)


class Walk:
    """Notes the stops and climbs of a command while it runs: a profiler for `sys.setprofile`."""

    def __init__(self) -> None:
        self._stops: list[str] = []
        self.climbs: set[tuple[str, str]] = set()

    def __call__(self, frame: FrameType, event: str, _argument: object) -> None:
        module = find_module(frame) if event == "call" else None
        if module is None or not goes_somewhere(frame):
            return
        room = module.split("/")[0]
        caller = next(find_callers(frame), None)
        if caller is None or room not in ROOMS:
            return
        below = caller.split("/")[0]
        if below in ROOMS and HEIGHT[room] > HEIGHT[below] and not prints(module):
            self.climbs.add((caller, module))
        own = below == "commands" and all(c.startswith("commands/") for c in find_callers(frame))
        if own and room != "commands" and not prints(caller):
            self._stops.append(room)

    @property
    def stops(self) -> list[str]:
        """Rooms in the order in which they were entered."""
        return [room for room, _ in groupby(self._stops)]


def prints(module: str) -> bool:
    return module in ("commands/console.py", "commands/streams.py")


@pytest.mark.parametrize(
    ("arguments", "work"),
    [
        (("compile", "a.txt", "-o", "a.lora", *NETWORK), "api"),
        (("edit", "both.lora", "--drop", "b.txt", "-o", "a.lora", *NETWORK), "api"),
        (("probe", "both.lora", "--qa", "set.jsonl", "--offline"), "evaluation"),
    ],
)
def test_commands_climb_little(arguments: tuple[str, ...], work: str, command: Command) -> None:
    walk = Walk()
    before = sys.getprofile()
    sys.setprofile(walk)
    try:
        done = command(*arguments)
    finally:
        sys.setprofile(before)
    assert done.code == 0, done.err
    assert work in walk.stops
    assert len({"commands", *walk.stops}) <= MOST_ROOMS, walk.stops
    assert len(walk.climbs) <= MOST_CLIMBS, sorted(walk.climbs)
