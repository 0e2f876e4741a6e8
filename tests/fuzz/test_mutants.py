"""Some mutated adapters through the commands; `python -m tests.fuzz.mutants` tries them all."""

from collections.abc import Callable
from pathlib import Path

import pytest

from d2l.adapters import patterns
from tests.compiled import PEFT_DEPRECATION, Compiled
from tests.fuzz.mutants import list_mutants, run, try_command

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.filterwarnings(PEFT_DEPRECATION)]


def test_every_file_has_mutants_and_few_are_alike(compiled: Callable[[str], Compiled]) -> None:
    adapter = compiled("seats").adapter
    mutants = list(list_mutants(adapter))
    assert {path.name for path in adapter.iterdir()} == {mutant.file for mutant in mutants}
    assert len({(mutant.file, mutant.data) for mutant in mutants}) > 0.8 * len(mutants)


@pytest.mark.slow
def test_mutated_parts_are_a_line_or_a_result(tmp_path: Path) -> None:
    cases, failures = run(tmp_path, every=5, parts=True)
    assert failures == []
    assert min(cases.values()) >= 9


@pytest.mark.slow
def test_mutated_adapters_give_lines_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first mutant has a pattern without end, which every command waits for.
    monkeypatch.setattr(patterns, "LIMITS", patterns.LIMITS._replace(seconds=1.0))
    cases, failures = run(tmp_path, every=1300)
    assert failures == []
    assert min(cases.values()) >= 3


def test_what_commands_must_not_do_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["inspect", str(tmp_path)]
    assert try_command("inspect", words, 20.0) is None  # one line: it is no adapter
    monkeypatch.setattr("d2l.commands.main.console.show_error", lambda _: print("\x1b[2J"))  # noqa: T201
    assert try_command("inspect", words, 20.0) == "prints '\\x1b'"
    monkeypatch.setattr("d2l.commands.adapters.read_info", lambda _: [][1])
    found = try_command("inspect", words, 20.0)
    assert found is not None
    assert found.startswith("IndexError in ")
