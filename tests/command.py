"""Run the real command line in this process, as its user sees it."""

import io
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from d2l.commands import main as cli


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@dataclass(frozen=True)
class Outcome:
    """What a command left behind: exit code, standard output and standard error."""

    code: int
    out: str
    err: str


def make_once(made: Path, place: Path, make: Callable[[], None]) -> None:
    """Fill a test's folder with `make`, once, and with a copy from the folder `made` from then on.

    `made` lies in a folder of the module's own; times of files stay as they are.
    """
    if made.is_dir():
        shutil.copytree(made, place, dirs_exist_ok=True)
    else:
        make()
        shutil.copytree(place, made)


class Command:
    """Calls `d2l` with arguments; a fixture in tests/conftest.py makes one for a test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Outcome:
        """Run one command of `d2l`; anything but an exit is a bug and is raised."""
        return self.run(cli.main, "d2l", *arguments)

    def t2l(self, *arguments: object) -> Outcome:
        """Run one command of `t2l`."""
        return self.run(cli.t2l, "t2l", *arguments)

    def run(self, main: Callable[[], None], name: str, *arguments: object) -> Outcome:
        """Run one command of a program."""
        self._monkeypatch.setattr("sys.argv", [name, *map(str, arguments)])
        self._capsys.readouterr()
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with pytest.raises(SystemExit) as stopped:
                main()
        finally:
            signal.signal(signal.SIGTERM, handler)
        captured = self._capsys.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return Outcome(code, captured.out, captured.err)
