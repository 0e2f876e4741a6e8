"""What a run shows while it runs: how far it is, and how long it still takes."""

import io
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from d2l.commands.training_view import Row, TrainingView, describe, make_table, show_time
from d2l.training.learners.recipes import Recipe
from d2l.training.recipe_files import read_recipe
from tests.recipes import write_recipe


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return read_recipe(write_recipe(tmp_path / "a.toml", steps=100))


def make_rows(first: int, last: int) -> list[Row]:
    """Steps of two seconds, of a loss that is a hundredth of the step."""
    return [
        {"step": n, "chunks": 1, "loss": n / 100, "gradient": 1.0, "rate": 5e-4, "seconds": 2.0 * n}
        for n in range(first, last + 1)
    ]


def test_the_time_left_follows_from_the_last_steps(recipe: Recipe) -> None:
    assert describe(make_rows(31, 40), recipe) == ("step 40 of 100, 0.5 steps a second, 2 min left")
    by_hours = replace(recipe, steps=0, hours=1.0)  # 3,600 s, of which 80 are gone
    assert describe(make_rows(31, 40), by_hours) == "step 40, 0.5 steps a second, 59 min left"
    both = replace(recipe, hours=0.03)  # 108 s
    assert describe(make_rows(31, 40), both).endswith("28 s left")
    assert describe(make_rows(1, 1), recipe) == "step 1 of 100, 0.5 steps a second, 3 min left"
    assert [show_time(n) for n in (-5, 89, 90, 5399, 5400)] == [
        "0 s",
        "89 s",
        "2 min",
        "90 min",
        "1.5 h",
    ]


def test_the_table_shows_the_last_steps_and_their_mean(recipe: Recipe) -> None:
    rows = make_rows(1, 10)
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as captured:
        console.print(make_table(rows, describe(rows, recipe)))
    lines = captured.get().splitlines()
    cells = [line.split() for line in lines]
    assert ["10", "1", "0.1", "1", "0.0005"] in cells
    assert ["4", "1", "0.04", "1", "0.0005"] not in cells
    assert ["mean", "of", "10", "0.055", "1"] in cells
    assert "step 10 of 100, 0.5 steps a second, 3 min left" in captured.get()


def test_without_a_terminal_there_is_a_line_a_minute(
    recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clock stands in for waiting: ten seconds a step."""
    now = 0.0
    with TrainingView(recipe, clock=lambda: now) as view:
        for row in make_rows(1, 13):
            now += 10.0
            view(row)
    assert capsys.readouterr().err.splitlines() == [
        "step 6 of 100, 0.5 steps a second, 3 min left, loss 0.035",
        "step 12 of 100, 0.5 steps a second, 3 min left, loss 0.065",
    ]


def test_an_interruption_is_kept_during_steps_and_ends_at_once_before(recipe: Recipe) -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with TrainingView(recipe) as view:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(SystemExit, match="143"):
            signal.raise_signal(signal.SIGTERM)
        assert not view.stopping()
        signal.raise_signal(signal.SIGTERM)
        assert view.stopping()
        assert view.stopped_by == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
