"""How long an adapter is refined: a time or a number of steps, as values. Needs no torch."""

import math
import re
from dataclasses import dataclass

from d2l.errors import OptionError

_TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(s|m|h|)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600}
_HINT = "write a time such as 30s, 2m or 1h"


@dataclass(frozen=True)
class RefineOptions:
    """Refining ends after `seconds`, or after `steps`, whichever comes first, and in any case when
    everything that there is to drill was drilled a few times. `seed` decides what is held out and
    what is drilled. For the same steps, threads and seed the outcome is the same.
    """

    seconds: float | None = None
    steps: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.seconds is None and self.steps is None:
            raise OptionError("refining would never end", hint="give a time or a number of steps")
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise OptionError(f"refining for {self.seconds} s cannot be", hint=_HINT)
        if self.steps is not None and self.steps < 1:
            raise OptionError(f"refining takes {self.steps} steps, expected 1 or more")

    def describe(self) -> str:
        """For people: "2 m", "40 steps"."""
        parts = [] if self.steps is None else [f"{self.steps:,} steps"]
        parts += [] if self.seconds is None else [describe_time(self.seconds)]
        return " or ".join(parts)


def choose_refining(time: str | float | None, steps: int | None) -> RefineOptions | None:
    """The options of a time ("2m", or seconds) and a number of steps; None where neither is given.
    Raises OptionError."""
    if time is None and steps is None:
        return None
    return RefineOptions(parse_time(time) if isinstance(time, str) else time, steps)


def parse_time(text: str) -> float:
    """Seconds of "90", "30s", "2m" or "1.5h"; raises OptionError."""
    match = _TIME.fullmatch(text.strip().lower())
    if match is None:
        raise OptionError(f"{text!r} is not a time", hint=_HINT)
    return float(match[1]) * _UNITS[match[2]]


def describe_time(seconds: float) -> str:
    """ "45 s", "1 m 58 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} m {rest} s" if rest else f"{minutes} m"
