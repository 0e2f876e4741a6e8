"""How long an adapter is refined, and what came of it in one line. Needs no torch."""

import math
from dataclasses import dataclass

from d2l.adapters.provenance import Refinement
from d2l.errors import OptionError
from d2l.hypernets.options import TIME_HINT, parse_time

#: What to do about an adapter with parts.
PARTS_HINT = "compile single pages, or all of it with --no-parts, and refine that"


@dataclass(frozen=True)
class RefineOptions:
    """Refining ends after `seconds` or after `steps`, whichever comes first, and earlier when every
    question was drilled a few times. `seed` decides what is drilled and what is held out. The same
    steps, threads and seed give the same adapter. With `compare_lora` examples are drilled into an
    empty LoRA, too, in as many steps, to compare with.
    """

    seconds: float | None = None
    steps: int | None = None
    seed: int = 0
    compare_lora: bool = False

    def __post_init__(self) -> None:
        if self.seconds is None and self.steps is None:
            raise OptionError("refining would never end", hint="give a time or a number of steps")
        if self.seconds is not None and not (math.isfinite(self.seconds) and self.seconds > 0):
            raise OptionError(f"refining cannot take {self.seconds} s", hint=TIME_HINT)
        if self.steps is not None and self.steps < 1:
            raise OptionError(f"refining takes {self.steps} steps, expected 1 or more")

    def describe(self) -> str:
        """For people: "2 m", "40 steps"."""
        parts = [] if self.steps is None else [f"{self.steps:,} steps"]
        parts += [] if self.seconds is None else [describe_time(self.seconds)]
        return " or ".join(parts)


def choose_refining(time: str | float | None, steps: int | None) -> RefineOptions | None:
    """Options from a time ("2m", or seconds) and a number of steps; None without either. Raises
    OptionError."""
    if time is None and steps is None:
        return None
    return RefineOptions(parse_time(time) if isinstance(time, str) else time, steps)


def describe_time(seconds: float) -> str:
    """ "45 s", "1 m 58 s"."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{rest} s"
    return f"{minutes} m {rest} s" if rest else f"{minutes} m"


def describe_refinement(done: Refinement) -> str:
    """One line for people: steps and scores, or why nothing changed."""
    if done.reason is not None:
        return done.reason
    if not done.steps or done.recall is None or done.harm is None:
        return "Nothing changed: there was no time for a step. Try a longer --refine."
    before, after = done.recall
    calm, harm = done.harm
    kept = "" if done.kept else "; nothing changed, since no step made it better"
    drilled = "" if done.drilled is None else "drilled ones {:.2f} → {:.2f}, ".format(*done.drilled)
    beside = ""
    if done.empty_lora is not None:
        beside = "; an empty LoRA in as many steps {:.2f} → {:.2f}".format(*done.empty_lora)
    away = " from those of a seat for every token" if done.taught else ""
    return (
        f"{done.steps:,} steps; answers held out {before:.2f} → {after:.2f} nats{away}, {drilled}"
        f"general prompts {calm:.2f} → {harm:.2f}{kept}{beside}"
    )
