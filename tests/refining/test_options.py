"""Times and steps of refining, as users write them."""

import pytest

from d2l.errors import OptionError
from d2l.hypernets.options import CompileOptions
from d2l.refining.options import RefineOptions, choose_refining, describe_time, parse_time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("2m", 120), ("1h", 3600), ("1.5m", 90), ("45", 45), (" 2 M ", 120)],
)
def test_times_are_read(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "2 minutes", "-3m", "m", "2d", "1e3", "nan"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="is not a time") as caught:
        parse_time(text)
    assert "2m" in str(caught.value.hint)


@pytest.mark.parametrize("values", [{}, {"seconds": 0.0}, {"seconds": float("inf")}, {"steps": 0}])
def test_refining_that_never_begins_or_ends_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(OptionError):
        RefineOptions(**values)  # type: ignore[arg-type]


def test_wishes_become_options() -> None:
    assert choose_refining(None, None) is None
    assert choose_refining("2m", None) == RefineOptions(seconds=120)
    assert choose_refining(90, 7) == RefineOptions(seconds=90, steps=7)
    options = CompileOptions().changed(refine="30s")
    assert options.refine == 30
    assert options.changed().refine == options.refine
    assert CompileOptions().changed().refine is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(45.2, "45 s"), (118, "1 m 58 s"), (120, "2 m"), (3700, "61 m 40 s")]
)
def test_times_are_said_in_minutes(seconds: float, text: str) -> None:
    assert describe_time(seconds) == text


def test_options_say_when_they_end() -> None:
    assert RefineOptions(seconds=120).describe() == "2 m"
    assert RefineOptions(seconds=30, steps=40).describe() == "40 steps or 30 s"
