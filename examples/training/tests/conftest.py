"""Fixtures of d2l's own tests, and the command line of d2l-lab."""

import pytest

from d2l_lab.commands.main import main
from examples.training.tests.toy import Lab
from tests.asking import judge
from tests.command import Command
from tests.conftest import *  # noqa: F403


@pytest.fixture
def lab(command: Command) -> Lab:
    """The command line of d2l-lab, called in this process."""
    return lambda *arguments: command.run(main, "d2l-lab", *arguments)


@pytest.fixture(autouse=True)
def tiny_networks_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Networks of random weights are certain of nothing, and yet asked."""
    judge(monkeypatch, most_silent=2.0)
