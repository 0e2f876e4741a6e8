"""Adapters of a batch whose names change with their neighbors."""

from pathlib import Path

import pytest

from tests.batch.test_batch import N_DOCUMENTS, words
from tests.batch.test_batch import place as place
from tests.command import Command

pytestmark = [pytest.mark.usefixtures("one_thread"), pytest.mark.slow]


def test_an_adapter_follows_the_name_a_neighbor_changes(place: Path, command: Command) -> None:
    """And back when the neighbor has gone; none stays under its old name."""
    docs, many = place / "docs", place / "many"
    batch = ("batch", "docs", *words())
    assert command(*batch).code == 0
    expected = {path.name for path in many.glob("*.lora")}
    inode = (many / "0.lora").stat().st_ino
    (docs / "0.md").write_text("The lantern hangs in the mill.", "utf-8")
    done = command(*batch)
    assert (done.code, f"1 made, {N_DOCUMENTS} unchanged" in done.out) == (0, True)
    assert "0.lora is called 0.txt.lora now" in done.err
    names = {path.name for path in many.glob("*.lora")}
    assert names == expected - {"0.lora"} | {"0.txt.lora", "0.md.lora"}
    (docs / "0.md").unlink()
    (many / "0.md.lora").rename(many / "mine.lora")
    assert command(*batch).code == 0
    assert {path.name for path in many.glob("*.lora")} == expected | {"mine.lora"}
    assert (many / "0.lora").stat().st_ino == inode


def test_what_results_do_not_know_is_not_moved(place: Path, command: Command) -> None:
    assert command("batch", "docs/0.txt", *words()).code == 0
    (place / "many" / "0.lora" / "d2l.lock").write_text("{}", "utf-8")
    (place / "docs" / "0.md").write_text("The lantern hangs in the mill.", "utf-8")
    assert command("batch", "docs/0.txt", "docs/0.md", *words()).code == 0
    names = {path.name for path in (place / "many").glob("*.lora")}
    assert names == {"0.lora", "0.txt.lora", "0.md.lora"}
